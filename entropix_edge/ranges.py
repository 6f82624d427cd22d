"""Numbers of frozen dataclasses that must lie in a range."""

from __future__ import annotations

import math
import numbers
from dataclasses import field, fields
from typing import Any

from .errors import ConfigError


def within(low: float, high: float, *, weighs: str = "") -> Any:
    """A dataclass field whose value must be a number from `low` to `high`, both included.

    Args:
        low: the least.
        high: the most.
        weighs: what it is the weight of in a formula: "attention" for its metrics, "uncertainty" for entropy and
            varentropy of the logits, "" for neither.
    """
    return field(metadata={"low": low, "high": high, "weighs": weighs})


def check_number(name: str, value: object, kind: type, low: float, high: float) -> Any:
    """A value as a plain `int` or `float`, if it is a finite number of `kind` from `low` to `high`.

    numpy's numbers are taken like Python's own; True and False are not numbers here.

    Raises:
        ConfigError: naming the option, the value and the range.
    """
    expected = "a whole number" if kind is int else "a finite number" if math.isinf(high) else "a number"
    bounds = f"≥ {_plain(low)}" if math.isinf(high) else f"from {_plain(low)} to {_plain(high)}"
    allowed = numbers.Integral if kind is int else numbers.Real
    plain: Any = value
    if isinstance(value, bool) or not isinstance(value, allowed) or not low <= plain <= high or value == math.inf:
        raise ConfigError(f"{name} is {value!r}: it must be {expected} {bounds}")
    return int(plain) if isinstance(value, numbers.Integral) else float(plain)


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


class Checked:
    """Checks each ranged field of a dataclass when it is made."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            if "low" in item.metadata:
                kind = int if item.type == "int" else float
                low, high = item.metadata["low"], item.metadata["high"]
                set_number(self, item.name, kind, low, high)


def set_number(config: object, name: str, kind: type, low: float, high: float) -> None:
    """Check one field of a frozen dataclass that is being made, and keep it as a plain number."""
    object.__setattr__(config, name, check_number(name, getattr(config, name), kind, low, high))
