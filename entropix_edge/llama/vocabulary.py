"""A model's vocabulary: text to token ids, token ids to bytes."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import llama_cpp.llama_cpp as llama

from ..errors import ModelFileError
from .lifetime import Handle, forget_handles

if TYPE_CHECKING:
    from collections.abc import Collection

_NO_TOKEN = -1


class Vocabulary:
    """The tokenizer of an open model. Valid as long as the model is open; then methods raise a ContextError."""

    _handle: Any = Handle()

    def __init__(self, handle: Any, absent: Collection[str] = ()) -> None:
        self._handle = handle
        self._absent = absent  # "bos", "eos": llama.cpp takes another token where the file names one that is not there
        self.size: int = llama.llama_vocab_n_tokens(handle)
        self._pieces: dict[int, bytes] = {}  # of tokens met so far, like `_ends`: a call into C costs 10 µs and more
        self._ends: dict[int, bool] = {}
        self.thinking = self._thinking_tags()

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = False) -> list[int]:
        """Token ids of a text.

        Args:
            text: without lone surrogates.
            add_special: begin (and end) as the model was trained to, with BOS where it wants one.
            parse_special: read control-token text as control tokens.

        Raises:
            ModelFileError: the vocabulary cannot write this text.
        """
        data = text.encode("utf-8")
        room = len(data) + 8
        while True:
            tokens = (llama.llama_token * room)()
            count = llama.llama_tokenize(self._handle, data, len(data), tokens, room, add_special, parse_special)
            if 0 <= count <= room:
                return list(tokens[:count])
            if not room < -count < 2**31 - 1:
                raise ModelFileError(f"the model's vocabulary cannot tokenize a text of {len(data)} bytes")
            room = -count

    def _thinking_tags(self) -> tuple[int, int] | None:
        """The tokens between which the model thinks aloud, where it has such."""
        tags = [self.tokenize(text, parse_special=True) for text in ("<think>", "</think>")]
        opening, closing = tags
        return (opening[0], closing[0]) if len(opening) == len(closing) == 1 else None

    def piece(self, token: int) -> bytes:
        """The bytes that a token adds to a text; none for a control token."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._piece(token, special=False)
        return known

    def label(self, token: int) -> str:
        """A token as a person would name it; control tokens included."""
        return self._piece(token, special=True).decode("utf-8", "replace")

    def _piece(self, token: int, *, special: bool) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count: int = llama.llama_token_to_piece(self._handle, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def is_end(self, token: int) -> bool:
        """Whether a token ends the model's turn."""
        known = self._ends.get(token)
        if known is None:
            known = self._ends[token] = bool(llama.llama_vocab_is_eog(self._handle, token))
            if known and "eos" in self._absent and token == llama.llama_vocab_eos(self._handle):
                known = self._ends[token] = self.is_control(token)
        return known

    def is_control(self, token: int) -> bool:
        """Whether a token steers the model rather than standing for text."""
        special = llama.LLAMA_TOKEN_ATTR_CONTROL | llama.LLAMA_TOKEN_ATTR_UNKNOWN
        return bool(llama.llama_vocab_get_attr(self._handle, token) & special)

    def control_texts_in(self, text: str) -> list[str]:
        """The parts of a text that would be read as control tokens where that is allowed."""
        tokens = set(self.tokenize(text, parse_special=True))
        return [self.label(token) for token in tokens if self.is_control(token)]

    @property
    def bos(self) -> str:
        """The begin-of-sequence token's text, empty where there is none."""
        return "" if "bos" in self._absent else self._text_of(llama.llama_vocab_bos(self._handle))

    @property
    def eos(self) -> str:
        """The end-of-sequence token's text, empty where there is none."""
        return "" if "eos" in self._absent else self._text_of(llama.llama_vocab_eos(self._handle))

    @property
    def adds_bos(self) -> bool:
        """Whether texts begin with the begin-of-sequence token."""
        return bool(llama.llama_vocab_get_add_bos(self._handle))

    def close(self) -> None:
        """Use it no more: the model is about to be freed."""
        forget_handles(self)

    def _text_of(self, token: int) -> str:
        return "" if token == _NO_TOKEN else self.label(token)
