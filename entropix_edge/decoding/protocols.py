"""What the parts of this room need of each other and of the model."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from ..sampling import Tokenizer
from ..types import Cell, Request, Row

Answer = Row | tuple[Row, ...] | bool | None
"""What a request is answered with: a row for a feed, a tuple of rows for a feed of branches, else see `types`."""

Generation = Generator[Request, Answer, None]
Part = Generator[Request, Answer, Row | None]
"""A part of a generation; it returns the row after its last token, where that token was decoded."""


class Cancelled(Exception):  # noqa: N818 - not an error: the scheduler throws it in, the generation ends well
    """Thrown into a generation that is to end now."""


class Vocabulary(Tokenizer, Protocol):
    """What a generation needs of a vocabulary."""

    thinking: tuple[int, int] | None

    def is_end(self, token: int) -> bool:
        """Whether a token ends the model's turn."""


class Decoder(Protocol):
    """What slots and scheduler need of a context.

    Attributes:
        n_ctx: cells of all sequences together.
        room: cells that one sequence may hold.
        n_batch: most tokens of one decode.
        sequences: how many there are.
        swaps: whether what a sequence holds may be swapped out and in: a token is computed against the cells of all
            sequences, and they lie in the processor's memory.
    """

    swaps: bool
    n_ctx: int
    room: int
    n_batch: int
    sequences: int

    def decode(self, cells: Sequence[Cell]) -> list[Row] | None:
        """Decode tokens, and give the rows of the wanted ones; None where it was stopped."""

    def fork(self, source: int, target: int) -> None:
        """Let an empty sequence hold all that another holds."""

    def truncate(self, sequence: int, position: int = 0) -> bool:
        """Drop a sequence's cells from a position on; False where that is impossible."""

    def save(self, sequence: int) -> bytes | memoryview:
        """What a sequence's cells hold."""

    def load(self, sequence: int, state: bytes | memoryview) -> bool:
        """Let an empty sequence hold what was saved; False where it does not fit."""
