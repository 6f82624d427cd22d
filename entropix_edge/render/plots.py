"""Pictures by matplotlib: traces, calibrations, evaluations. Imported where one is drawn."""

from __future__ import annotations

import io
import math
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import ScalarFormatter

from ..errors import ConfigError
from ..strategy import THRESHOLDS, describe_table
from ..types import BranchEvent, Metrics, Strategy, TokenEvent
from .plots_data import Accuracy, Quantiles, reliability, risk_coverage
from .terminal import MEANINGS, visible
from .trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes

    from .plots_data import Judged

    Named = Sequence[tuple[str, Any]]
    Part = tuple[float, Callable[[Axes], None]]

# Okabe and Ito's colours, which those who see fewer colours can tell apart; the markers differ too.
_COLOURS = {
    Strategy.ARGMAX: "#009e73",
    Strategy.ADAPTIVE: "#e69f00",
    Strategy.BRANCH: "#0072b2",
    Strategy.PAUSE: "#cc79a7",
    Strategy.RESAMPLE: "#d55e00",
}
_MARKERS = {
    Strategy.ARGMAX: "o",
    Strategy.ADAPTIVE: "s",
    Strategy.BRANCH: "^",
    Strategy.PAUSE: "_",
    Strategy.RESAMPLE: "D",
}
_LEAST = 0.01  # bits and bits²: where the plane's axes begin
_FARTHEST = {"entropy": 20.0, "varentropy": 100.0}
_TEXT = 32  # characters of a branch
_FORKS = 12  # that a tree shows
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "entropix-edge",
}


def picture(sources: Named, form: str, chart: str | None = None) -> bytes:
    """Sources of one kind as one picture.

    Args:
        sources: names, and what they hold: a `Trace`, a list of `Accuracy`, the `Judged` of policies, or `Quantiles`.
        form: `svg`, `png` or `pdf`.
        chart: one of the charts of that kind; None for all.

    Raises:
        ConfigError: there is no such chart of these.
    """
    charts = _charts(sources)
    if chart is not None and chart not in charts:
        raise ConfigError(f"chart {chart!r} is not known here: it must be one of {', '.join(charts)}")
    drawn = charts[chart] if chart else [part for parts in charts.values() for part in parts]
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a font has not every script: a box is drawn
        figure = Figure(figsize=(8, sum(height for height, _draw in drawn)), layout="constrained")
        grid = figure.subplots(len(drawn), 1, squeeze=False, height_ratios=[height for height, _draw in drawn])
        for axes, (_height, draw) in zip(grid[:, 0], drawn, strict=True):
            draw(axes)
        target = io.BytesIO()
        dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
        figure.savefig(target, format=form, dpi=150, metadata=dates.get(form))
    return target.getvalue()


def _charts(sources: Named) -> dict[str, list[Part]]:
    """What can be drawn of the sources: for each chart its parts, each with its height in inches."""
    first = sources[0][1]
    if isinstance(first, Trace):
        plane: Part = (5.0, lambda axes: _planes(axes, sources))
        if len(sources) > 1:
            return {"plane": [plane]}
        timeline: list[Part] = [
            (2.6, lambda axes: _entropies(axes, first)),
            (1.6, lambda axes: _varentropies(axes, first)),
        ]
        forks = _forks(first)
        tree: Part = (1.0 + 0.24 * sum(map(len, forks)), lambda axes: _tree(axes, forks, first))
        return {"timeline": timeline, "plane": [plane]} | ({"tree": [tree]} if forks else {})
    if isinstance(first, Quantiles):
        return {"quantiles": [(4.5, lambda axes: _quantiles(axes, sources))]}
    if isinstance(first, dict):
        return {
            "reliability": [(4.5, lambda axes: _reliability(axes, sources))],
            "risk": [(3.6, lambda axes: _risk(axes, sources))],
        }
    return {"accuracy": [(4.5, lambda axes: _accuracy(axes, sources))]}


def _plain(text: str) -> str:
    """A stranger's text in a picture: control characters are shown, and dollar signs begin no formula."""
    return visible(text).replace("$", r"\$")


# --- traces -------------------------------------------------------------------------------------------


def _tokens(trace: Trace) -> list[tuple[TokenEvent, Metrics]]:
    return [(token, token.metrics) for token in trace.tokens if token.token_id is not None and token.metrics]


def _entropies(axes: Axes, trace: Trace) -> None:
    """Entropy, and below it a ribbon with a row a strategy."""
    measured = _tokens(trace)
    axes.set_title(f"entropy, what was done, varentropy{_of(trace)}", loc="left")
    _curve(axes, trace, "entropy")
    top = axes.get_ylim()[1]
    row = top * 0.08
    for number, strategy in enumerate(_COLOURS, 1):
        at = [(token.index - 0.5, 1.0) for token, _metrics in measured if token.strategy is strategy]
        axes.broken_barh(at, (-number * row, row * 0.9), color=_COLOURS[strategy])
        place = axes.get_yaxis_transform()
        axes.text(1.01, (0.5 - number) * row, MEANINGS[strategy], fontsize=7, va="center", transform=place)
    axes.set_ylim(-(len(_COLOURS) + 0.2) * row, top)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top])
    axes.set_ylabel("H, bits")


def _varentropies(axes: Axes, trace: Trace) -> None:
    _curve(axes, trace, "varentropy")
    axes.set(xlabel="token", ylabel="V, bits²")


def _curve(axes: Axes, trace: Trace, metric: str) -> None:
    """One metric of each token, with the thresholds that are near."""
    measured = _tokens(trace)
    values = [getattr(metrics, metric) for _token, metrics in measured]
    axes.plot([token.index for token, _metrics in measured], values, color="#222222", lw=1)
    top = 1.05 * max([*values, 1.0])
    for key, value in _thresholds(trace).items():
        if f".{metric}_" in key and value <= top:
            axes.axhline(value, color=_COLOURS[Strategy(key.partition(".")[0])], lw=0.8, ls=":")
    axes.set_ylim(0, top)
    axes.margins(x=0.01)


def _of(trace: Trace) -> str:
    model = trace.header.get("model")
    return f", {_plain(str(model))}" if model else ""


def _thresholds(trace: Trace) -> dict[str, float]:
    """Those of the trace's preset; none where it does not have them all."""
    preset = trace.header.get("preset")
    found: dict[str, float] = {}
    for key in THRESHOLDS:
        section, name = key.split(".")
        rule = preset.get(section) if isinstance(preset, dict) else None
        value = rule.get(name) if isinstance(rule, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return {}
        found[key] = float(value)
    return found


def _planes(axes: Axes, sources: Named) -> None:
    """Entropy against varentropy, of one trace by strategy, of several by trace, over the first one's quadrants."""
    thresholds = _thresholds(sources[0][1])
    if thresholds:
        _quadrants(axes, thresholds)
    axes.set(xscale="log", yscale="log", xlim=(_LEAST, _FARTHEST["entropy"]), ylim=(_LEAST, _FARTHEST["varentropy"]))
    axes.set(xlabel="entropy H, bits", ylabel="varentropy V, bits²")
    if len(sources) > 1:
        for number, (name, trace) in enumerate(sources):
            _scatter(axes, [metrics for _token, metrics in _tokens(trace)], f"C{number}", "o", _plain(name))
    else:
        trace = sources[0][1]
        for strategy in _COLOURS:
            own = [metrics for token, metrics in _tokens(trace) if token.strategy is strategy]
            if own:
                label = f"{MEANINGS[strategy]} ({len(own)})"
                _scatter(axes, own, _COLOURS[strategy], _MARKERS[strategy], label)
        axes.set_title(f"tokens and quadrants{_of(trace)}", loc="left")
    axes.legend(loc="lower right", fontsize=8)


def _scatter(axes: Axes, metrics: Sequence[Metrics], colour: str, marker: str, label: str) -> None:
    x = [max(each.entropy, _LEAST) for each in metrics]
    y = [max(each.varentropy, _LEAST) for each in metrics]
    axes.scatter(x, y, s=16, color=colour, marker=marker, alpha=0.7, linewidths=0.8, label=label)


def _quadrants(axes: Axes, thresholds: Mapping[str, float]) -> None:
    """A rectangle for each cell that the thresholds cut the plane into, in the colour of what is done there."""
    edges = {}
    for metric, most in _FARTHEST.items():
        inside = {value for key, value in thresholds.items() if f".{metric}_" in key and _LEAST < value < most}
        edges[metric] = [_LEAST, *sorted(inside), most]
    columns, rows = edges["entropy"], edges["varentropy"]
    for left, right in pairwise(columns):
        for low, high in pairwise(rows):
            strategy = _verdict(math.sqrt(left * right), math.sqrt(low * high), thresholds)
            axes.add_patch(Rectangle((left, low), right - left, high - low, color=_COLOURS[strategy], alpha=0.12, lw=0))


def _verdict(entropy: float, varentropy: float, thresholds: Mapping[str, float]) -> Strategy:
    metrics = {"entropy": entropy, "varentropy": varentropy}
    table = describe_table()
    for rule in table["rules"]:
        sides = [(metrics[each["metric"]] - thresholds[each["threshold"]], each["is"]) for each in rule["conditions"]]
        if all(over < 0 if side == "below" else over > 0 for over, side in sides):
            return Strategy(rule["strategy"])
    return Strategy(table["otherwise"])


def _forks(trace: Trace) -> list[list[BranchEvent]]:
    found: dict[int, list[BranchEvent]] = {}
    for event in trace.events:
        if isinstance(event, BranchEvent):
            found.setdefault(event.index, []).append(event)
    return [*found.values()][:_FORKS]


def _tree(axes: Axes, forks: Sequence[Sequence[BranchEvent]], trace: Trace) -> None:
    """The reply as a trunk, and at each fork its branches with their scores."""
    axes.set_title(f"forks{_of(trace)}", loc="left")
    axes.axis("off")
    row = 0
    for fork in forks:
        axes.text(-0.02, row, f"token {fork[0].index}", ha="right", va="center", fontsize=8)
        for branch in sorted(fork, key=lambda each: -each.score):
            colour = _COLOURS[Strategy.BRANCH] if branch.kept else "#999999"
            axes.plot([0, 0.06], [row, row], color=colour, lw=2.5 if branch.kept else 1, clip_on=False)
            text = _plain(branch.text.replace("\n", "⏎"))
            shown = text if len(text) <= _TEXT else f"{text[:_TEXT]}…"
            told = f"{shown}   {branch.score:.2f}{'  kept' if branch.kept else ''}"
            axes.text(0.08, row, told, va="center", fontsize=8, color="#222222" if branch.kept else "#666666")
            row += 1
        axes.plot([0, 0], [row - len(fork), row], color=_COLOURS[Strategy.BRANCH], lw=1)
    axes.set(xlim=(-0.2, 1), ylim=(row, -1))


# --- evaluations --------------------------------------------------------------------------------------


def _accuracy(axes: Axes, sources: Named) -> None:
    """Accuracy against cost, with intervals."""
    rows: list[Accuracy] = [row for _name, each in sources for row in each]
    for number, row in enumerate(rows):
        share, low, high = (100 * value for value in (row.share, row.low, row.high))
        bars = [[share - low], [high - share]]
        label = f"{_plain(row.policy)} ({row.problems})"
        axes.errorbar([row.cost], [share], yerr=bars, fmt="o", color=f"C{number}", capsize=3, label=label)
    axes.set(xlabel="decoded tokens an answer", ylabel="right, %")
    if max(row.cost for row in rows) > 4 * min(row.cost for row in rows):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(ScalarFormatter())
    axes.legend(fontsize=8, loc="best")
    axes.margins(x=0.15)
    axes.set_title("accuracy against cost, with 95 % intervals (problems)", loc="left")


def _reliability(axes: Axes, sources: Named) -> None:
    """How often replies are right, by how sure the model was."""
    axes.plot([0, 1], [0, 1], color="#999999", ls=":", lw=1)
    for label, judged in _policies(sources):
        bins = reliability(judged)
        x, y = [mean for mean, _share, _count in bins], [share for _mean, share, _count in bins]
        axes.plot(x, y, marker="o", ms=4, label=f"{label} ({len(judged)})")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="2 to the power of minus the mean entropy", ylabel="share that is right")
    axes.set_title("reliability: bins of equally many replies", loc="left")
    axes.legend(fontsize=8)


def _risk(axes: Axes, sources: Named) -> None:
    """How often the surest replies are wrong, as more are answered."""
    for label, judged in _policies(sources):
        points = risk_coverage(judged)
        axes.plot([coverage for coverage, _risk in points], [risk for _coverage, risk in points], label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="coverage: share answered, the surest first", ylabel="risk: share wrong")
    axes.set_title("risk against coverage", loc="left")
    axes.legend(fontsize=8)


def _policies(sources: Named) -> list[tuple[str, Sequence[Judged]]]:
    several = len(sources) > 1
    return [
        (f"{_plain(name)}: {policy}" if several else policy, judged)
        for name, each in sources
        for policy, judged in each.items()
    ]


def _quantiles(axes: Axes, sources: Named) -> None:
    """What share of a model's tokens lies below a value."""
    several = len(sources) > 1
    for name, each in sources:
        for quantity, values in each.deciles.items():
            label = f"{_plain(name)}: {quantity}" if several else quantity
            axes.plot([max(value, _LEAST) for value in values], each.percents, marker="o", ms=3, label=label)
    if not several:
        for key, value in sources[0][1].thresholds.items():
            colour = _COLOURS[Strategy(key.partition(".")[0])]
            axes.axvline(max(value, _LEAST), color=colour, lw=0.8, ls=":" if ".entropy" in key else "--")
            axes.text(max(value, _LEAST), 98, key, rotation=90, fontsize=6, va="top", ha="right", color=colour)
    axes.set(xscale="log", ylim=(0, 100), xlabel="bits, bits²", ylabel="tokens below, %")
    axes.set_title("quantiles of a calibration", loc="left")
    axes.legend(fontsize=8)
