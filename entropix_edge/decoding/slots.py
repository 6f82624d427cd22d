"""Slots: sequences of the KV cache, how many cells are promised to whom, and what ended jobs left to be reused.

A slot that a job has left is a cached prefix: a prompt that begins alike goes on from it. Cached prefixes are evicted,
the oldest first, when their sequences or cells are needed. In one pool every token is also computed against the cells
of cached prefixes, only to be masked: so all but the newest are swapped out, into memory of the process.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..types import Row
    from .protocols import Decoder

_BLOCK = 1024  # tokens compared at once
_PADDING = 256  # cells that llama.cpp looks at more or fewer of
_NOWHERE = -1


class PromptEnd(NamedTuple):
    """The row after a prompt, kept: with its last token decoded alone, the row's last digits would differ.

    Attributes:
        length: of the prompt, in tokens.
        row: of its last token.
    """

    length: int
    row: Row


@dataclass(eq=False, slots=True)
class Slot:
    """One sequence in use.

    Attributes:
        sequence: its number in the KV cache; of one that is swapped out, none.
        tokens: that its cells hold.
        pending: tokens that are to be decoded after them.
        prompt_end: the row after the prompt, while the cells hold it.
        state: what its cells held, while it is swapped out.
    """

    sequence: int
    tokens: list[int] = field(default_factory=list)
    pending: deque[int] = field(default_factory=deque)
    prompt_end: PromptEnd | None = None
    state: bytes | memoryview | None = None

    def row_after(self, position: int) -> Row | None:
        """The row after so many tokens, where it was kept."""
        end = self.prompt_end
        return end.row if end and end.length == position else None

    def reusable(self, prompt: Sequence[int], common: int) -> int:
        """How many of the `common` first tokens can be reused for a prompt: its last one only with the row after it."""
        return common if common < len(prompt) or self.row_after(common) else common - 1

    def token(self, index: int, *, coming: bool) -> int | None:
        """The token at a place, where it holds one; or, with `coming`, is to decode one there."""
        if index < len(self.tokens):
            return self.tokens[index]
        index -= len(self.tokens)
        return self.pending[index] if coming and index < len(self.pending) else None


class Slots:
    """The only owner of sequences and cells. Not safe for several threads.

    Args:
        context: whose sequences they are.
        most_jobs: how many jobs may run at once; the sequences beyond are for their branches.
    """

    def __init__(self, context: Decoder, most_jobs: int) -> None:
        self._context = context
        self._most_jobs = most_jobs
        self._free_sequences = list(range(context.sequences))
        self._free_cells = context.n_ctx
        self._touched_cells = 0  # of the pool, at most: the system gives memory where it is written to
        self._cached: list[Slot] = []  # the oldest first

    @property
    def free(self) -> tuple[int, int]:
        """Sequences and cells that no job holds; cached prefixes count as free."""
        inside = self._inside()
        return len(self._free_sequences) + len(inside), self._free_cells + _cells(inside)

    @property
    def cached(self) -> Sequence[Slot]:
        """The cached prefixes: first those that need not be swapped in, each kind the oldest first."""
        return sorted(self._cached, key=lambda slot: slot.state is not None)

    def _inside(self) -> list[Slot]:
        """The cached prefixes that are not swapped out."""
        return [slot for slot in self._cached if slot.state is None]

    # --- capacity -----------------------------------------------------------------------------------

    def has_capacity(self, sequences: int, cells: int) -> bool:
        """Whether so many are free, or would be without the cached prefixes."""
        free_sequences, free_cells = self.free
        return sequences <= free_sequences and cells <= free_cells

    def reserve(self, cells: int, sequences: int = 0) -> bool:
        """Promise cells, and see that so many sequences can be opened. False, and nothing done, where that cannot be.

        Cached prefixes are evicted as far as that needs it.
        """
        if not self.has_capacity(sequences, cells):
            return False
        while len(self._free_sequences) < sequences or self._free_cells < cells:
            self._evict(self._inside()[0])
        self._take_cells(cells)
        return True

    def _take_cells(self, cells: int) -> None:
        """Count cells as used; what is swapped out must not need more memory than the pool has left untouched."""
        self._free_cells -= cells
        self._touched_cells = max(self._touched_cells, self._context.n_ctx - self._free_cells)
        for slot in [slot for slot in self._cached if slot.state is not None]:
            if self._may_swap(0):
                return
            self._evict(slot)

    def give_back(self, cells: int) -> None:
        """Take back a promise of cells."""
        self._free_cells += cells

    # --- slots --------------------------------------------------------------------------------------

    def acquire(self, prompt: Sequence[int], cells: int, running: int) -> Slot:
        """A slot for a job, with `cells` promised to it; `has_capacity(1, cells)` must hold.

        Args:
            prompt: what the job will ask for first: its slot already holds what a cached prefix has of it.
            cells: see `reserve`.
            running: jobs that run already.
        """
        held, slot = self._reuse(prompt, crowded=running + len(self._cached) >= self._most_jobs)
        reserved = self.reserve(cells, 0 if slot and slot.state is None else 1)
        assert reserved
        while self._cached and running + len(self._cached) >= self._most_jobs:
            self._evict(self._cached[0])  # cells that no job attends to cost time in every decode
        if slot is None:
            slot = self.open()
        elif slot.state is not None:
            self._swap_in(slot)
        if held < len(slot.tokens) and not self.truncate(slot, held):
            self._clear(slot)
        return slot

    def open(self, tokens: Sequence[int] = ()) -> Slot:
        """A slot on the first free sequence: those in use stay together."""
        return Slot(self._first_free(), list(tokens))

    def _first_free(self) -> int:
        sequence = min(self._free_sequences)
        self._free_sequences.remove(sequence)
        return sequence

    def fork(self, slot: Slot) -> Slot:
        """A slot that shares all that another holds."""
        child = self.open(slot.tokens)
        self._context.fork(slot.sequence, child.sequence)
        return child

    def replace(self, slot: Slot, child: Slot) -> None:
        """Let a slot hold what a child of it holds, so that the slots of jobs stay together."""
        self._context.truncate(slot.sequence)
        self._context.fork(child.sequence, slot.sequence)
        slot.tokens = child.tokens

    def truncate(self, slot: Slot, position: int) -> bool:
        """Drop what a slot holds from a position on. False, and nothing done, where its state cannot be rewound."""
        if not self._context.truncate(slot.sequence, position):
            return False
        del slot.tokens[position:]
        if slot.prompt_end and slot.prompt_end.length > position:
            slot.prompt_end = None
        return True

    def rewind(self, slot: Slot, position: int) -> bool:
        """Truncate a slot, and see that the row before the position can be had again: kept, or by another decode."""
        if slot.row_after(position):
            return self.truncate(slot, position)
        last = slot.tokens[position - 1]
        if not self.truncate(slot, position - 1):
            return False
        slot.pending.append(last)
        return True

    def share(self, slot: Slot, donor: Slot, count: int) -> bool:
        """Let a slot hold the first tokens of another, and no others. False, and it is empty, where that cannot be."""
        self._clear(slot)
        if donor.state is None:
            self._context.fork(donor.sequence, slot.sequence)
        elif not self._context.load(slot.sequence, donor.state):
            return False
        slot.tokens, slot.prompt_end = donor.tokens[:], donor.prompt_end
        if self.truncate(slot, count):
            return True
        self._clear(slot)
        return False

    def close(self, slot: Slot) -> None:
        """Free a slot and its cells."""
        self._context.truncate(slot.sequence)
        self._free_sequences.append(slot.sequence)

    # --- cached prefixes ----------------------------------------------------------------------------

    def keep(self, slot: Slot) -> None:
        """Make a slot that its job has left a cached prefix. The cells promised to the job are given back before."""
        slot.pending.clear()
        if slot.tokens and len(slot.tokens) <= self._free_cells:
            self._take_cells(len(slot.tokens))
            self._cached.append(slot)
            if self._context.swaps:
                self._swap_out()
        else:
            self.close(slot)

    def forget(self) -> None:
        """Evict every cached prefix."""
        while self._cached:
            self._evict(self._cached[0])

    def saved(self) -> tuple[list[int], bytes | memoryview] | None:
        """The tokens and the state of the newest cached prefix; None where there is none."""
        if not self._cached:
            return None
        slot = self._cached[-1]
        return list(slot.tokens), self._context.save(slot.sequence) if slot.state is None else slot.state

    def restore(self, tokens: Sequence[int], state: bytes | memoryview) -> bool:
        """Make what `saved` gave a cached prefix. False where it does not fit this context, or there is no capacity."""
        if not self.reserve(len(tokens), 1):
            return False
        slot = self.open()
        if self._context.load(slot.sequence, state):
            slot.tokens.extend(tokens)
        self.give_back(len(tokens))
        self.keep(slot)
        return bool(slot.tokens)

    def _reuse(self, prompt: Sequence[int], *, crowded: bool) -> tuple[int, Slot | None]:
        """How many tokens of which cached prefix a prompt goes on from; 0 and None where none is worth it.

        It is the one that begins most like the prompt. One that holds much else is left to its own conversation: it
        can still be shared. But where one has to be evicted now, it is the one to go if it is the oldest, or holds the
        whole prompt, of which another reply is wanted.
        """
        held, slot = longest(prompt, self._cached)
        if slot is None:
            return 0, None
        held = slot.reusable(prompt, held)
        gives_way = crowded and (slot is self._cached[0] or held >= len(prompt) - 1)
        if 2 * held < len(slot.tokens) and not gives_way:
            return 0, None
        self._cached.remove(slot)
        if slot.state is None:
            self._free_cells += len(slot.tokens)
        return held, slot

    def _clear(self, slot: Slot) -> None:
        self._context.truncate(slot.sequence)
        slot.tokens, slot.prompt_end = [], None

    def _evict(self, slot: Slot) -> None:
        self._cached.remove(slot)
        if slot.state is None:
            self._free_cells += len(slot.tokens)
            self.close(slot)

    # --- swapping -----------------------------------------------------------------------------------

    def _may_swap(self, cells: int) -> bool:
        """Whether so many more cells may be swapped out: with them, the process needs no more than a full pool does."""
        swapped = _cells(slot for slot in self._cached if slot.state is not None)
        return swapped + cells <= self._context.n_ctx - self._touched_cells

    def _swap_out(self) -> None:
        """Swap out cached prefixes, the oldest first, but for the newest and for cells that cost nothing."""
        inside = self._inside()
        left = _cells(inside)
        for slot in inside[:-1]:
            if left > _PADDING and self._may_swap(len(slot.tokens)):
                left -= len(slot.tokens)
                slot.state = self._context.save(slot.sequence)
                self._free_cells += len(slot.tokens)
                self.close(slot)
                slot.sequence = _NOWHERE

    def _swap_in(self, slot: Slot) -> None:
        """Let a slot have a sequence and its cells again; it is empty where that cannot be."""
        assert slot.state is not None
        slot.sequence = self._first_free()
        if not self._context.load(slot.sequence, slot.state):
            slot.tokens, slot.prompt_end = [], None
        slot.state = None


def _cells(slots: Iterable[Slot]) -> int:
    return sum(len(slot.tokens) for slot in slots)


def longest(
    wanted: Sequence[int], slots: Iterable[Slot], least: int = 0, *, coming: bool = False
) -> tuple[int, Slot | None]:
    """The slot that begins most like `wanted`, the first of equals, after how many tokens they have in common.

    A slot is compared only where it agrees with the token after the most that was found: so many slots that begin alike
    cost one comparison, not one each.

    Args:
        wanted: the tokens.
        slots: what to look among.
        least: a slot must have more than so many in common, else it is None.
        coming: count what a slot is still to decode, too.
    """
    most, found = least, None
    for slot in slots:
        if most < len(wanted) and slot.token(most, coming=coming) == wanted[most]:
            length = common_length(wanted, [*slot.tokens, *slot.pending] if coming else slot.tokens)
            if length > most:
                most, found = length, slot
    return most, found


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    most = min(len(first), len(second))
    for start in range(0, most, _BLOCK):
        one, other = list(first[start : start + _BLOCK]), list(second[start : start + _BLOCK])
        if one != other:  # compared in C
            alike = zip(one, other, strict=False)
            return start + next((index for index, pair in enumerate(alike) if pair[0] != pair[1]), most - start)
    return most
