"""A trace's timeline as lines for a terminal: entropy and varentropy as bars, and the strategies between them."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from ..types import BranchEvent, CorrectionEvent, RejectedEvent, RewindEvent, Strategy
from .steps import CORRECTED, steps, thresholds_of
from .terminal import CORRECTED as CORRECTED_STYLE
from .terminal import MEANINGS, STYLES, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.text import Text

    from .steps import Step
    from .trace import Trace

_BARS = " ▁▂▃▄▅▆▇█"
_PLAIN_BARS = "  ..::###"
_LETTERS = {
    Strategy.ARGMAX: ".",
    Strategy.ADAPTIVE: "~",
    Strategy.BRANCH: "b",
    Strategy.PAUSE: "p",
    Strategy.RESAMPLE: "r",
    CORRECTED: "c",
}
_STYLES: Mapping[str, str] = {**{each.value: style for each, style in STYLES.items()}, CORRECTED: CORRECTED_STYLE}
_MEANINGS: Mapping[str, str] = {**{each.value: meaning for each, meaning in MEANINGS.items()}, CORRECTED: CORRECTED}
_MARGIN = 6  # columns for the numbers at the left
_LEAST_COLUMNS = 10
_HEIGHTS = {"entropy": 6, "varentropy": 4}  # lines
_LEAST_SCALE = {"entropy": 4.0, "varentropy": 12.0}
_UNITS = {"entropy": "H", "varentropy": "V"}


class _Column(NamedTuple):
    """Some tokens that share a column of the terminal."""

    entropy: float
    varentropy: float
    what: str


def timeline(trace: Trace, name: str, width: int, *, plain: bool = False) -> Text:
    """The timeline of a trace, in lines of at most so many columns (at least 16).

    Where there are more tokens than columns, each column shows the greatest entropy and varentropy of its tokens, and
    what was done where the entropy was greatest.

    Args:
        trace: of a reply.
        name: what errors call it.
        width: of the terminal.
        plain: in ASCII.

    Raises:
        ConfigError: the trace has no token.
    """
    from rich.text import Text

    known = steps(trace, name)
    room = max(width - _MARGIN, _LEAST_COLUMNS)
    each = math.ceil(len(known) / room)
    columns = [_column(known[start : start + each]) for start in range(0, len(known), each)]
    limits = thresholds_of(trace.header)
    text = Text()
    _bars(text, columns, "entropy", limits, plain=plain)
    text.append(" " * _MARGIN)
    for column in columns:
        text.append(_LETTERS[column.what], _STYLES[column.what])
    text.append("\n")
    _bars(text, columns, "varentropy", limits, plain=plain)
    last = str(len(known) - 1)
    text.append(" " * _MARGIN + "0" + last.rjust(len(columns) - 1) + "\n" if len(columns) > len(last) else "", "dim")
    _say(text, trace, known, each, width)
    return text


def _column(tokens: Sequence[Step]) -> _Column:
    unsure = max(tokens, key=lambda step: -1 if math.isnan(step.entropy) else step.entropy)
    return _Column(_most(step.entropy for step in tokens), _most(step.varentropy for step in tokens), unsure.what)


def _most(values: Iterable[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _bars(text: Text, columns: Sequence[_Column], name: str, limits: Mapping[str, float], *, plain: bool) -> None:
    """Bars from the top line to the bottom one, with the thresholds as dotted lines behind them."""
    values = [getattr(column, name) for column in columns]
    height = _HEIGHTS[name]
    most = max(_LEAST_SCALE[name], *(0.0 if math.isnan(value) else value for value in values))
    lines = {min(int(value / most * height), height - 1): value for value in _borders(limits, name) if value <= most}
    bars = _PLAIN_BARS if plain else _BARS
    for line in reversed(range(height)):
        label = f"{most:.0f}" if line == height - 1 else ""
        label = f"{lines[line]:.1f}" if line in lines else label
        unit = _UNITS[name] if line == height - 1 else " "
        text.append(f"{unit}{label:>{_MARGIN - 2}} ", "dim")
        behind = ("-" if plain else "┄") if line in lines else " "
        for column, value in zip(columns, values, strict=True):
            eighths = 0 if math.isnan(value) else round(8 * min(max(value / most * height - line, 0.0), 1.0))
            bar = bars[eighths].strip()
            text.append(bar or behind, _STYLES[column.what] if bar else "dim")
        text.append("\n")


def _borders(limits: Mapping[str, float], name: str) -> list[float]:
    return [value for key, value in limits.items() if key.split(".")[1].startswith(name)]


def _say(text: Text, trace: Trace, known: Sequence[Step], each: int, width: int) -> None:
    """What the signs mean, how many tokens each stands for, and what else happened, in lines that fit."""
    counts = Counter(step.what for step in known)
    parts = [(f"{len(known)} token{'s' if len(known) > 1 else ''}", "")]
    if each > 1:
        parts.append((f"{each} a column", ""))
    for what, letter in _LETTERS.items():
        if counts[what]:
            share = 100 * counts[what] / len(known)
            parts.append((f"{letter} {_MEANINGS[what]} {share:.0f} %", _STYLES[what]))
    parts += [(each, "dim") for each in _happened(trace)]
    used = 0
    for part, style in parts:
        if used and used + 3 + len(part) > width:
            text.append("\n")
            used = 0
        elif used:
            text.append("   ")
            used += 3
        text.append(part, style)
        used += len(part)


def _happened(trace: Trace) -> list[str]:
    """How often the reply forked, was rewound, was corrected; how it ended."""
    forks = len({event.index for event in trace.events if isinstance(event, BranchEvent)})
    counts = Counter(type(event) for event in trace.events)
    named = [
        (forks, "fork", "forks"),
        (counts[RewindEvent], "rewind", "rewinds"),
        (counts[RejectedEvent], "rejected draw", "rejected draws"),
        (counts[CorrectionEvent], "correction", "corrections"),
    ]
    said = [f"{count} {one if count == 1 else several}" for count, one, several in named if count]
    finish = next((token.finish_reason for token in reversed(trace.tokens) if token.finish_reason), None)
    return [*said, *([f"end: {visible(finish)}"] if finish else []), *(["cut short"] if trace.cut else [])]
