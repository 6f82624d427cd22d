"""The filters, the draw, the choice of a token, and the pause tokens."""

from .choose import Chooser, Prediction, leading
from .draw import draw, survivors
from .pause import Tokenizer, resolve_pause

__all__ = ["Chooser", "Prediction", "Tokenizer", "draw", "leading", "resolve_pause", "survivors"]
