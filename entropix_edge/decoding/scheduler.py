"""The scheduler: every job's tokens in one batch, one decode, each job its rows.

It is the trampoline of the generations' coroutines. Jobs may be added, cancelled and dropped from any thread and at
any time; `step` takes note of that between decodes, and is called by one thread at a time.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from typing import TYPE_CHECKING

from ..errors import ContextError, EntropixError
from ..types import Cell, Feed, Fork, Keep, Rewind, Row
from .job import Job
from .protocols import Cancelled
from .slots import PromptEnd, Slots, longest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..types import Request
    from .protocols import Answer, Decoder, Generation
    from .slots import Slot

GROWTH = 64
"""Cells that are promised at a time to a job whose length nobody knows."""


_new = tuple.__new__  # what a named tuple's own way to be made comes to, without a function of Python's


class Scheduler:
    """Runs jobs side by side on one context.

    Args:
        context: no one else decodes in it meanwhile.
        most_jobs: how many run at once; None for one in each sequence. The sequences beyond are for their branches.
        prompt_chunk: most prompt tokens in a decode that also carries a reply's next token; 0 for no limit.
        same_shapes: decode each prompt alone and from its beginning, the replies' next tokens apart from it; no
            prefix is cached.

    Attributes:
        notices: jobs that are to be cancelled, or (with True) dropped, before the next decode.
    """

    def __init__(
        self, context: Decoder, most_jobs: int | None = None, *, prompt_chunk: int = 0, same_shapes: bool = False
    ) -> None:
        self._context = context
        self._most_jobs = most_jobs or context.sequences
        self._prompt_chunk = prompt_chunk
        self._same_shapes = same_shapes
        self._numbers = itertools.count()
        self._inbox: deque[Job] = deque()
        self.notices: deque[tuple[Job, bool]] = deque()
        self._waiting: deque[Job] = deque()  # by their numbers
        self._running: list[Job] = []  # by their numbers
        self.slots = Slots(context, self._most_jobs)

    @property
    def free(self) -> tuple[int, int]:
        """Sequences and cells that no job holds."""
        return self.slots.free

    @property
    def jobs(self) -> tuple[int, int]:
        """How many jobs run, and how many wait."""
        return len(self._running), len(self._waiting) + len(self._inbox)

    def add(
        self, coroutine: Generation, capacity: int, prompt: Sequence[int] = (), *, reserve: int | None = None
    ) -> Job:
        """Queue a generation. From any thread.

        Args:
            coroutine: not begun yet.
            capacity: cells that its prompt and its reply may ever hold.
            prompt: what it will ask for first, so that it can go on from a cached prefix.
            reserve: cells to begin with, where it may well need fewer than it may hold; None for all.

        Raises:
            ContextError: that many can never be free.
        """
        if capacity > self._context.room:
            raise ContextError(f"a generation of {capacity} tokens does not fit a context of {self._context.room}")
        job = Job(coroutine, capacity, min(reserve or capacity, capacity), prompt, self.notices)
        self._inbox.append(job)
        return job

    def step(self) -> bool:
        """Admit what waits, decode once what all want, and let each go on. False where no job is left.

        An error ends the job that raised it; the others run on.
        """
        if self._inbox or self.notices:
            self.settle()
        if self._waiting:
            for job in self._admit():
                if job.request is None:
                    self._advance(job, None)
                elif job.slot and not job.slot.pending:
                    self._advance(job, job.slot.row_after(len(job.slot.tokens)))
        cells, fed = self._batch()
        if cells:
            self._decode(cells, fed)
        return bool(self._running or self._waiting)

    def settle(self) -> None:
        """Take note of jobs that were added, cancelled and dropped; decodes nothing."""
        while self._inbox:
            job = self._inbox.popleft()
            job.number = next(self._numbers)
            self._waiting.append(job)
        while self.notices:
            job, silently = self.notices.popleft()
            if silently:
                self.remove(job)
            else:
                self._stop(job)

    def remove(self, job: Job) -> None:
        """End a job without a last event. One that has ended is left alone."""
        job.coroutine.close()
        job.ended = True
        if job in self._waiting:
            self._waiting.remove(job)
        if job in self._running:
            self._running.remove(job)
            leave = self.slots.close if self._same_shapes else self.slots.keep
            leave(self._leave_slot(job))

    def close(self, error: EntropixError | None = None) -> None:
        """End every job without a last event, or with an error, and free what they leave."""
        self.settle()
        for job in [*self._running, *self._waiting]:
            job.error = error
            self.remove(job)
        self.slots.forget()

    # --- who runs -----------------------------------------------------------------------------------

    def _admit(self) -> list[Job]:
        """Start waiting jobs, in their order, while there is capacity for the next."""
        admitted = []
        while self._waiting and len(self._running) < self._most_jobs:
            job = self._waiting[0]
            if not self.slots.has_capacity(1, job.cells):
                break
            self._waiting.popleft()
            expected = job.prompt if job.request is None else job.request.tokens
            job.slot = self.slots.acquire(expected, job.cells, len(self._running))
            if job.request is None:
                job.cached = len(job.slot.tokens)
            else:
                job.slot.pending.extend(job.request.tokens[len(job.slot.tokens) :])
            self._running.append(job)
            self._running.sort(key=lambda job: job.number)
            admitted.append(job)
        return admitted

    def _leave_slot(self, job: Job) -> Slot:
        """Take a job's slot from it, its branches and all promises of cells with it."""
        assert job.slot
        self._close_branches(job)
        self.slots.give_back(job.cells)
        slot, job.slot = job.slot, None
        job.looks_for_prefix = True
        return slot

    def _preempt(self, job: Job) -> None:
        """Let a job wait until there are cells for it: what it holds will be decoded again, nothing is lost.

        It comes back when there is capacity for an eighth of the context more than it holds, or for all that it may
        ever hold: else it would soon be back here.
        """
        assert job.slot
        assert job.request
        tokens = (*job.slot.tokens, *job.slot.pending)
        self._running.remove(job)
        self.slots.close(self._leave_slot(job))
        job.request = Feed(tokens)
        job.cells = min(job.capacity, len(tokens) + max(GROWTH, self._context.n_ctx // 8))
        self._waiting.appendleft(job)

    def _grow(self, job: Job, needed: int) -> bool:
        """Promise a job the cells that it needs now. False where it must wait, at least for this decode.

        Cached prefixes are evicted for it; after these, jobs that came later give up their slots.
        """
        wanted = min(job.capacity, max(needed, job.cells + GROWTH))
        while True:
            for cells in (wanted, needed):
                if self.slots.reserve(cells - job.cells):
                    job.cells = cells
                    return True
            newest = self._running[-1]
            if newest.branches:
                return False  # its branches end soon
            self._preempt(newest)
            if newest is job:
                return False

    # --- one decode ---------------------------------------------------------------------------------

    def _batch(self) -> tuple[list[Cell], list[tuple[Job, Slot, int]]]:
        """The next tokens of every slot: single tokens first, then as much prompt as fits.

        Single tokens always fit: a batch holds as many tokens as there are sequences. They stand in the order of their
        sequences: llama.cpp computes neighbours together.
        """
        ready = self._ready()
        if self._same_shapes:
            ready = [pair for pair in ready if len(pair[1].pending) > 1][:1] or ready
        most = self._context.n_batch
        if len(ready) > 1:
            ready.sort(key=lambda pair: (len(pair[1].pending) > 1, pair[1].sequence))
            singles = sum(len(slot.pending) == 1 for _job, slot in ready)
            if singles and self._prompt_chunk:
                most = min(most, singles + self._prompt_chunk)
        cells: list[Cell] = []
        fed: list[tuple[Job, Slot, int]] = []
        for job, slot in ready:
            if len(cells) >= most:
                break
            tokens, pending = slot.tokens, slot.pending
            if len(pending) == 1:
                cells.append(_new(Cell, (pending[0], len(tokens), slot.sequence, True)))
                fed.append((job, slot, 1))
                continue
            count = min(len(pending), most - len(cells))
            last = len(tokens) + len(pending) - 1
            for place, token in enumerate(itertools.islice(pending, count), len(tokens)):
                cells.append(Cell(token, place, slot.sequence, wanted=place == last))
            fed.append((job, slot, count))
        return cells, fed

    def _ready(self) -> list[tuple[Job, Slot]]:
        """The slots with tokens to decode, and cells to hold them."""
        ready: list[tuple[Job, Slot]] = []
        for job in self._running[:]:
            slot = job.slot  # None where a job before this one took its cells
            if slot is None or (job.looks_for_prefix and not self._share_prefix(job, slot)):
                continue
            if slot.pending:
                needed = len(slot.tokens) + len(slot.pending)
                if needed <= job.cells or self._grow(job, needed):
                    ready.append((job, slot))
            if job.branches:
                ready += [(job, branch) for branch in job.branches if branch.pending]
        return ready

    def _share_prefix(self, job: Job, slot: Slot) -> bool:
        """Let a job that begins hold what it has in common with another slot, instead of decoding it.

        False while a job that came earlier still decodes that, and it is more than twice what this one holds: it waits.
        False too where all was held, and the first token ended it.
        """
        if job.waits_for:
            earlier_job, its_slot, wanted_of_it = job.waits_for
            if earlier_job.slot is its_slot and len(its_slot.tokens) < wanted_of_it:
                return False
            job.waits_for = None
        own = slot.tokens  # from a cached prefix
        wanted = [*own, *slot.pending]
        others = {other.slot: other for other in self._running if other.slot and other is not job}
        held, donor = longest(wanted, [*self.slots.cached, *others], len(own))
        earlier = [theirs for theirs, other in others.items() if other.number < job.number]
        coming, theirs = longest(wanted, earlier, max(held, 2 * len(own)), coming=True)
        if theirs:
            job.waits_for = others[theirs], theirs, coming
            return False
        job.looks_for_prefix = False
        held = donor.reusable(wanted, held) if donor else 0
        if donor is None or held <= len(own) or (self._same_shapes and held < len(wanted)):
            return True
        if not self.slots.share(slot, donor, held):
            slot.pending.extendleft(reversed(own))
            held = 0
        for _ in range(held - len(own)):
            slot.pending.popleft()
        if job.decoded == 0:
            job.cached = held
        if not slot.pending:
            self._advance(job, slot.row_after(held))
        return job.slot is slot

    def _decode(self, cells: list[Cell], fed: list[tuple[Job, Slot, int]]) -> None:
        """Decode a batch, and give each job its rows."""
        try:
            rows = self._context.decode(cells)
        except ContextError as error:
            for job, _slot, _count in fed:
                self._fail(job, error)
            return
        if rows is None:  # the whole engine is asked to stop
            for job in list(self._running):
                self._stop(job)
            return
        fresh = iter(rows)
        for job, slot, count in fed:
            job.decoded += count
            tokens, pending = slot.tokens, slot.pending
            for _ in range(count):
                tokens.append(pending.popleft())
            if pending:
                continue
            assert job.request
            branches, row = job.request.branches, next(fresh)
            if not branches:
                if count > 1:
                    slot.prompt_end = PromptEnd(len(tokens), Row(row.logits.copy(), row.attention))
                self._advance(job, row)
                continue
            job.rows.append(row)
            if len(job.rows) == len(branches):
                answer, job.rows = tuple(job.rows), []
                self._advance(job, answer)

    def _advance(self, job: Job, answer: Answer) -> None:
        """Give a generation its answer, serve what it asks for, and note the tokens that it wants decoded."""
        slot = job.slot
        assert slot
        try:
            while True:
                request = job.coroutine.send(answer)
                if not isinstance(request, Feed):
                    answer = self._serve(job, request)
                    continue
                is_first, job.request = job.request is None, request
                tokens, branches = request
                if branches:
                    for branch, token in zip(branches, tokens, strict=True):
                        job.branches[branch].pending.append(token)
                    return
                slot.pending.extend(tokens[job.cached :] if is_first else tokens)
                if slot.pending:
                    return
                answer = slot.row_after(len(slot.tokens))
        except StopIteration:
            self.remove(job)
        except EntropixError as error:
            self._fail(job, error)

    def _fail(self, job: Job, error: EntropixError) -> None:
        job.error = error  # before it has ended, for who reads in another thread
        self.remove(job)

    def _stop(self, job: Job) -> None:
        """Let a generation emit its last event, and end it."""
        if job.ended:
            return
        if job.request is None:
            job.coroutine.send(None)  # a coroutine that has not begun cannot answer
        with contextlib.suppress(StopIteration):
            job.coroutine.throw(Cancelled())
        self.remove(job)

    # --- what a generation may ask ------------------------------------------------------------------

    def _serve(self, job: Job, request: Request) -> bool | None:
        """Do at once what needs no decode."""
        assert job.slot
        match request:
            case Fork(children, horizon):
                return self._fork(job, children, horizon)
            case Keep(branch):
                if branch is not None:
                    self._keep(job, job.slot, job.branches[branch])
                self._close_branches(job)
                return None
            case Rewind(position):
                return self.slots.rewind(job.slot, position)
            case _:
                raise AssertionError(f"not served at once: {request}")

    def _fork(self, job: Job, children: int, horizon: int) -> bool:
        """Make branches, where there are sequences and cells for them."""
        assert job.slot
        lent = max(0, children * horizon - (job.cells - len(job.slot.tokens)))
        if job.branches or not self.slots.reserve(lent, children):
            return False
        job.lent = lent
        job.branches = [self.slots.fork(job.slot) for _ in range(children)]
        return True

    def _keep(self, job: Job, slot: Slot, branch: Slot) -> None:
        """Let a branch take the slot's place; cells lent to it that the job now needs become the job's own."""
        self.slots.replace(slot, branch)
        grown = max(0, len(slot.tokens) - job.cells)
        job.cells += grown
        job.lent -= grown

    def _close_branches(self, job: Job) -> None:
        for branch in job.branches:
            self.slots.close(branch)
        job.branches = []
        self.slots.give_back(job.lent)
        job.lent = 0
