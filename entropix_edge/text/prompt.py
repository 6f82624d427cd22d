"""Messages to the text that a model was trained to answer.

A GGUF's chat template is a program from a stranger: it runs in a sandbox.
"""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from textwrap import shorten
from typing import TYPE_CHECKING, NoReturn, TypedDict

from ..errors import Hint, PromptError, TemplateError
from .sandbox import Sandbox, check_length, deadline

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LONGEST_REASON = 300  # characters of a template's own complaint
_RAW = Hint("use {}", "raw", "set", True)
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
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise PromptError(f"message {message!r} is malformed: it must have a text `role` and a text `content`")
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


# --- the template ---------------------------------------------------------------------------------


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(f"the model's chat template refuses these messages: {_line(message)}")


def _environment() -> Sandbox:
    environment = Sandbox()
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


class ChatTemplate:
    """A model's own chat template.

    Args:
        source: Jinja text, as the GGUF carries it.
        bos: text of the begin-of-sequence token.
        eos: text of the end-of-sequence token.

    Raises:
        TemplateError: the text is not a template.
    """

    def __init__(self, source: str, bos: str = "", eos: str = "") -> None:
        self._special = {"bos_token": bos, "eos_token": eos}
        try:
            self._template = _environment().from_string(source)
        except Exception as error:  # not every template that Jinja parses is one that Python compiles
            reason = f"the model's chat template does not parse: {_line(error)}"
            raise TemplateError(reason, hint=_RAW) from error

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt for these messages, ready for the assistant's answer.

        Raises:
            TemplateError: the template failed, refused the messages, or did what is forbidden.
        """
        pieces: list[str] = []
        try:
            with deadline():
                for piece in self._template.generate(
                    messages=list(messages), add_generation_prompt=True, **self._special
                ):
                    check_length(len(piece))
                    pieces.append(piece)
        except TemplateError:
            raise
        except Exception as error:  # a template can raise whatever its expressions can
            raise TemplateError(f"the model's chat template failed: {_line(error)}", hint=_RAW) from error
        return clean("".join(pieces))


def _line(reason: object) -> str:
    return shorten(str(reason)[: 2 * _LONGEST_REASON], _LONGEST_REASON, placeholder=" …") or type(reason).__name__
