"""More than one reply: conversations, candidates that vote, and the answers in them."""

from .answers import check_extractor, extract, right
from .candidates import Deliberation, Vote, VotingConfig, lead_is_safe
from .conversation import Conversation, PendingTurn
from .turns import SavedConversation, Turn

__all__ = [
    "Conversation",
    "Deliberation",
    "PendingTurn",
    "SavedConversation",
    "Turn",
    "Vote",
    "VotingConfig",
    "check_extractor",
    "extract",
    "lead_is_safe",
    "right",
]
