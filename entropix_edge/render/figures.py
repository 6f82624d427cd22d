"""Traces as figures: the timeline, the plane of entropy and varentropy, the tree of branches."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ConfigError
from ..types import (
    BranchEvent,
    CandidateEvent,
    CorrectionEvent,
    Origin,
    RejectedEvent,
    RewindEvent,
    Strategy,
    TokenEvent,
)
from .canvas import COLOURS, new_axes, new_figure, shown
from .steps import CORRECTED, steps, thresholds_of
from .terminal import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .steps import Step
    from .trace import Trace

_ROWS = (*(strategy.value for strategy in Strategy), CORRECTED)
_NAMES = {**{strategy.value: f"{strategy.value}, {MEANINGS[strategy]}" for strategy in Strategy}, CORRECTED: CORRECTED}
_LETTERS = {"entropy": "H, bits", "varentropy": "V, bits²"}
_MARKERS = "o^sDvPX*"
_DIM = "#6b7479"
_MOST_LINES = 300  # of a tree


# --- the timeline -------------------------------------------------------------------------------------


def timeline(trace: Trace, name: str) -> Figure:
    """Entropy and varentropy token by token, between them what was done, with the thresholds. Only within `drawing`.

    Raises:
        ConfigError: the trace has no token.
    """
    known = steps(trace, name)
    figure = new_figure(9, 4.6)
    upper, ribbon, lower = figure.subplots(3, 1, sharex=True, height_ratios=(4, 2, 3))
    limits = thresholds_of(trace.header)
    for axes, quantity in ((upper, "entropy"), (lower, "varentropy")):
        places, values = [step.place for step in known], [getattr(step, quantity) for step in known]
        axes.plot(places, values, color="#30383c", linewidth=0.9)
        axes.set_ylabel(_LETTERS[quantity])
        axes.set_ylim(bottom=0)
        _limits(axes, limits, quantity)
    _ribbon(ribbon, known)
    _events(upper, trace)
    upper.set_title(shown(name), loc="left")
    upper.set_xlim(-0.5, max(known[-1].place, 1) + 0.5)
    lower.set_xlabel("token" + (" (the trace was cut short)" if trace.cut else ""))
    return figure


def _limits(axes: Axes, limits: Mapping[str, float], quantity: str) -> None:
    """The thresholds as lines, each named at its right end; names that would overlap are left out."""
    top = axes.get_ylim()[1]
    last = -math.inf
    for key, value in sorted(limits.items(), key=lambda item: item[1]):
        strategy, rule = key.split(".")
        if not rule.startswith(f"{quantity}_") or value > top:
            continue
        axes.axhline(value, color=COLOURS[strategy], linewidth=0.8, linestyle="--", zorder=0)
        if value - last > 0.08 * top:
            sign = "<" if rule.endswith("below") else ">"
            named = f" {strategy} {sign} {value:.3g}"
            axes.annotate(
                named, (1, value), xycoords=axes.get_yaxis_transform(), va="center", color=COLOURS[strategy], fontsize=7
            )
            last = value


def _ribbon(axes: Axes, known: Sequence[Step]) -> None:
    """What was done at each token, a row a strategy, so that colour is not needed."""
    for row, what in enumerate(_ROWS):
        places = [(step.place - 0.5, 1) for step in known if step.what == what]
        axes.broken_barh(places, (row + 0.1, 0.8), color=COLOURS[what])
    axes.set_yticks([row + 0.5 for row in range(len(_ROWS))], [_NAMES[what] for what in _ROWS], fontsize=7)
    axes.set_ylim(len(_ROWS), 0)
    axes.tick_params(length=0)
    for row in range(1, len(_ROWS)):
        axes.axhline(row, color="#e3e6e7", linewidth=0.5, zorder=0)


def _events(axes: Axes, trace: Trace) -> None:
    """Forks, rewinds, corrections and rejected draws as marks along the top."""
    kinds: tuple[tuple[type, str, str, str], ...] = (
        (BranchEvent, "fork", "v", COLOURS[Strategy.BRANCH.value]),
        (RewindEvent, "rewind", "<", COLOURS[Strategy.RESAMPLE.value]),
        (RejectedEvent, "rejected draw", "x", COLOURS[Strategy.RESAMPLE.value]),
        (CorrectionEvent, "correction", "P", COLOURS[CORRECTED]),
    )
    for kind, named, marker, colour in kinds:
        places = sorted({event.index for event in trace.events if isinstance(event, kind)})  # type: ignore[union-attr]
        if places:
            axes.plot(
                places, [1.02] * len(places), marker, color=colour, markersize=5, label=named, clip_on=False,
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1.02), ncols=4, fontsize=7, borderaxespad=0)


# --- the plane ----------------------------------------------------------------------------------------


def plane(traces: Sequence[tuple[str, Trace]]) -> Figure:
    """The tokens of one trace or several by entropy and varentropy, with the quadrants. Only within `drawing`.

    One trace is coloured by what was done; several are told apart by colour and marker. The quadrants are drawn where
    all have the same thresholds.

    Raises:
        ConfigError: a trace has no token.
    """
    figure, axes = new_axes(6.4, 5.0)
    if len(traces) == 1:
        known = steps(traces[0][1], traces[0][0])
        for what, marker in zip(_ROWS, _MARKERS, strict=False):
            _points(axes, [step for step in known if step.what == what], COLOURS[what], marker, _NAMES[what])
        axes.set_title(shown(traces[0][0]), loc="left")
    else:
        for number, (name, trace) in enumerate(traces):
            _points(axes, steps(trace, name), f"C{number % 10}", _MARKERS[number % len(_MARKERS)], shown(name, 40))
    axes.set_xlim(0, max(axes.get_xlim()[1], 4))
    axes.set_ylim(0, max(axes.get_ylim()[1], 12))
    limits = [thresholds_of(trace.header) for _name, trace in traces]
    if limits[0] and all(each == limits[0] for each in limits):
        _quadrants(axes, limits[0])
    axes.set(xlabel=_LETTERS["entropy"], ylabel=_LETTERS["varentropy"])
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, borderaxespad=0)
    return figure


def _points(axes: Axes, known: Sequence[Step], colour: str, marker: str, name: str) -> None:
    if known:
        places, heights = [step.entropy for step in known], [step.varentropy for step in known]
        label = f"{name} ({len(known)})"
        axes.plot(places, heights, marker, color=colour, markersize=4, alpha=0.7, markeredgewidth=0, label=label)


def _quadrants(axes: Axes, limits: Mapping[str, float]) -> None:
    """Where each strategy holds, as shaded rectangles with their names."""
    from matplotlib.patches import Rectangle

    right, top = axes.get_xlim()[1], axes.get_ylim()[1]
    for strategy in Strategy:
        if strategy is Strategy.ADAPTIVE:
            continue
        spans = {}
        for quantity, most in (("entropy", right), ("varentropy", top)):
            below = limits.get(f"{strategy.value}.{quantity}_below")
            above = limits.get(f"{strategy.value}.{quantity}_above", 0.0)
            spans[quantity] = (min(above, most), most if below is None else min(below, most))
        (left, end), (bottom, height) = spans["entropy"], spans["varentropy"]
        colour = COLOURS[strategy.value]
        axes.add_patch(Rectangle((left, bottom), end - left, height - bottom, color=colour, alpha=0.1, zorder=0, lw=0))
        if end > left and height > bottom:
            axes.text(end, height, f"{strategy.quadrant} ", color=colour, ha="right", va="top", fontsize=8)


# --- the tree -----------------------------------------------------------------------------------------


class _Line(NamedTuple):
    """A line of the tree: a piece of the reply, or what leaves it there."""

    text: str
    note: str = ""
    colour: str = _DIM
    kept: bool = True
    leaves: bool = False


def tree(trace: Trace, name: str) -> Figure:
    """The reply from top to bottom, with the branches and candidates that it might have been. Only within `drawing`.

    Raises:
        ConfigError: nothing happened at all.
    """
    lines = list(itertools.islice(_lines(trace), _MOST_LINES + 1))
    if not lines:
        raise ConfigError(f"{name} has no token: there is nothing to draw")
    if len(lines) > _MOST_LINES:
        lines[-1] = _Line(f"… and so on: only the first {_MOST_LINES} lines are drawn")
    figure, axes = new_axes(9, 0.6 + 0.24 * (len(lines) + 1))
    axes.set_axis_off()
    axes.set(xlim=(0, 100), ylim=(len(lines), -0.5))
    axes.set_title(shown(name), loc="left")
    axes.plot([1, 1], [-0.4, len(lines) - 0.6], color="#30383c", linewidth=1.2)
    for row, line in enumerate(lines):
        if line.leaves:
            style = "-" if line.kept else ":"
            axes.plot([1, 4], [row, row], color=line.colour, linewidth=2 if line.kept else 1.2, linestyle=style)
        weight = "bold" if line.leaves and line.kept else "normal"
        text, place = shown(line.text.strip(" "), 76 if line.note else 110), 5 if line.leaves else 2
        look = {"color": line.colour, "fontfamily": "monospace", "fontsize": 8, "fontweight": weight}
        axes.text(place, row, text, va="center", **look)  # type: ignore[arg-type]
        axes.text(99, row, shown(line.note), va="center", ha="right", color=line.colour, fontsize=8)
    return figure


def _lines(trace: Trace) -> Iterator[_Line]:
    """The lines of a trace's tree, in order."""
    text = ""
    for event in trace.events:
        leaf = _leaf(event)
        if leaf:
            if text:
                yield _Line(text, colour="#30383c")
                text = ""
            yield leaf
        elif isinstance(event, TokenEvent) and event.origin is not Origin.BRANCH:  # those stand in the kept branch
            text += event.text
    if text:
        yield _Line(text, colour="#30383c")


def _leaf(event: object) -> _Line | None:
    """What leaves the reply at an event; None where nothing does."""
    branch, scattered = COLOURS[Strategy.BRANCH.value], COLOURS[Strategy.RESAMPLE.value]
    match event:
        case BranchEvent():
            kept = "   kept" if event.kept else ""
            return _Line(event.text, f"score {event.score:.2f}{kept}", branch, event.kept, leaves=True)
        case CandidateEvent():
            answer = f"answer {event.answer}, " if event.answer is not None else ""
            note = f"{answer}confidence {event.confidence:.2f}{'   kept' if event.kept else ''}"
            return _Line(event.text, note, branch, event.kept, leaves=True)
        case RewindEvent():
            return _Line(event.text, "taken back", scattered, kept=False, leaves=True)
        case CorrectionEvent():
            note = f"{event.expression} = {event.right}, not {event.found}"
            return _Line(event.text, note, COLOURS[CORRECTED], kept=False, leaves=True)
        case _:
            return None
