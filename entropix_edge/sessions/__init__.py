"""More than one reply: candidates that vote, and the answers in them."""

from .answers import check_extractor, extract, right
from .candidates import Deliberation, Manner, lead_is_safe

__all__ = ["Deliberation", "Manner", "check_extractor", "extract", "lead_is_safe", "right"]
