"""How sure of a finished reply one may be: features of its tokens, and what was fitted to a model."""

from .features import SIGNS, Measured, carrying, features, measured

__all__ = ["SIGNS", "Measured", "carrying", "features", "measured"]
