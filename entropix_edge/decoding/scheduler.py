"""The trampoline: every live generation's feeds in one batch, one decode, each its row.

It alone owns sequence ids. A generation is admitted only when its cells are free. What it held rests when it has
ended, however it ended, and is freed when room is needed: a prompt that begins alike goes on from it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..errors import ContextError, EntropixError
from ..types import Cell, Feed, Fork, Keep, Rewind
from .generation import Cancelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..types import Request, Row
    from .generation import Answer, Generation


class Decoder(Protocol):
    """What the scheduler needs of a context."""

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

    def save(self, sequence: int) -> bytes:
        """What a sequence's cells hold."""

    def load(self, sequence: int, state: bytes) -> bool:
        """Let an empty sequence hold what was saved; False where it does not fit."""


@dataclass(eq=False, slots=True)
class Lane:
    """One sequence of a generation: its own, or a child's."""

    sequence: int
    tokens: list[int] = field(default_factory=list)  # that its cells hold
    feed: deque[int] = field(default_factory=deque)  # tokens asked for and not yet decoded


@dataclass(eq=False, slots=True)
class Live:
    """A generation that the scheduler runs.

    Attributes:
        cells: how many it may hold; children share them, and what they need beyond is lent.
        decoded: tokens decoded for it so far, its prompt and all its children included.
        prompt: what it will ask for first, as far as that is known.
        shared: tokens of its prompt that another generation had decoded already.
        rows: of children, until all have theirs.
        ended: nothing more will come of it.
        error: what ended it, where it failed.
    """

    coroutine: Generation
    cells: int
    prompt: Sequence[int]
    cancellations: deque[Live]  # the scheduler's: those that are to end before the next decode
    lane: Lane | None = None
    branches: list[Lane] = field(default_factory=list)
    lent: int = 0
    request: Feed | None = None
    decoded: int = 0
    shared: int = 0
    rows: list[Row] = field(default_factory=list)
    ended: bool = False
    error: EntropixError | None = None

    def cancel(self) -> None:
        """End it before the next decode; its last event says so."""
        self.cancellations.append(self)


class Scheduler:
    """Runs generations side by side on one context.

    Args:
        context: no one else decodes in it meanwhile.
        generations: most of them at once; the sequences beyond are for their children.
    """

    def __init__(self, context: Decoder, generations: int | None = None) -> None:
        self._context = context
        self._most = generations or context.sequences
        self._free_sequences = list(range(context.sequences))
        self._free_cells = context.n_ctx
        self._waiting: deque[Live] = deque()
        self._live: list[Live] = []
        self._cancellations: deque[Live] = deque()
        self._resting: list[Lane] = []  # left by those that ended, the oldest first

    @property
    def free(self) -> tuple[int, int]:
        """Sequences and cells that no live generation holds."""
        resting = sum(len(lane.tokens) for lane in self._resting)
        return len(self._free_sequences) + len(self._resting), self._free_cells + resting

    def add(self, coroutine: Generation, cells: int, prompt: Sequence[int] = ()) -> Live:
        """Queue a generation that will hold at most `cells` cells.

        Args:
            coroutine: not begun yet.
            cells: its prompt and its reply.
            prompt: what it will ask for first, so that it can go on from what an earlier one left.

        Raises:
            ContextError: that many can never be free.
        """
        if cells > self._context.room:
            raise ContextError(f"a generation of {cells} tokens does not fit a context of {self._context.room}")
        live = Live(coroutine, cells, prompt, self._cancellations)
        self._waiting.append(live)
        return live

    def step(self) -> bool:
        """Admit what waits, decode once what all want, and let each go on. False where no generation is left.

        An error ends the generation that raised it; the others run on.
        """
        while self._cancellations:
            self._stop(self._cancellations.popleft())
        if self._waiting:
            for live in self._admit():
                self._advance(live, None)
        self._decode()
        return bool(self._live or self._waiting)

    def remove(self, live: Live) -> None:
        """End a generation without a word. One that has ended is left alone."""
        live.coroutine.close()
        live.ended = True
        if live in self._waiting:
            self._waiting.remove(live)
        if live in self._live and live.lane:
            self._live.remove(live)
            self._drop_branches(live, live.branches)
            self._free_cells += live.cells
            self._rest(live.lane)

    def close(self) -> None:
        """End every generation without a word, and free what they leave."""
        for live in [*self._live, *self._waiting]:
            self.remove(live)
        self.forget()

    def forget(self) -> None:
        """Free what ended generations left."""
        while self._resting:
            self._evict()

    # --- one round --------------------------------------------------------------------------------

    def _admit(self) -> list[Live]:
        """Start waiting generations, in their order, while there is room for the next."""
        admitted = []
        while self._waiting and len(self._live) < self._most and self._has_room(1, self._waiting[0].cells):
            live = self._waiting.popleft()
            live.lane = self._adopt(live)
            self._make_room(0 if live.lane else 1, live.cells)
            while self._resting and len(self._live) + len(self._resting) >= self._most:
                self._evict()  # cells that nobody attends to cost time in every decode
            live.lane = live.lane or self._new_lane()
            self._free_cells -= live.cells
            self._live.append(live)
            admitted.append(live)
        return admitted

    def _decode(self) -> None:
        """One decode of what all want, and each its rows."""
        cells, fed = self._batch()
        if not cells:
            return
        try:
            rows = self._context.decode(cells)
        except ContextError as error:
            for live, _lane, _count in fed:
                self._fail(live, error)
            return
        if rows is None:
            for live in list(self._live):
                self._stop(live)
            return
        fresh = iter(rows)
        for live, lane, count in fed:
            live.decoded += count
            for _ in range(count):
                lane.tokens.append(lane.feed.popleft())
            if lane.feed:
                continue
            row = next(fresh)
            assert live.request
            if not live.request.branches:
                self._advance(live, row)
                continue
            live.rows.append(row)
            if len(live.rows) == len(live.request.branches):
                answer, live.rows = tuple(live.rows), []
                self._advance(live, answer)

    def _batch(self) -> tuple[list[Cell], list[tuple[Live, Lane, int]]]:
        """The next tokens of every lane: single tokens first, then as much prompt as fits.

        The last token of a prompt waits for the next batch, as a single token. So rows always come from
        the same shape of batch, and a step repeated after a rewind gives the same row: llama.cpp's
        arithmetic depends on that shape. Single tokens always fit: a batch has room for every sequence.
        They stand in the order of their sequences: llama.cpp computes neighbours together.
        """
        lanes: list[tuple[Live, Lane]] = []
        for live in self._live:
            if live.decoded or live.shared or self._share(live):
                assert live.lane
                if live.lane.feed:
                    lanes.append((live, live.lane))
                if live.branches:
                    lanes += [(live, lane) for lane in live.branches if lane.feed]
        if len(lanes) > 1:
            lanes.sort(key=lambda pair: (len(pair[1].feed) > 1, pair[1].sequence))
        cells: list[Cell] = []
        fed: list[tuple[Live, Lane, int]] = []
        for live, lane in lanes:
            waiting = len(lane.feed)
            count = min(max(waiting - 1, 1), self._context.n_batch - len(cells))
            if not count:
                break
            position = len(lane.tokens)
            for token in itertools.islice(lane.feed, count):
                cells.append(Cell(token, position, lane.sequence, waiting == 1))
                position += 1
            fed.append((live, lane, count))
        return cells, fed

    def _share(self, live: Live) -> bool:
        """Let a generation that begins hold what it has in common with an earlier one, instead of decoding it.

        False while the earlier one is still at it: the generation waits.
        """
        assert live.lane
        prompt = list(live.lane.feed)[:-1]
        earlier = self._resting + [other.lane for other in self._live[: self._live.index(live)] if other.lane]
        shares = [(_common(prompt, [*lane.tokens, *lane.feed]), _common(prompt, lane.tokens), lane) for lane in earlier]
        if not shares:
            return True
        coming, held, donor = max(shares, key=lambda share: share[:2])
        if coming > held:
            return False
        if held:
            self._context.fork(donor.sequence, live.lane.sequence)
            if not self._context.truncate(live.lane.sequence, held):  # a state that cannot be rewound
                self._context.truncate(live.lane.sequence)
                return True
            live.shared = held
            live.lane.tokens.extend(live.lane.feed.popleft() for _ in range(held))
        return True

    def _advance(self, live: Live, answer: Answer) -> None:
        """Give a generation its answer, and serve what it asks for up to the next feed."""
        try:
            request = live.coroutine.send(answer)
            while not isinstance(request, Feed):
                request = live.coroutine.send(self._serve(live, request))
        except StopIteration:
            self.remove(live)
        except EntropixError as error:
            self._fail(live, error)
        else:
            self._take(live, request)

    def _fail(self, live: Live, error: EntropixError) -> None:
        live.error = error  # before it has ended, for who reads in another thread
        self.remove(live)

    def _stop(self, live: Live) -> None:
        """Let a generation say its last."""
        if live.ended:
            return
        if live in self._waiting:
            live.coroutine.send(None)  # a coroutine that has not begun cannot answer
        with contextlib.suppress(StopIteration):
            live.coroutine.throw(Cancelled())
        self.remove(live)

    # --- what a generation may ask ------------------------------------------------------------------

    def _take(self, live: Live, feed: Feed) -> None:
        """Note the tokens that a generation wants decoded."""
        assert live.lane
        first = live.request is None
        live.request = feed
        if feed.branches:
            for branch, token in zip(feed.branches, feed.tokens, strict=True):
                live.branches[branch].feed.append(token)
        else:
            live.lane.feed.extend(feed.tokens[live.shared :] if first else feed.tokens)

    def _serve(self, live: Live, request: Request) -> bool | None:
        """Do at once what needs no decode."""
        match request:
            case Fork(children, horizon):
                return self._fork(live, children, horizon)
            case Keep(branch):
                self._keep(live, branch)
                return None
            case Rewind(position):
                return self._rewind(live, position)
            case _:
                raise AssertionError(f"not served at once: {request}")

    def _fork(self, live: Live, children: int, horizon: int) -> bool:
        """Make children, where sequences and cells are free for them."""
        assert live.lane
        lent = max(0, children * horizon - (live.cells - len(live.lane.tokens)))
        if live.branches or not self._make_room(children, lent):
            return False
        live.lent = lent
        self._free_cells -= lent
        for _ in range(children):
            child = self._new_lane(live.lane.tokens)
            self._context.fork(live.lane.sequence, child.sequence)
            live.branches.append(child)
        return True

    def _keep(self, live: Live, branch: int | None) -> None:
        """Let one child take the generation's place, and drop the rest."""
        assert live.lane
        if branch is not None:
            kept = live.branches[branch]
            self._context.truncate(live.lane.sequence)
            self._context.fork(kept.sequence, live.lane.sequence)
            live.lane.tokens = kept.tokens
        self._drop_branches(live, live.branches)

    def _rewind(self, live: Live, position: int) -> bool:
        assert live.lane
        if not self._context.truncate(live.lane.sequence, position):
            return False
        del live.lane.tokens[position:]
        return True

    def _drop_branches(self, live: Live, lanes: list[Lane]) -> None:
        for lane in list(lanes):
            self._free(lane)
            live.branches.remove(lane)
        self._free_cells += live.lent
        live.lent = 0

    # --- what ended generations leave ---------------------------------------------------------------

    def _rest(self, lane: Lane) -> None:
        """Keep what an ended generation held, until room is needed."""
        lane.feed.clear()
        if lane.tokens and len(lane.tokens) <= self._free_cells:
            self._free_cells -= len(lane.tokens)
            self._resting.append(lane)
        else:
            self._free(lane)

    def _adopt(self, live: Live) -> Lane | None:
        """The resting lane that begins most like the prompt, cut to what both have; None where none is worth it.

        One that holds much else is left to its own conversation, while there is room: it can still be shared.
        """
        prompt = live.prompt[:-1]
        lane = max(self._resting, key=lambda lane: _common(prompt, lane.tokens), default=None)
        if lane is None:
            return None
        held = _common(prompt, lane.tokens)
        crowded = len(self._live) + len(self._resting) >= self._most
        if not held or (2 * held < len(lane.tokens) and not crowded):
            return None
        self._resting.remove(lane)
        self._free_cells += len(lane.tokens)
        if held < len(lane.tokens) and not self._context.truncate(lane.sequence, held):
            self._context.truncate(lane.sequence)  # a state that cannot be rewound
            held = 0
        del lane.tokens[held:]
        live.shared = held
        return lane

    def saved(self) -> tuple[list[int], bytes] | None:
        """The tokens and the cells' state of the generation that ended last; None where nothing rests."""
        if not self._resting:
            return None
        lane = self._resting[-1]
        return list(lane.tokens), self._context.save(lane.sequence)

    def restore(self, tokens: Sequence[int], state: bytes) -> bool:
        """Let what `saved` gave rest here. False where it does not fit this context, or there is no room."""
        if not self._make_room(1, len(tokens)):
            return False
        lane = self._new_lane()
        if self._context.load(lane.sequence, state):
            lane.tokens.extend(tokens)
        self._rest(lane)
        return bool(lane.tokens)

    def _has_room(self, sequences: int, cells: int) -> bool:
        free_sequences, free_cells = self.free
        return sequences <= free_sequences and cells <= free_cells

    def _make_room(self, sequences: int, cells: int) -> bool:
        """Free what rests, the oldest first, until so many sequences and cells are free. False where they cannot be."""
        if not self._has_room(sequences, cells):
            return False
        while len(self._free_sequences) < sequences or self._free_cells < cells:
            self._evict()
        return True

    def _evict(self) -> None:
        lane = self._resting.pop(0)
        self._free_cells += len(lane.tokens)
        self._free(lane)

    def _new_lane(self, tokens: Sequence[int] = ()) -> Lane:
        """A lane on the first free sequence: those in use stay together."""
        sequence = min(self._free_sequences)
        self._free_sequences.remove(sequence)
        return Lane(sequence, list(tokens))

    def _free(self, lane: Lane) -> None:
        self._context.truncate(lane.sequence)
        self._free_sequences.append(lane.sequence)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    alike = zip(first, second, strict=False)
    return next((index for index, (one, other) in enumerate(alike) if one != other), min(len(first), len(second)))
