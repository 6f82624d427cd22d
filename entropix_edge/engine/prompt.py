"""Messages to tokens, as the model was trained to read them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import PromptError, TemplateError
from ..text import ChatTemplate, ControlText, as_messages, clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..llama import Model
    from ..text import Message


class PromptTokenizer:
    """Turns prompts into the tokens of one model."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """The model's own chat template; None where the file has none."""
        source = self._model.chat_template
        vocabulary = self._model.vocabulary
        return ChatTemplate(source, bos=vocabulary.bos, eos=vocabulary.eos) if source else None

    def tokenize(
        self,
        prompt: str | Sequence[Message],
        *,
        system: str | None = None,
        raw: bool = False,
        parse_special: bool = False,
    ) -> list[int]:
        """The tokens that a prompt becomes.

        Args:
            prompt: a text, or the turns of a conversation.
            system: a system message to begin with.
            raw: take the text as it is, without the chat template.
            parse_special: read control-token text in it as control tokens.

        Raises:
            PromptError: it is empty or malformed.
            TemplateError: the model has no chat template, or one that fails.
        """
        vocabulary = self._model.vocabulary
        if raw:
            if not isinstance(prompt, str) or system is not None:
                raise PromptError("a raw prompt is one text without a system message: put it into the text")
            if not prompt:
                raise PromptError("the prompt is empty: give the text to continue")
            return vocabulary.tokenize(clean(prompt), add_special=True, parse_special=parse_special)
        messages = as_messages(prompt, system)
        if self.chat_template is None:
            if not isinstance(prompt, str) or system is not None:
                raise TemplateError(f"{self._model.path.name} has no chat template: give one raw text")
            return vocabulary.tokenize(clean(prompt), add_special=True, parse_special=parse_special)
        found = [] if parse_special else vocabulary.control_texts_in("\n".join(m["content"] for m in messages))
        control = ControlText(found)
        text = self.chat_template.render(control.mark(messages))
        tokens: list[int] = []
        for part, special in control.split(text):
            tokens += vocabulary.tokenize(part, parse_special=special)
        return self._with_bos(tokens, text)

    def _with_bos(self, tokens: list[int], text: str) -> list[int]:
        """Begin as the model was trained to, where its template did not."""
        vocabulary = self._model.vocabulary
        if vocabulary.adds_bos and not text.startswith(vocabulary.bos):
            return vocabulary.tokenize(vocabulary.bos, parse_special=True) + tokens
        return tokens
