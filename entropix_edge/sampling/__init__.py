"""The filters, the draw, and the pause tokens."""

from .draw import draw, survivors
from .pause import resolve_pause

__all__ = ["draw", "resolve_pause", "survivors"]
