"""Chat templates into prompts, token bytes into text, stop strings."""

from .prompt import ChatTemplate, ControlText, Message, as_messages, clean
from .stream import TextStream

__all__ = ["ChatTemplate", "ControlText", "Message", "TextStream", "as_messages", "clean"]
