"""The table: metrics → strategy → action."""

from .conditions import describe_table
from .policy import Policy, make_policy
from .presets import (
    THRESHOLDS,
    load_fitted,
    load_preset,
    options_help,
    override,
    preset_names,
    read_fitted,
    read_preset,
    thresholds,
)
from .table import classify, constant_actions, plan, reads_attention

__all__ = [
    "THRESHOLDS",
    "Policy",
    "classify",
    "constant_actions",
    "describe_table",
    "load_fitted",
    "load_preset",
    "make_policy",
    "options_help",
    "override",
    "plan",
    "preset_names",
    "read_fitted",
    "read_preset",
    "reads_attention",
    "thresholds",
]
