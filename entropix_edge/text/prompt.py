"""Messages to the text that a model was trained to answer.

A GGUF's chat template is a program from a stranger. It runs in Jinja's immutable sandbox, which keeps it
from Python's objects, with bounds on what it may build.
"""

from __future__ import annotations

import json
import re
import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict

from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..errors import PromptError, TemplateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LONGEST = 16_000_000  # characters a template may produce
_LARGEST_NUMBER = 10**9
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
        self._mark = f"\ue000{secrets.token_hex(8)}\ue001"

    def mark(self, messages: list[Message]) -> list[Message]:
        """The messages with every control-token text put between marks."""
        if self._pattern is None:
            return messages
        pattern, mark = self._pattern, self._mark
        return [
            {"role": m["role"], "content": pattern.sub(lambda found: f"{mark}{found[0]}{mark}", m["content"])}
            for m in messages
        ]

    def split(self, text: str) -> list[tuple[str, bool]]:
        """Parts of a rendered prompt, each with whether control tokens may be read in it."""
        parts = text.split(self._mark)
        return [(part, index % 2 == 0) for index, part in enumerate(parts) if part]


# --- the template ---------------------------------------------------------------------------------


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with the operators that could exhaust memory bounded."""

    intercepted_binops = frozenset(["*", "**", "%"])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for sequence, times in ((left, right), (right, left)):
                repeats = isinstance(sequence, (str, list, tuple)) and isinstance(times, int)
                if repeats and len(sequence) * times > _LONGEST:
                    raise SecurityError("it builds a value that is too long")
        elif operator == "**" and not (abs(left) <= _LARGEST_NUMBER and abs(right) <= 64):
            raise SecurityError("it raises a number to too high a power")
        elif operator == "%" and isinstance(left, str) and re.search(r"\d{5}|\*", left):
            raise SecurityError("it formats a value that is too long")
        return super().call_binop(context, operator, left, right)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(f"the model's chat template refuses these messages: {message}")


def _to_json(value: Any, indent: int | None = None, **_options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _environment() -> _Environment:
    environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
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
        except (JinjaError, RecursionError) as error:
            raise TemplateError(f"the model's chat template does not parse: {_line(error)}; use --raw") from error

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt for these messages, ready for the assistant's answer.

        Raises:
            TemplateError: the template failed, refused the messages, or did what is forbidden.
        """
        pieces: list[str] = []
        length = 0
        try:
            for piece in self._template.generate(messages=list(messages), add_generation_prompt=True, **self._special):
                length += len(piece)
                if length > _LONGEST:
                    raise SecurityError("its text has no end")
                pieces.append(piece)
        except TemplateError:
            raise
        except Exception as error:  # a template can raise whatever its expressions can
            raise TemplateError(f"the model's chat template failed: {_line(error)}; use --raw") from error
        return "".join(pieces)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
