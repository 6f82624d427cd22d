"""A trace as a timeline in a terminal: entropy, what was done, varentropy."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..types import Strategy
from .terminal import MEANINGS, STYLES, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from ..types import TokenEvent
    from .trace import Trace

_BLOCKS = " ▁▂▃▄▅▆▇█"
_LETTERS = {
    Strategy.ARGMAX: "·",
    Strategy.ADAPTIVE: "-",
    Strategy.BRANCH: "Y",
    Strategy.PAUSE: "…",
    Strategy.RESAMPLE: "?",
}
_MARGIN = 7
_LEAST = {"H": 4.0, "V": 12.0}  # bits, bits²: scales do not begin with less


def draw(trace: Trace, width: int) -> Text:
    """A trace's timeline, a column a token, in as many parts as the width asks for.

    Each part has its tokens' entropy (H), a sign for what was done, their varentropy (V), and the text.
    """
    from rich.text import Text

    tokens = [token for token in trace.tokens if token.token_id is not None]
    text = Text()
    if not tokens:
        return text.append("The trace has no tokens.")
    greatest = {"H": max(map(_entropy, tokens)), "V": max(map(_varentropy, tokens))}
    most = {name: max(value, _LEAST[name]) for name, value in greatest.items()}
    columns = max(width - _MARGIN, 10)
    for start in range(0, len(tokens), columns):
        part = tokens[start : start + columns]
        _row(text, f"{start:>4} H", part, [_entropy(token) / most["H"] for token in part])
        text.append(" " * _MARGIN)
        for token in part:
            text.append(_LETTERS[token.strategy] if token.strategy else " ", _style(token))
        text.append("\n")
        _row(text, "V", part, [_varentropy(token) / most["V"] for token in part])
        said = visible("".join(token.text for token in part).replace("\n", "⏎"))
        text.append(" " * _MARGIN).append(said[:columns], "dim").append("\n\n")
    text.append(_legend(tokens, most))
    return text


def _row(text: Text, label: str, tokens: Sequence[TokenEvent], shares: Sequence[float]) -> None:
    text.append(f"{label:>{_MARGIN - 1}} ", "dim")
    for token, share in zip(tokens, shares, strict=True):
        height = round(min(max(share, 0.0), 1.0) * (len(_BLOCKS) - 1))
        text.append(_BLOCKS[height], _style(token))
    text.append("\n")


def _legend(tokens: Sequence[TokenEvent], most: dict[str, float]) -> Text:
    from rich.text import Text

    counts = Counter(token.strategy for token in tokens)
    line = Text(f"{len(tokens)} tokens; a full column is H {most['H']:.1f} bits, V {most['V']:.1f} bits²\n", "dim")
    for strategy, style in STYLES.items():
        share = 100 * counts[strategy] / len(tokens)
        line.append(f"{_LETTERS[strategy]} {MEANINGS[strategy]}", style).append(f" {share:.0f} %  ", "dim")
    line.rstrip()
    return line


def _style(token: TokenEvent) -> str:
    return STYLES[token.strategy] if token.strategy else ""


def _entropy(token: TokenEvent) -> float:
    return token.metrics.entropy if token.metrics else 0.0


def _varentropy(token: TokenEvent) -> float:
    return token.metrics.varentropy if token.metrics else 0.0
