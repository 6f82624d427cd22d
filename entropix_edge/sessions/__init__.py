"""More than one reply: conversations, candidates that vote, and the answers in them."""

from .answers import Found, check_extractor, extract, locate, right
from .candidates import Deliberation, Vote, VotingConfig, lead_is_safe
from .conversation import Conversation, PendingTurn
from .turns import SavedConversation, Turn

__all__ = [
    "Conversation",
    "Deliberation",
    "Found",
    "PendingTurn",
    "SavedConversation",
    "Turn",
    "Vote",
    "VotingConfig",
    "check_extractor",
    "extract",
    "lead_is_safe",
    "locate",
    "right",
]
