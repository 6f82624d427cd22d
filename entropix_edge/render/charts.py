"""What evaluations and calibrations found, drawn: each function draws one chart into axes that `canvas` made."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .canvas import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes

    Array = npt.NDArray[np.float64]
    Interval = tuple[float, float, float]

_DIM = "0.7"
_MARKERS = "os^v"  # after ten series their colours come again
_RIGHT = "share of right answers"


class Point(NamedTuple):
    """One way to answer: what it costs, and how often it is right.

    Attributes:
        series: what it belongs to; the points of a series are joined.
        label: written beside it; none where it is empty.
        cost: in the unit of the axis.
        accuracy: from 0 to 1: value, low, high.
    """

    series: str
    label: str
    cost: float
    accuracy: Interval


def accuracy(axes: Axes, points: Sequence[Point]) -> None:
    """Accuracy against what it costs, with intervals."""
    _points(axes, points)
    axes.set(xlabel="tokens decoded a problem", ylabel=_RIGHT)
    axes.set_xlim(left=0)


def gains(axes: Axes, points: Sequence[Point], baseline: str) -> None:
    """What is gained over one way to answer, with intervals, against how many times its tokens that costs.

    Args:
        axes: to draw into.
        points: gains from −1 to 1, costs in multiples of the baseline's.
        baseline: its name.
    """
    axes.plot([1], [0], "o", color="0.3", markersize=5, label=shown(baseline, 40))
    axes.axhline(0, color=_DIM, linewidth=1, zorder=0)
    in_percent = [
        point._replace(accuracy=(100 * value, 100 * low, 100 * high))
        for point in points
        for value, low, high in [point.accuracy]
    ]
    _points(axes, in_percent, "policy (problems)")
    axes.set(xlabel=f"tokens decoded, × {shown(baseline, 40)}", ylabel="right answers gained, percentage points")
    axes.set_xlim(left=0)


def _points(axes: Axes, points: Sequence[Point], title: str = "") -> None:
    """Each series in a colour and a shape of its own, its points joined and labelled; a legend with a title."""
    for number, series in enumerate(dict.fromkeys(point.series for point in points)):
        own = [point for point in points if point.series == series]
        _with_intervals(
            axes,
            [point.cost for point in own],
            [point.accuracy for point in own],
            f"C{number % 10}",
            shown(series, 40),
            _MARKERS[number // 10 % len(_MARKERS)],
        )
        for point in own:
            axes.annotate(
                shown(point.label, 40), (point.cost, point.accuracy[0]), (4, 4), textcoords="offset points", fontsize=7
            )
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), title=title, fontsize=8, borderaxespad=0)


def reliability(axes: Axes, rows: Array, intervals: Sequence[Interval]) -> None:
    """How often answers are right that were given some probability.

    Args:
        axes: to draw into.
        rows: shape (bins, 3): mean probability, share of right answers, how many.
        intervals: of each bin's share of right answers.
    """
    axes.plot([0, 1], [0, 1], color=_DIM, linewidth=1)
    _with_intervals(axes, rows[:, 0], intervals, "C0")
    axes.set(xlabel="probability that is given", ylabel=_RIGHT, xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"Reliability: {rows[:, 2].sum():.0f} answers in {len(rows)} bins")


def coverage(axes: Axes, covered: Array, intervals: Sequence[Interval]) -> None:
    """How many answers are right when only the surest are given.

    Args:
        axes: to draw into.
        covered: shape (answers, 2): the share that is given, the share of those that is right; rising coverage.
        intervals: of each share of right answers.
    """
    everywhere = covered[-1, 1]
    _values, low, high = np.array(intervals, np.float64).T
    axes.fill_between(covered[:, 0], low, high, color="C0", alpha=0.15, linewidth=0, label="95 % interval")
    axes.plot(covered[:, 0], covered[:, 1], color="C0", label="the surest")
    axes.axhline(everywhere, color=_DIM, linewidth=1, label="at random")
    axes.plot(covered[:, 0], np.minimum(1, everywhere / covered[:, 0]), color=_DIM, linestyle=":", label="if it knew")
    axes.set(xlabel="share of questions answered", ylabel=_RIGHT, xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title("Risk and coverage")
    axes.legend(fontsize=8)


def escalation(axes: Axes, cost: Sequence[float], accuracy: Sequence[Interval]) -> None:
    """What asking a second model for the least sure answers gives and costs, from none to all.

    Args:
        axes: to draw into.
        cost: seconds a problem, rising.
        accuracy: the shares of right answers.
    """
    first, last = accuracy[0][0], accuracy[-1][0]
    axes.plot([cost[0], cost[-1]], [first, last], color=_DIM, linewidth=1, label="at random")
    _with_intervals(axes, cost, accuracy, "C0", "where it is least sure")
    axes.set(xlabel="seconds a problem, of both models", ylabel=_RIGHT, title="Escalation")
    axes.legend(fontsize=8, loc="lower right")


def quantiles(axes: Axes, percentages: Sequence[int], values: Mapping[str, Sequence[float]], unit: str) -> None:
    """What a share of the measurements lies below.

    Args:
        axes: to draw into.
        percentages: of the measurements.
        values: by name, what so many lie below.
        unit: of the values.
    """
    for number, (name, row) in enumerate(values.items()):
        axes.plot(percentages, row, "o-", color=f"C{number % 10}", markersize=3, label=shown(name))
    axes.set(xlabel="% that lie below", ylabel=unit, xlim=(0, 100))
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, loc="upper left")


def thresholds(axes: Axes, limits: Mapping[str, float]) -> None:
    """Thresholds as lines across quantiles, each with its name."""
    for key, value in limits.items():
        axes.axhline(value, color=_DIM, linewidth=0.8, linestyle="--", zorder=0)
        place = (1, value)
        axes.annotate(f" {key} {value:.3g}", place, xycoords=axes.get_yaxis_transform(), va="center", fontsize=7)


def _with_intervals(
    axes: Axes, places: npt.ArrayLike, intervals: Sequence[Interval], colour: str, label: str = "", marker: str = "o"
) -> None:
    values, low, high = np.array(intervals, np.float64).T
    order = np.argsort(np.asarray(places, np.float64), kind="stable")
    spread = np.maximum([values - low, high - values], 0)[:, order]
    axes.errorbar(
        np.asarray(places, np.float64)[order], values[order], spread, fmt=f"{marker}-", color=colour, markersize=4,
        linewidth=1, elinewidth=0.8, capsize=2, label=label or None,
    )  # fmt: skip
