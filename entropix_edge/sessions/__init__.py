"""More than one reply: conversations, and candidates that vote."""

from .candidates import LEAD, WAVE, Deliberation, Vote, VotingConfig
from .conversation import Conversation, PendingTurn
from .turns import SavedConversation, Turn, as_messages, as_texts

__all__ = [
    "LEAD",
    "WAVE",
    "Conversation",
    "Deliberation",
    "PendingTurn",
    "SavedConversation",
    "Turn",
    "Vote",
    "VotingConfig",
    "as_messages",
    "as_texts",
]
