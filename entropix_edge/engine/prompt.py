"""Messages to tokens, as the model was trained to read them."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import PromptError, TemplateError
from ..text import ChatTemplate, ControlText, Renderer, as_messages, clean
from .retained import retained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..llama import Model, Vocabulary
    from ..text import Message

logger = logging.getLogger("entropix_edge")


class PromptTokenizer:
    """Turns prompts into the tokens of one model.

    Args:
        model: an open one.
        renderer: runs its chat template; whoever made it closes it.
    """

    def __init__(self, model: Model, renderer: Renderer | None = None) -> None:
        self._model = model
        self._renderer = renderer or Renderer()

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """The model's own chat template; None where the file has none."""
        source = self._model.chat_template
        vocabulary = self._model.vocabulary
        return ChatTemplate(source, self._renderer, bos=vocabulary.bos, eos=vocabulary.eos) if source else None

    def tokenize(
        self,
        prompt: str | Sequence[Message],
        *,
        system: str | None = None,
        raw: bool = False,
        parse_special: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        earlier: Sequence[int] = (),
    ) -> list[int]:
        """The tokens that a prompt becomes, which begin with one BOS where the model wants one.

        Args:
            prompt: a text, or the turns of a conversation.
            system: a system message to begin with.
            raw: take the text as it is, without the chat template.
            parse_special: read control-token text in it as control tokens.
            chat_template_kwargs: variables for the chat template; values that JSON can hold.
            earlier: the tokens of the conversation so far, kept as far as the template renders it as it was.

        Raises:
            PromptError: it is empty or malformed.
            TemplateError: the model has no chat template, or one that fails or has no place for a message.
        """
        if raw:
            if not isinstance(prompt, str) or system is not None:
                raise PromptError("a raw prompt is one text without a system message: put it into the text")
            if not prompt:
                raise PromptError("the prompt is empty: give the text to continue")
            if chat_template_kwargs:
                raise PromptError("a raw prompt goes through no chat template: chat_template_kwargs must be empty")
            return self._plain(prompt, parse_special)
        messages = as_messages(prompt, system)
        if self.chat_template is None:
            if not isinstance(prompt, str) or system is not None or chat_template_kwargs:
                raise TemplateError(f"{self._model.path.name} has no chat template: give one text and nothing else")
            return self._plain(prompt, parse_special)
        parts = self._rendered(self.chat_template, messages, parse_special, chat_template_kwargs)
        return tokenize_parts(parts, self._model.vocabulary, earlier)

    def _plain(self, text: str, parse_special: bool) -> list[int]:
        text = clean(text)
        self._check_writable(text)
        return self._model.vocabulary.tokenize(text, add_bos=True, parse_special=parse_special)

    def _rendered(
        self,
        template: ChatTemplate,
        messages: list[Message],
        parse_special: bool,
        variables: Mapping[str, Any] | None,
    ) -> list[tuple[str, bool]]:
        vocabulary = self._model.vocabulary
        said = "\n".join(message["content"] for message in messages)
        self._check_writable(said)
        control = ControlText([] if parse_special else vocabulary.special_texts_in(said))
        return control.split(template.render(control.mark(messages), variables))

    def _check_writable(self, text: str) -> None:
        lacking = self._model.vocabulary.unwritable_in(text)
        if lacking:
            logger.warning(
                "the model's vocabulary has no token for %s: left out of the prompt", ", ".join(map(ascii, lacking))
            )


def tokenize_parts(parts: Sequence[tuple[str, bool]], vocabulary: Vocabulary, earlier: Sequence[int] = ()) -> list[int]:
    """The tokens of a rendered prompt, with BOS before them where the model wants it and the text has none.

    Args:
        parts: from `ControlText.split`: texts, each with whether control tokens are read in it.
        vocabulary: the model's.
        earlier: tokens of an earlier prompt and the reply to it, kept as far as they spell the same: see `retained`.
    """
    tokens, rest, anew = retained(earlier, parts, vocabulary)
    for text, is_template in rest:
        tokens += vocabulary.tokenize(text, parse_special=is_template, continues=not anew)
        # a template's control token begins the text after it anew, whoever wrote that
        anew = not tokens or (is_template and vocabulary.is_special(tokens[-1]))
    if vocabulary.adds_bos and tokens[:1] != [vocabulary.bos_id]:
        tokens.insert(0, vocabulary.bos_id)
    return tokens
