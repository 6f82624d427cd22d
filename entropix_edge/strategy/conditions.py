"""The table's conditions as values, for programs that judge by them elsewhere, such as the viewer in a browser."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from ..types import Strategy
from .presets import THRESHOLDS


def describe_table() -> dict[str, Any]:
    """The conditions, ready for JSON: `rules` in the order in which they are tried, and what holds `otherwise`.

    Each condition names a `metric`, on which side of a threshold it must be (`is`: `below` or `above`, strictly), and
    the `threshold` as a preset has it, such as `argmax.entropy_below`. `classify` is what they describe.
    """
    rules = [
        {"strategy": name, "quadrant": Strategy(name).quadrant, "conditions": [_condition(key) for key in keys]}
        for name, keys in groupby(THRESHOLDS, lambda key: key.partition(".")[0])
    ]
    return {"rules": rules, "otherwise": Strategy.ADAPTIVE.value}


def _condition(threshold: str) -> dict[str, str]:
    metric, _, side = threshold.partition(".")[2].rpartition("_")
    return {"metric": metric, "is": side, "threshold": threshold}
