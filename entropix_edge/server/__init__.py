"""The engine behind HTTP, in the form that OpenAI's clients know."""

from .running import Server
from .settings import DEFAULT_PORT, Settings

__all__ = ["DEFAULT_PORT", "Server", "Settings"]
