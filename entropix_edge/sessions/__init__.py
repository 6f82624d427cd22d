"""More than one reply: candidates that vote, and the answers in them."""

from .answers import check_extractor, extract, right
from .candidates import Deliberation, Vote, VotingConfig, lead_is_safe

__all__ = ["Deliberation", "Vote", "VotingConfig", "check_extractor", "extract", "lead_is_safe", "right"]
