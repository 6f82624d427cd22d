"""Chat templates into prompts, token bytes into text, stop strings."""

from .messages import ControlText, Message, as_messages, clean
from .renderer import Renderer
from .stream import TextStream
from .template import ChatTemplate

__all__ = ["ChatTemplate", "ControlText", "Message", "Renderer", "TextStream", "as_messages", "clean"]
