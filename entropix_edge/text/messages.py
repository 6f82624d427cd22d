"""Messages, and what a user typed in them that looks like control tokens."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, TypedDict

from ..errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SURROGATE = re.compile("[\ud800-\udfff]")


class Message(TypedDict):
    """One turn of a conversation: role is `system`, `user` or `assistant`."""

    role: str
    content: str


def clean(text: str) -> str:
    """The text with lone surrogates, which have no UTF-8 form, replaced by U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


def as_messages(prompt: str | Sequence[Message], system: str | None = None) -> list[Message]:
    """A prompt as a conversation: cleaned, the system message first where one is given.

    Raises:
        PromptError: a message is malformed, or nothing is asked.
    """
    if not isinstance(prompt, (str, list, tuple)):
        raise PromptError(f"the prompt is a {type(prompt).__name__}: it must be a text or a list of messages")
    messages: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    for message in messages:
        if (
            not isinstance(message, dict)
            or set(message) != {"role", "content"}
            or not all(isinstance(value, str) for value in message.values())
        ):
            raise PromptError(
                f"message {message!r} is malformed: it must have a text `role` and a text `content`, and nothing else"
            )
    if not any(message["content"].strip() for message in messages if message["role"] != "system"):
        raise PromptError("the prompt is empty: give the text to answer")
    return [{"role": message["role"], "content": clean(message["content"])} for message in messages]


# --- control-token text that a user typed ---------------------------------------------------------


class ControlText:
    """Marks control-token text inside messages so that it is never read as control tokens.

    The marks survive the template; `split` removes them and tells which parts are plain text.
    """

    def __init__(self, control_texts: Iterable[str]) -> None:
        spellings = sorted({text for text in control_texts if text}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, spellings))) if spellings else None
        secret = secrets.randbelow(10**18)  # digits: the same in upper and lower case
        self._open, self._close = f"\ue000{secret:018}\ue001", f"\ue002{secret:018}\ue003"

    def mark(self, messages: list[Message]) -> list[Message]:
        """The messages with every control-token text put between marks."""
        if self._pattern is None:
            return messages
        pattern, before, after = self._pattern, self._open, self._close
        return [
            {"role": m["role"], "content": pattern.sub(lambda found: f"{before}{found[0]}{after}", m["content"])}
            for m in messages
        ]

    def split(self, text: str) -> list[tuple[str, bool]]:
        """Parts of a rendered prompt, each with whether control tokens may be read in it.

        Where the template cut a pair of marks apart, the other pairs still hold.
        """
        parts: list[tuple[str, bool]] = []
        allowed = True
        for part in re.split(f"({self._open}|{self._close})", text):
            if part in (self._open, self._close):
                allowed = part == self._close
            elif part:
                parts.append((part, allowed))
        return parts
