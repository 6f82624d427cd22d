"""What the plots of a trace show of each token, and the thresholds that it was generated with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConfigError
from ..strategy import THRESHOLDS
from ..types import Origin, Strategy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..types import TokenEvent
    from .trace import Trace

CORRECTED = "corrected"
_GREATEST = {"entropy": 64, "varentropy": 4096}  # bits and bits²: more than any vocabulary gives
_ROUNDING = 1e-3


class Step(NamedTuple):
    """One token.

    Attributes:
        place: its place in the reply.
        entropy: of the distribution that it was taken from, in bits; NaN where it was not measured.
        varentropy: of the same, in bits².
        what: the strategy that it counts as; `corrected` where it was put in the place of a wrong one.
    """

    place: int
    entropy: float
    varentropy: float
    what: str


def steps(trace: Trace, name: str) -> list[Step]:
    """The tokens of a trace.

    Args:
        trace: of a reply.
        name: what the error calls it.

    Raises:
        ConfigError: there is none, or a metric that cannot have been measured.
    """
    check_metrics(trace, name)
    found = [_step(token) for token in trace.tokens if token.token_id is not None]
    if not found:
        raise ConfigError(f"{name} has no token: there is nothing to draw")
    return found


def check_metrics(trace: Trace, name: str) -> None:
    """Refuse what cannot have been measured, and cannot be drawn. Infinities are drawn as nothing.

    Raises:
        ConfigError: naming the token.
    """
    for token in trace.tokens:
        for (quantity, greatest), value in zip(_GREATEST.items(), token.metrics or (), strict=False):
            if isinstance(value, float) and math.isfinite(value) and not -_ROUNDING <= value <= greatest:
                raise ConfigError(
                    f"{name}: the {quantity} of token {token.index} is {value:.3g}: it must be from 0 to {greatest}"
                )


def _step(token: TokenEvent) -> Step:
    entropy, varentropy = token.metrics[:2] if token.metrics else (math.nan, math.nan)
    strategy = token.strategy or Strategy.ADAPTIVE
    corrected = token.origin is Origin.FORCED and strategy is not Strategy.PAUSE
    return Step(token.index, _number(entropy), _number(varentropy), CORRECTED if corrected else strategy.value)


def _number(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def thresholds_of(header: Mapping[str, Any]) -> dict[str, float]:
    """The thresholds in a trace's first line, by `section.key`; none where it does not hold all of them."""
    found = {}
    for key in THRESHOLDS:
        section, name = key.split(".")
        preset = header.get("preset")
        rule = preset.get(section) if isinstance(preset, dict) else None
        value = rule.get(name) if isinstance(rule, dict) else None
        if not isinstance(value, int | float) or not math.isfinite(value):
            return {}
        found[key] = float(value)
    return found
