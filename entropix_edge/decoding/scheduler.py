"""The trampoline: every live generation's feeds in one batch, one decode, each its row.

It alone owns sequence ids. A generation is admitted only when its cells are free; its sequence is freed
however it ends.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..errors import ContextError, EntropixError
from ..types import Cell, Feed
from .generation import Cancelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..types import Event, Row
    from .generation import Generation


class Decoder(Protocol):
    """What the scheduler needs of a context."""

    n_ctx: int
    n_batch: int
    sequences: int

    def decode(self, cells: Sequence[Cell]) -> list[Row] | None:
        """Decode tokens, and give the rows of the wanted ones; None where it was stopped."""

    def truncate(self, sequence: int, position: int = 0) -> bool:
        """Drop a sequence's cells from a position on."""


@dataclass(eq=False, slots=True)
class Live:
    """A generation that the scheduler runs."""

    coroutine: Generation
    cells: int
    sequence: int = -1
    position: int = 0  # cells that its sequence holds
    feed: deque[int] = field(default_factory=deque)  # tokens asked for and not yet decoded
    cancelled: bool = False
    ended: bool = False

    def cancel(self) -> None:
        """End it before the next decode; its last event says so."""
        self.cancelled = True


class Scheduler:
    """Runs generations side by side on one context.

    Args:
        context: no one else decodes in it meanwhile.
    """

    def __init__(self, context: Decoder) -> None:
        self._context = context
        self._free_sequences = list(range(context.sequences - 1, -1, -1))
        self._free_cells = context.n_ctx
        self._waiting: deque[Live] = deque()
        self._live: list[Live] = []

    def add(self, coroutine: Generation, cells: int) -> Live:
        """Queue a generation that will hold at most `cells` cells.

        Raises:
            ContextError: that many can never be free.
        """
        if cells > self._context.n_ctx:
            raise ContextError(f"a generation of {cells} tokens does not fit a context of {self._context.n_ctx}")
        live = Live(coroutine, cells)
        self._waiting.append(live)
        return live

    def run(self) -> Iterator[tuple[Live, Event | EntropixError]]:
        """Run until every generation has ended, yielding events as they come.

        An error ends the generation that raised it, as its last word; the others run on.
        """
        while self._waiting or self._live:
            for live in [live for live in (*self._live, *self._waiting) if live.cancelled]:
                yield from self._stop(live)
            for live in self._admit():
                yield from self._advance(live, None)
            yield from self._decode()

    def remove(self, live: Live) -> None:
        """End a generation without a word and free what it holds. One that has ended is left alone."""
        live.coroutine.close()
        live.ended = True
        if live in self._waiting:
            self._waiting.remove(live)
        if live in self._live:
            self._live.remove(live)
            self._context.truncate(live.sequence)
            self._free_sequences.append(live.sequence)
            self._free_cells += live.cells

    def close(self) -> None:
        """End every generation without a word."""
        for live in [*self._live, *self._waiting]:
            self.remove(live)

    # --- one round --------------------------------------------------------------------------------

    def _admit(self) -> list[Live]:
        """Start waiting generations, in their order, while there is room for the next."""
        admitted = []
        while self._waiting and self._free_sequences and self._waiting[0].cells <= self._free_cells:
            live = self._waiting.popleft()
            live.sequence = self._free_sequences.pop()
            self._free_cells -= live.cells
            self._live.append(live)
            admitted.append(live)
        return admitted

    def _decode(self) -> Iterator[tuple[Live, Event | EntropixError]]:
        """One decode of what all want, and each its row."""
        cells, fed = self._batch()
        if not cells:
            return
        try:
            rows = self._context.decode(cells)
        except ContextError as error:
            for live, _count in fed:
                self.remove(live)
                yield live, error
            return
        if rows is None:
            for live in list(self._live):
                yield from self._stop(live)
            return
        complete = []
        for live, count in fed:
            live.position += count
            for _ in range(count):
                live.feed.popleft()
            if not live.feed:
                complete.append(live)
        for live, row in zip(complete, rows, strict=True):
            yield from self._advance(live, row)

    def _batch(self) -> tuple[list[Cell], list[tuple[Live, int]]]:
        """The next tokens of every generation: single tokens first, then as much prompt as fits.

        The last token of a prompt waits for the next batch, as a single token. So rows always come from
        the same shape of batch, and a step repeated after a rewind gives the same row: llama.cpp's
        arithmetic depends on that shape.
        """
        cells: list[Cell] = []
        fed: list[tuple[Live, int]] = []
        for live in sorted(self._live, key=lambda live: len(live.feed) > 1):
            waiting = len(live.feed)
            count = min(max(waiting - 1, 1), self._context.n_batch - len(cells))
            if not waiting or not count:
                continue
            cells.extend(
                Cell(live.feed[i], live.position + i, live.sequence, wanted=waiting == 1) for i in range(count)
            )
            fed.append((live, count))
        return cells, fed

    def _advance(self, live: Live, row: Row | None) -> Iterator[tuple[Live, Event | EntropixError]]:
        """Give a generation its row, pass its events on, and take its next request."""
        try:
            said = live.coroutine.send(row)
            while not isinstance(said, Feed):
                yield live, said
                said = live.coroutine.send(None)
            live.feed.extend(said.tokens)
        except StopIteration:
            self.remove(live)
        except EntropixError as error:
            self.remove(live)
            yield live, error

    def _stop(self, live: Live) -> Iterator[tuple[Live, Event]]:
        """Tell a generation to end, and pass on what it says to that."""
        if live in self._waiting:
            live.coroutine.send(None)  # a coroutine that has not begun cannot answer
        said = live.coroutine.throw(Cancelled())
        self.remove(live)
        if not isinstance(said, Feed):
            yield live, said
