"""A conversation's tokens, kept where its next prompt begins as it did."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..llama import Vocabulary


def retained(
    earlier: Sequence[int], parts: Sequence[tuple[str, bool]], vocabulary: Vocabulary
) -> tuple[list[int], list[tuple[str, bool]], bool]:
    """The first of some tokens that spell what a rendered prompt begins with, and the parts after them.

    So what a model generated stays as it was generated, though the tokenizer might cut its text elsewhere, and what is
    cached of it is reused. Where the prompt goes on differently (a thinking part left out), the tokens are kept up to
    the last special token before that: the tokenizer cuts there whatever follows.

    Args:
        earlier: tokens of an earlier prompt and the reply to it.
        parts: the new prompt, from `ControlText.split`: texts, each with whether control tokens are read in it.
        vocabulary: the model's.

    Returns:
        The tokens kept, the parts after them, and whether a text begins there anew: after one of the template's control
        tokens, or where nothing is kept.
    """
    prompt = _Prompt(parts, vocabulary)
    places = [(0, True)]  # before each token and after the last: how far the prompt is spelled, whether a text begins
    for token in earlier:
        at, begins = places[-1]
        end = prompt.end_of(token, at, first=len(places) == 1, begins=begins)
        if end is None:
            break
        # what was typed is no control token, and an added word there does not begin a text anew
        places.append((end, vocabulary.is_special(token) and (end == 0 or prompt.is_template(at))))
    if len(places) <= len(earlier):
        while len(places) > 1 and not vocabulary.is_special(earlier[len(places) - 2]):
            places.pop()
    at, begins = places[-1]
    return list(earlier[: len(places) - 1]), prompt.after(at), begins


class _Prompt:
    """A rendered prompt in bytes, which tokens are laid along."""

    def __init__(self, parts: Sequence[tuple[str, bool]], vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._parts = [(text.encode(), special) for text, special in parts]
        self._data = b"".join(text for text, _special in self._parts)
        self._controls: dict[int, int] = {}  # where the text of a special token begins, and where it ends
        start = 0
        for (text, special), (data, _special) in zip(parts, self._parts, strict=True):
            spellings = sorted(map(str.encode, vocabulary.special_texts_in(text)), key=len) if special else []
            if spellings:
                found = re.finditer(b"|".join(map(re.escape, reversed(spellings))), data)
                self._controls |= {start + match.start(): start + match.end() for match in found}
            start += len(data)

    def is_template(self, at: int) -> bool:
        """Whether the template wrote a special token there."""
        return at in self._controls

    def end_of(self, token: int, at: int, *, first: bool, begins: bool) -> int | None:
        """Where a token that begins at `at` ends; None where the prompt goes on differently."""
        if self._vocabulary.is_special(token):
            return self._end_of_special(token, at, first)
        piece = self._vocabulary.piece(token)
        without_space = [piece[1:]] if begins and piece[:1] == b" " and self._vocabulary.puts_space else []
        for written in (*without_space, piece):
            end = at + len(written)
            if self._data.startswith(written, at) and not any(place in self._controls for place in range(at, end)):
                return end
        return None

    def _end_of_special(self, token: int, at: int, first: bool) -> int | None:
        vocabulary = self._vocabulary
        if first and token == vocabulary.bos_id and at not in self._controls:
            return at if vocabulary.adds_bos else None  # it was put before the prompt
        written = vocabulary.label(token).encode()
        end = at + len(written)
        # what a user typed is read as an added word of the vocabulary, and never as a control token
        allowed = self._controls.get(at) == end or (at not in self._controls and not vocabulary.is_control(token))
        if not allowed or not self._data.startswith(written, at):
            return None
        spaces = re.compile(rb"\s+").match(self._data, end)
        if spaces and vocabulary.tokenize((written + spaces[0]).decode(), parse_special=True) == [token]:
            return spaces.end()  # some vocabularies leave out the spaces after their control tokens
        return end

    def after(self, at: int) -> list[tuple[str, bool]]:
        """The parts from a place on."""
        rest = []
        for data, special in self._parts:
            if at < len(data):
                rest.append((data[at:].decode(), special))
            at = max(at - len(data), 0)
        return rest
