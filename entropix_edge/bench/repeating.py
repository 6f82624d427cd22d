"""Repetitions: those that something else on the machine disturbed are done again, as often as is reasonable."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .results import Repetitions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .results import Sample

_FAR = 0.1  # raw's pace from the median
_SHARE = 0.1  # of the processors that we compute on, taken by others
_SHORT = 0.2  # seconds in which the system's counts say too little
_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal in /proc/stat


class Moment(NamedTuple):
    """Seconds so far: of the clock, of this process's processors, and of all processors' (None where nobody says)."""

    wall: float
    own: float
    every: float | None


class Load:
    """What other processes take of the processors that we compute on.

    Args:
        threads: of ours.
        processors: of the machine.
        root: the folder that `/proc` is in.
    """

    def __init__(self, threads: int, processors: int | None = None, root: Path = Path("/")) -> None:
        self._threads = threads
        self._spare = max((processors or os.cpu_count() or 1) - threads, 0)
        self._root = root

    def now(self) -> Moment:
        """The counts so far."""
        every = None
        with contextlib.suppress(OSError, ValueError, IndexError):
            ticks = (self._root / "proc/stat").read_text().split("\n", 1)[0].split()[1:]
            every = sum(int(ticks[place]) for place in _BUSY) / os.sysconf("SC_CLK_TCK")
        return Moment(time.perf_counter(), time.process_time(), every)

    def share(self, before: Moment, after: Moment) -> float:
        """The share of our processors that others had between two moments; 0 where that cannot be known."""
        wall = after.wall - before.wall
        if before.every is None or after.every is None or wall < _SHORT:
            return 0.0
        others = ((after.every - before.every) - (after.own - before.own)) / wall
        return max(0.0, others - self._spare) / self._threads


def repeat(once: Callable[[int], Sample], count: int, load: Load) -> Repetitions:
    """A repetition to warm up, then so many; at most as many again, in place of disturbed ones.

    Args:
        once: a repetition; given its number, from 0.
        count: how many are to count.
        load: says what others take.

    Raises:
        KeyboardInterrupt: before one had ended; after that, what there is comes back as interrupted.
    """
    found = Repetitions()
    kept: list[tuple[Sample, bool]] = []
    number = 0
    try:
        once(number)
        while True:
            while len(kept) < count:
                number += 1
                before = load.now()
                sample = once(number)
                kept.append((sample, load.share(before, load.now()) > _SHARE))
            odd = _disturbed(kept)
            again = odd[: count - found.repeated]
            if not again:
                break
            found.repeated += len(again)
            kept = [pair for place, pair in enumerate(kept) if place not in again]
    except KeyboardInterrupt:
        if not kept:
            raise
        found.interrupted = True
    found.samples = [sample for sample, _busy in kept]
    found.disturbed = len(_disturbed(kept))
    return found


def _disturbed(kept: Sequence[tuple[Sample, bool]]) -> list[int]:
    """Which repetitions were: others computed too, or raw went at another pace than in most."""
    median = float(np.median([sample.pace for sample, _busy in kept]))
    far = [len(kept) > 2 and abs(sample.pace / median - 1) > _FAR for sample, _busy in kept]
    return [place for place, (_sample, busy) in enumerate(kept) if busy or far[place]]
