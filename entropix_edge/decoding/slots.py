"""Slots: sequences of the KV cache, how many cells are promised to whom, and what ended jobs left to be reused.

A slot that a job has left is a cached prefix: a prompt that begins alike goes on from it. Cached prefixes are evicted,
the oldest first, when their sequences or cells are needed.
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
        sequence: its number in the KV cache.
        tokens: that its cells hold.
        pending: tokens that are to be decoded after them.
        prompt_end: the row after the prompt, while the cells hold it.
    """

    sequence: int
    tokens: list[int] = field(default_factory=list)
    pending: deque[int] = field(default_factory=deque)
    prompt_end: PromptEnd | None = None

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
        self._cached: list[Slot] = []  # the oldest first

    @property
    def free(self) -> tuple[int, int]:
        """Sequences and cells that no job holds; cached prefixes count as free."""
        cached = sum(len(slot.tokens) for slot in self._cached)
        return len(self._free_sequences) + len(self._cached), self._free_cells + cached

    @property
    def cached(self) -> Sequence[Slot]:
        """The cached prefixes, the oldest first."""
        return self._cached

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
            self._evict()
        self._free_cells -= cells
        return True

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
        slot = self._reuse(prompt, crowded=running + len(self._cached) >= self._most_jobs)
        reserved = self.reserve(cells, 0 if slot else 1)
        assert reserved
        while self._cached and running + len(self._cached) >= self._most_jobs:
            self._evict()  # cells that no job attends to cost time in every decode
        return slot or self.open()

    def open(self, tokens: Sequence[int] = ()) -> Slot:
        """A slot on the first free sequence: those in use stay together."""
        sequence = min(self._free_sequences)
        self._free_sequences.remove(sequence)
        return Slot(sequence, list(tokens))

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
        self._context.fork(donor.sequence, slot.sequence)
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
            self._free_cells -= len(slot.tokens)
            self._cached.append(slot)
        else:
            self.close(slot)

    def forget(self) -> None:
        """Evict every cached prefix."""
        while self._cached:
            self._evict()

    def saved(self) -> tuple[list[int], bytes] | None:
        """The tokens and the state of the newest cached prefix; None where there is none."""
        if not self._cached:
            return None
        slot = self._cached[-1]
        return list(slot.tokens), self._context.save(slot.sequence)

    def restore(self, tokens: Sequence[int], state: bytes) -> bool:
        """Make what `saved` gave a cached prefix. False where it does not fit this context, or there is no capacity."""
        if not self.reserve(len(tokens), 1):
            return False
        slot = self.open()
        if self._context.load(slot.sequence, state):
            slot.tokens.extend(tokens)
        self.give_back(len(tokens))
        self.keep(slot)
        return bool(slot.tokens)

    def _reuse(self, prompt: Sequence[int], *, crowded: bool) -> Slot | None:
        """The cached prefix that begins most like the prompt, cut to what both have; None where none is worth it.

        One that holds much else is left to its own conversation: it can still be shared. But where one has to be
        evicted now, it is the one to go if it is the oldest, or holds the whole prompt, of which another reply is
        wanted.
        """
        held, slot = longest(prompt, self._cached)
        if slot is None:
            return None
        held = slot.reusable(prompt, held)
        gives_way = crowded and (slot is self._cached[0] or held >= len(prompt) - 1)
        if 2 * held < len(slot.tokens) and not gives_way:
            return None
        self._cached.remove(slot)
        self._free_cells += len(slot.tokens)
        if held < len(slot.tokens) and not self.truncate(slot, held):
            self._clear(slot)
        return slot

    def _clear(self, slot: Slot) -> None:
        self._context.truncate(slot.sequence)
        slot.tokens, slot.prompt_end = [], None

    def _evict(self) -> None:
        slot = self._cached.pop(0)
        self._free_cells += len(slot.tokens)
        self.close(slot)


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
