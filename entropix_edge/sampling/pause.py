"""Pause texts to pause tokens, with the model's own tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Tokenizer(Protocol):
    """What the resolver needs of a vocabulary."""

    def tokenize(self, text: str, *, continues: bool = False) -> list[int]:
        """Plain text to token ids: no control tokens parsed or added; with `continues`, no space put before it."""

    def is_control(self, token: int) -> bool:
        """Whether a token steers the model rather than standing for text."""

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for."""


def resolve_pause(texts: Sequence[str], tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens to insert as a pause.

    Each text is tried in order, as given, then with its leading space removed or added. The first that
    is a single ordinary token wins; else the first of the shortest sequences, inserted whole.

    Raises:
        ConfigError: no text yields a token that stands for text.
    """
    resolved = [tuple(tokenizer.tokenize(text)) for text in _spellings(texts)]
    usable = [tokens for tokens in resolved if tokens and not _misread(tokens, tokenizer)]
    if not usable:
        raise ConfigError(f"no pause text of {list(texts)!r} can be written with this model's tokens")
    return min(usable, key=len)


def _spellings(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        bare = text.removeprefix(" ")
        yield text
        if bare:
            yield bare if text != bare else f" {text}"


def _misread(tokens: tuple[int, ...], tokenizer: Tokenizer) -> bool:
    return any(tokenizer.is_control(token) or not tokenizer.piece(token) for token in tokens)
