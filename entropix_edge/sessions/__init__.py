"""More than one reply: conversations, and candidates that vote."""

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
    "lead_is_safe",
]
