"""The table: metrics → strategy → action."""

from .presets import (
    THRESHOLDS,
    load_fitted,
    load_preset,
    options_help,
    override,
    preset_names,
    read_fitted,
    read_preset,
)
from .table import classify, plan, reads_attention

__all__ = [
    "THRESHOLDS",
    "classify",
    "load_fitted",
    "load_preset",
    "options_help",
    "override",
    "plan",
    "preset_names",
    "read_fitted",
    "read_preset",
    "reads_attention",
]
