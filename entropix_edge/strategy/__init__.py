"""The table: metrics → strategy → action."""

from .config import load_preset, options_help, override, preset_names, read_preset
from .table import classify, plan

__all__ = ["classify", "load_preset", "options_help", "override", "plan", "preset_names", "read_preset"]
