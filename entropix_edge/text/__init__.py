"""Chat templates into prompts, token bytes into text, stop strings, answers in texts."""

from .answers import Found, check_extractor, extract, locate, right
from .kinds import YES_OR_NO, detect
from .messages import ControlText, Message, as_messages, clean
from .renderer import Renderer
from .stream import TextStream
from .template import ChatTemplate

__all__ = [
    "ChatTemplate",
    "ControlText",
    "Found",
    "Message",
    "Renderer",
    "TextStream",
    "YES_OR_NO",
    "as_messages",
    "check_extractor",
    "clean",
    "detect",
    "extract",
    "locate",
    "right",
]
