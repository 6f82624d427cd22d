"""The filters, the draw, and the pause tokens."""

from .draw import candidates, draw
from .pause import resolve_pause

__all__ = ["candidates", "draw", "resolve_pause"]
