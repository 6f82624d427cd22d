"""A model's vocabulary: text to token ids, token ids to bytes."""

from __future__ import annotations

import ctypes
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ModelFileError
from .bindings import llama
from .lifetime import Handle, forget_handles

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_NO_TOKEN = -1
_RARE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\U00040000-\U0010ffff]")
_SPACE = "▁"
_SPECIAL = llama.LLAMA_TOKEN_ATTR_CONTROL | llama.LLAMA_TOKEN_ATTR_UNKNOWN | llama.LLAMA_TOKEN_ATTR_USER_DEFINED
_LONE = "\U0010fffe"  # no character: vocabularies write it in bytes, so that no token reaches over its end
_LONGEST_RUN = 4096  # characters; libstdc++'s worst expression overflows a stack of 8 MiB at 26,000
_MARGIN = _LONGEST_RUN // 2  # from both ends of a run: control text may touch it
_RUN = re.compile(  # of white space, of what is no sign of ASCII, of what is no letter or digit; each looked at once
    "|".join(
        rf"(?<!{kind}){kind}{{{_LONGEST_RUN + _MARGIN},}}" for kind in (r"\s", r"[^\s!-/:-@\[-`{-~]", r"(?:[^\w\s]|_)")
    )
)


_Value = TypeVar("_Value")


class _Remembered(dict[int, _Value]):
    """What a function says of the tokens met so far: a call into C costs 10 µs and more, and this not one of Python's.

    Args:
        function: of a token.
    """

    def __init__(self, function: Callable[[int], _Value]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, token: int) -> _Value:
        found = self[token] = self._function(token)
        return found


class Vocabulary:
    """The tokenizer of an open model. Valid as long as the model is open; then methods raise a ContextError."""

    _handle: Any = Handle()

    def __init__(self, handle: Any, absent: Collection[str] = ()) -> None:
        self._handle = handle
        self._absent = absent  # "bos", "eos": llama.cpp takes another token where the file names one that is not there
        self.size: int = llama.llama_vocab_n_tokens(handle)
        self.piece: Callable[[int], bytes] = _Remembered(self._piece).__getitem__
        """The bytes that a token adds to a text; none for a control token."""
        self.is_end: Callable[[int], bool] = _Remembered(self._is_end).__getitem__
        """Whether a token ends the model's turn."""
        self._special: dict[int, bool] = {}
        self.thinking = self._thinking_tags()

    def tokenize(
        self, text: str, *, add_bos: bool = False, parse_special: bool = False, continues: bool = False
    ) -> list[int]:
        """Token ids of a text. Without `parse_special` their bytes spell it.

        A SentencePiece vocabulary puts a space before what begins a text. llama.cpp does so again after every special
        token, as such models were trained to read control tokens; after one that is a part of the text (an added word
        of the vocabulary's), the space would be nobody's, and is left out.

        Args:
            text: without lone surrogates.
            add_bos: begin as the model was trained to, with BOS where it wants one and the text has none.
            parse_special: read control-token text as control tokens.
            continues: the text goes on from other text, so that no space is put before it.

        Raises:
            ModelFileError: the vocabulary cannot write this text.
        """
        tokens = self._continued(text, parse_special) if continues else self._tokenize(text, parse_special)
        if self._is_sentencepiece and not parse_special:
            apart = [self.label(token) for token in set(tokens) if self.is_special(token)]
            apart += [_SPACE] * (_SPACE in text)
            if apart:
                tokens = self._between(apart, text, continues)
        if add_bos and self.adds_bos and tokens[:1] != [self.bos_id]:
            tokens.insert(0, self.bos_id)
        return tokens

    def _tokenize(self, text: str, parse_special: bool) -> list[int]:
        """The tokens of a text.

        llama.cpp cuts most BPE vocabularies' texts with `std::regex`, which recurses for each character of a match, and
        a long run (a page of `a`, a ruled line) overflows the stack: such runs are cut here. Their bytes stay the same.
        """
        if len(text) < _LONGEST_RUN or not self._is_bpe:
            return self._tokenize_whole(text, parse_special)
        first, *others = _without_long_runs(text)
        tokens = self._tokenize_whole(first, parse_special)
        for part in others:
            tokens += self._tokenize_whole(part, parse_special)
        return tokens

    def _tokenize_whole(self, text: str, parse_special: bool) -> list[int]:
        data = text.encode("utf-8")
        room = len(data) + 8
        while True:
            tokens = (llama.llama_token * room)()
            count = llama.llama_tokenize(self._handle, data, len(data), tokens, room, False, parse_special)
            if 0 <= count <= room:
                return list(tokens[:count])
            if not room < -count < 2**31 - 1:
                raise ModelFileError(f"the model's vocabulary cannot tokenize a text of {len(data)} bytes")
            room = -count

    def _continued(self, text: str, parse_special: bool) -> list[int]:
        """The tokens of a text that gets no space: the space goes before a character that merges with nothing."""
        if not self.puts_space or not text:
            return self._tokenize(text, parse_special)
        return self._tokenize(_LONE + text, parse_special)[len(self._tokenize(_LONE, False)) :]

    def _between(self, apart: list[str], text: str, continues: bool) -> list[int]:
        """The tokens of a text with some spellings written apart, and no space after them."""
        longest_first = sorted(apart, key=len, reverse=True)
        tokens: list[int] = []
        for number, part in enumerate(re.split(f"({'|'.join(map(re.escape, longest_first))})", text)):
            if part == _SPACE:
                tokens += self._space_sign
            elif number % 2 == 1 or not (continues or tokens):
                tokens += self._tokenize(part, False)
            else:
                tokens += self._continued(part, False)
        return tokens

    @cached_property
    def _is_bpe(self) -> bool:
        return bool(llama.llama_vocab_type(self._handle) == llama.LLAMA_VOCAB_TYPE_BPE)

    @cached_property
    def _is_sentencepiece(self) -> bool:
        return bool(llama.llama_vocab_type(self._handle) == llama.LLAMA_VOCAB_TYPE_SPM)

    @cached_property
    def _space_sign(self) -> list[int]:
        """SentencePiece's own sign for a space, in bytes: as a character it would be read as a space."""
        is_byte = llama.LLAMA_TOKEN_ATTR_BYTE
        tokens = (token for token in range(self.size) if llama.llama_vocab_get_attr(self._handle, token) & is_byte)
        of_byte = {self.piece(token): token for token in tokens}
        sign = [of_byte.get(bytes([byte])) for byte in _SPACE.encode()]
        return [token for token in sign if token is not None] if None not in sign else self._tokenize(_SPACE, False)

    @cached_property
    def puts_space(self) -> bool:
        """Whether a space is put before what begins a text."""
        return b"".join(map(self.piece, self._tokenize("a", False))).startswith(b" ")

    def _thinking_tags(self) -> tuple[int, int] | None:
        """The tokens between which the model thinks aloud, where it has such."""
        tags = [self.tokenize(text, parse_special=True) for text in ("<think>", "</think>")]
        opening, closing = tags
        return (opening[0], closing[0]) if len(opening) == len(closing) == 1 else None

    def label(self, token: int) -> str:
        """A token as a person would name it; control tokens included."""
        return self._piece(token, special=True).decode("utf-8", "replace")

    def _piece(self, token: int, *, special: bool = False) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count: int = llama.llama_token_to_piece(self._handle, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def _is_end(self, token: int) -> bool:
        ends = bool(llama.llama_vocab_is_eog(self._handle, token))
        if ends and "eos" in self._absent and token == llama.llama_vocab_eos(self._handle):
            return self.is_control(token)
        return ends

    def is_control(self, token: int) -> bool:
        """Whether a token steers the model rather than standing for text."""
        special = llama.LLAMA_TOKEN_ATTR_CONTROL | llama.LLAMA_TOKEN_ATTR_UNKNOWN
        return bool(llama.llama_vocab_get_attr(self._handle, token) & special)

    def is_special(self, token: int) -> bool:
        """Whether llama.cpp cuts texts at a token: a control token, or one that was added to the vocabulary."""
        known = self._special.get(token)
        if known is None:
            attributes = llama.llama_vocab_get_attr(self._handle, token)
            known = self._special[token] = bool(attributes & _SPECIAL)
        return known

    def control_tokens(self, texts: Collection[str]) -> frozenset[int]:
        """The control tokens that some of these texts are the names of; what the model writes never spells those."""
        read = [self.tokenize(text, parse_special=True) for text in texts]
        return frozenset(tokens[0] for tokens in read if len(tokens) == 1 and self.is_control(tokens[0]))

    def special_texts_in(self, text: str) -> list[str]:
        """The parts of a text that would not be read as they stand where control tokens are allowed."""
        found = set(self.tokenize(text, parse_special=True))
        cuts = self.is_special if self._is_sentencepiece else self.is_control
        texts = [self.label(token) for token in found if cuts(token)]
        return [*texts, _SPACE] if self._is_sentencepiece and _SPACE in text else texts

    def unwritable_in(self, text: str) -> list[str]:
        """Characters that would be left out: some vocabularies lack bytes that control characters are made of."""
        rare = sorted(set(_RARE.findall(text)))
        written = {letter: b"".join(map(self.piece, self.tokenize(letter, continues=True))) for letter in rare}
        return [letter for letter in rare if written[letter] != letter.encode()]

    @property
    def bos_id(self) -> int:
        """The begin-of-sequence token, -1 where there is none."""
        found: int = _NO_TOKEN if "bos" in self._absent else llama.llama_vocab_bos(self._handle)
        return found

    @property
    def bos(self) -> str:
        """The begin-of-sequence token's text, empty where there is none."""
        return self._text_of(self.bos_id)

    @property
    def eos(self) -> str:
        """The end-of-sequence token's text, empty where there is none."""
        return "" if "eos" in self._absent else self._text_of(llama.llama_vocab_eos(self._handle))

    @property
    def adds_bos(self) -> bool:
        """Whether texts begin with the begin-of-sequence token."""
        return self.bos_id != _NO_TOKEN and bool(llama.llama_vocab_get_add_bos(self._handle))

    def close(self) -> None:
        """Use it no more: the model is about to be freed."""
        forget_handles(self)

    def _text_of(self, token: int) -> str:
        return "" if token == _NO_TOKEN else self.label(token)


def _without_long_runs(text: str) -> list[str]:
    """A text in parts, none of which holds a long run of characters that one expression might match."""
    cuts = [
        cut
        for run in _RUN.finditer(text)
        for cut in range(run.start() + _LONGEST_RUN, run.end() - _MARGIN + 1, _LONGEST_RUN)
    ]
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
