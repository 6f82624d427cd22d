"""A job: one generation that the scheduler runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Sequence

    from ..errors import EntropixError
    from ..types import Feed, Row
    from .protocols import Generation
    from .slots import Slot


@dataclass(eq=False, slots=True)
class Job:
    """A generation that the scheduler runs, and what it holds.

    Attributes:
        capacity: cells that it may ever hold.
        cells: cells promised to it now; it gets more as it grows.
        decoded: tokens decoded for it so far, its prompt and all its branches included.
        cached: tokens of its prompt that were in the KV cache already.
        waits_for: a job that decodes what this one begins with, its slot, and how many tokens of it this one wants.
        ended: nothing more will come of it.
        error: what ended it, where it failed.
    """

    coroutine: Generation
    capacity: int
    cells: int
    prompt: Sequence[int]
    notices: deque[tuple[Job, bool]]  # the scheduler's
    number: int = 0
    slot: Slot | None = None
    branches: list[Slot] = field(default_factory=list)
    lent: int = 0  # cells promised to its branches
    request: Feed | None = None
    rows: list[Row] = field(default_factory=list)  # of branches, until all have theirs
    looks_for_prefix: bool = True  # before its first decode in a slot
    waits_for: tuple[Job, Slot, int] | None = None
    decoded: int = 0
    cached: int = 0
    ended: bool = False
    error: EntropixError | None = None

    def cancel(self) -> None:
        """End it before the next decode; its last event says so. From any thread."""
        self.notices.append((self, False))

    def drop(self) -> None:
        """End it before the next decode, without a last event. From any thread."""
        self.notices.append((self, True))
