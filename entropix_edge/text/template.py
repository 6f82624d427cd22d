"""A model's chat template: messages to the text that the model was trained to answer, and nobody's words lost.

Templates differ in what they take as a message's content (a text, or a list of parts) and many have no place for a
system message. What does not fit is left out without a word, which is found out by rendering probe words.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from ..errors import Hint, TemplateError
from .messages import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .messages import Message
    from .renderer import Renderer

    Takes = frozenset[int]  # numbers of the messages whose content is given as a list of parts

logger = logging.getLogger("entropix_edge")

_RAW = Hint("leave it out, or use {}", "raw", "set", True)
_SYSTEM = ("system", "developer")
_MOST_PLANS = 64  # one a length of conversation and set of variables
_GIVEN = {"tools": None, "documents": None, "add_generation_prompt": True}


class ChatTemplate:
    """A model's own chat template.

    Args:
        source: Jinja text, as the GGUF carries it.
        renderer: runs it.
        bos: text of the begin-of-sequence token.
        eos: text of the end-of-sequence token.
    """

    def __init__(self, source: str, renderer: Renderer, *, bos: str = "", eos: str = "") -> None:
        self._source = source
        self._renderer = renderer
        self._special = {"bos_token": bos, "eos_token": eos}
        self._plans: dict[str, tuple[Takes, frozenset[int]]] = {}
        self._said: set[str] = set()

    def render(self, messages: Sequence[Message], variables: Mapping[str, object] | None = None) -> str:
        """The prompt for these messages, ready for the assistant's answer.

        A system message that the template has no place for is put before the first user message, and a warning says
        so once; another one says where a template leaves out a part of what a message says.

        Args:
            messages: the conversation.
            variables: what else the template may ask for, as `enable_thinking`; values that JSON can hold.

        Raises:
            TemplateError: the template does not parse, failed, refused the messages, or has no place for one of them.
        """
        given = {**_GIVEN, **(variables or {}), **self._special}
        key = json.dumps([[message["role"] for message in messages], given], sort_keys=True)
        if key not in self._plans:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[key] = self._plan(messages, given)
        takes, homeless = self._plans[key]
        if homeless:
            self._warn("the model's chat template has no place for a system message: put before the first user message")
            messages = _moved(messages, homeless)
        text = self._rendered(messages, takes, given)
        self._check_whole(messages, text)
        return text

    def _rendered(self, messages: Sequence[Message], takes: Takes, given: Mapping[str, object]) -> str:
        shaped = [
            {**message, "content": [{"type": "text", "text": message["content"]}]} if number in takes else message
            for number, message in enumerate(messages)
        ]
        return clean(self._renderer.render(self._source, {**given, "messages": shaped}))

    def _plan(self, messages: Sequence[Message], given: Mapping[str, object]) -> tuple[Takes, frozenset[int]]:
        """Which messages are given as parts, and which system messages go before the first user's.

        Raises:
            TemplateError: some other message comes through in no form.
        """
        takes, lost = self._fit(messages, given)
        kept = list(range(len(messages)))
        homeless = frozenset(number for number in lost if messages[number]["role"] in _SYSTEM)
        if homeless and any(message["role"] == "user" for message in messages):
            takes, lost = self._fit(_moved(messages, homeless), given)
            kept = [number for number in kept if number not in homeless]
        if lost:
            number = kept[min(lost)]
            raise TemplateError(
                f"the model's chat template leaves out message {number + 1}, the {messages[number]['role']}'s",
                hint=_RAW,
            )
        return takes, homeless

    def _fit(self, messages: Sequence[Message], given: Mapping[str, object]) -> tuple[Takes, frozenset[int]]:
        """The way to give messages of these roles that loses the fewest, and which are lost even so."""
        numbers = frozenset(range(len(messages)))
        systems = frozenset(number for number in numbers if messages[number]["role"] in _SYSTEM)
        shapes = [frozenset[int](), numbers, systems, numbers - systems]
        tried: dict[Takes, frozenset[int]] = {}
        while shapes:
            takes = shapes.pop(0)
            lost = self._lost(messages, takes, given)
            if lost is None or takes in tried:
                continue
            tried[takes] = lost
            if not lost:
                break
            shapes.insert(0, takes ^ lost)  # the other form for those
        # where none renders, the messages themselves will not either, and that gives the reason
        return min(tried.items(), key=lambda item: len(item[1]), default=(frozenset(), frozenset()))

    def _lost(self, messages: Sequence[Message], takes: Takes, given: Mapping[str, object]) -> frozenset[int] | None:
        """Which messages do not come through in the way they are given; None where the template fails."""
        words = [f"word{number}of{len(messages)}" for number in range(len(messages))]
        probe: list[Message] = [{**message, "content": word} for message, word in zip(messages, words, strict=True)]
        try:
            text = self._rendered(probe, takes, given).lower()
        except TemplateError:
            return None
        return frozenset(number for number, word in enumerate(words) if word not in text)

    def _check_whole(self, messages: Sequence[Message], text: str) -> None:
        """Warn where a part of what was said is missing; an assistant's past thoughts may be."""
        present = _spaceless(text)
        for number, message in enumerate(messages, 1):
            content = message["content"]
            if message["role"] == "assistant" and "</think>" in content:
                continue
            if content.strip() not in text and _spaceless(content) not in present:
                self._warn(
                    "the model's chat template changes or leaves out a part of message %d, the %s's",
                    number,
                    message["role"],
                )

    def _warn(self, warning: str, *details: object) -> None:
        if warning not in self._said:
            self._said.add(warning)
            logger.warning(warning, *details)


def _moved(messages: Sequence[Message], homeless: frozenset[int]) -> list[Message]:
    """The messages with some of them put before what the first user message says."""
    kept = [message for number, message in enumerate(messages) if number not in homeless]
    first = next(number for number, message in enumerate(kept) if message["role"] == "user")
    said = [messages[number]["content"] for number in sorted(homeless)]
    kept[first] = {**kept[first], "content": "\n\n".join([*said, kept[first]["content"]])}
    return kept


def _spaceless(text: str) -> str:
    return "".join(text.split())
