"""The engine: an open model that answers prompts."""

from .engine import Engine
from .fitted import Fitted
from .opening import open_context, planned_context, prepare
from .prompt import PromptTokenizer
from .reply import Reply, ReplyStream

__all__ = ["Engine", "Fitted", "PromptTokenizer", "Reply", "ReplyStream", "open_context", "planned_context", "prepare"]
