"""What the kernels take, on real rows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..metrics import describe
from ..sampling import draw
from ..strategy import load_preset

if TYPE_CHECKING:
    from collections.abc import Callable

    from .contexts import Contexts

_ROWS = 24  # real rows that the kernels are timed on
_REPEATS = 15  # of each timing; the median counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """Median seconds a token, each in a loop of its own.

    Attributes:
        n_vocab: length of a row.
        maximum: `numpy.max` over the row, to compare with.
        metrics: the metrics kernel.
        draw: one draw with the filters of the preset `article`.
    """

    n_vocab: int
    maximum: float
    metrics: float
    draw: float


def time_kernels(contexts: Contexts) -> Kernels:
    """Time them on the rows that the model gives after a text."""
    raw = contexts.raw(flash=True)
    raw.start(contexts.prompt())
    settings = load_preset("article").sampler.settings()
    times = []
    for _ in range(_ROWS):
        contexts.check()
        raw.step()
        row = raw.logits
        known = describe(row, 0)
        calls = (
            row.max,
            lambda row=row: describe(row, 0),
            lambda row=row, known=known: draw(row, known, settings, 0.5),
        )
        times.append([_median_seconds(call) for call in calls])
    maximum, metrics, drawing = np.median(times, axis=0).tolist()
    return Kernels(n_vocab=contexts.model.n_vocab, maximum=maximum, metrics=metrics, draw=drawing)


def _median_seconds(call: Callable[[], object]) -> float:
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
