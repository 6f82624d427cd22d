"""More than one reply: conversations, and candidates that vote."""

from .candidates import Deliberation, Vote, VotingConfig, lead_is_safe
from .conversation import Conversation, PendingTurn
from .turns import SavedConversation, Turn, as_messages, as_texts

__all__ = [
    "Conversation",
    "Deliberation",
    "PendingTurn",
    "SavedConversation",
    "Turn",
    "Vote",
    "VotingConfig",
    "as_messages",
    "as_texts",
    "lead_is_safe",
]
