"""The memory that the kernels of the distribution work in: where each thing lies in it, and who owns it.

In bytes: 64 of results, and for a row of so many logits weights (float64), indices (int64), values (float32), and
two rows of maxima (float32).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

# Results of `describe`, all of them doubles.
MAXIMUM, LOG_TOTAL, ENTROPY, VARENTROPY = 0, 1, 2, 3

# Results of `draw`, and their types.
COUNT, MASS = 0, 1
_DRAWN = struct.Struct("qd").unpack_from

FAN = 8  # numbers whose maximum decides whether any of them is looked at


def folded(size: int) -> int:
    """How many maxima a row of numbers folds to."""
    return (size + FAN - 1) // FAN


def weights_at(scratch: int) -> int:
    """Where the weights begin, of a scratch that begins at an address."""
    return scratch + 64


def indices_at(scratch: int, size: int) -> int:
    """Where the indices begin, for a row of so many logits."""
    return scratch + 64 + 8 * size


def values_at(scratch: int, size: int) -> int:
    """Where the values begin."""
    return scratch + 64 + 16 * size


def maxima_at(scratch: int, size: int) -> int:
    """Where the maxima of the row begin."""
    return scratch + 64 + 20 * size


def top_maxima_at(scratch: int, size: int) -> int:
    """Where the maxima of the maxima begin."""
    return scratch + 64 + 20 * size + 4 * ((size + FAN - 1) // FAN)  # `folded`, which numba could not call from here


class Scratch:
    """A scratch for rows of up to so many logits, and where the row is that was looked at last.

    Attributes:
        n_vocab: logits of the longest row.
        address: where it begins.
        logits: the row that it is for.
        row: where that begins.
        size: how many logits it has.
        described: what `describe` left: maximum, log-sum-exp, entropy, varentropy.
    """

    __slots__ = ("_results", "_words", "address", "described", "logits", "n_vocab", "row", "size")

    def __init__(self, n_vocab: int) -> None:
        self.n_vocab = n_vocab
        n_bytes = top_maxima_at(0, n_vocab) + 4 * folded(folded(n_vocab))
        self._words: npt.NDArray[np.float64] = np.empty(-(-n_bytes // 8), np.float64)
        self._results: memoryview = self._words[:8].data
        self.described: memoryview = self._words[: VARENTROPY + 1].data
        self.address: int = self._words.ctypes.data
        self.logits: npt.NDArray[np.float32] | None = None
        self.row = self.size = 0

    def look_at(self, logits: npt.NDArray[np.float32]) -> None:
        """Be for another row.

        Raises:
            TypeError: it is not a contiguous row of float32, or empty.
        """
        if logits.dtype != np.float32 or logits.strides != (4,) or not logits.size:
            raise TypeError(
                "logits are a contiguous row of float32, "
                f"not {logits.dtype} of shape {logits.shape} with strides {logits.strides}"
            )
        self.row, self.size, self.logits = logits.ctypes.data, logits.size, logits

    def survivors(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], float]:
        """What `draw` left: copies of the indices and weights, and the weights' sum."""
        count, mass = _DRAWN(self._results)
        weights, indices = weights_at(0) // 8, indices_at(0, self.size) // 8
        words = self._words
        return words[indices : indices + count].view(np.int64).copy(), words[weights : weights + count].copy(), mass


_idle: list[Scratch] = []  # as many as threads ever needed at once; one of each thread's own costs more to look up


def scratch(logits: npt.NDArray[np.float32]) -> Scratch:
    """A scratch for a row of logits that is nobody else's until it is given back.

    Mostly it is the one that was for this row before: asking numpy costs more than what is done there.

    Raises:
        TypeError: it is not a contiguous row of float32, or empty.
    """
    try:
        found = _idle.pop()
    except IndexError:
        found = Scratch(logits.size)
    if found.logits is not logits:
        if found.n_vocab < logits.size:
            found = Scratch(logits.size)
        found.look_at(logits)
    return found


give_back: Callable[[Scratch], None] = _idle.append
"""Let others have a scratch. What is in it is theirs to write over."""
