"""How sure a measured accuracy is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_Z = 1.959964  # of a two-sided 95 % interval
_RESAMPLES = 10_000


class Interval(NamedTuple):
    """A value between two bounds that hold it in 95 of 100 repetitions."""

    value: float
    low: float
    high: float


def wilson(right: float, count: int) -> Interval:
    """The share of right answers with Wilson's score interval (E. B. Wilson, 1927).

    Args:
        right: how many were right; over several seeds, the mean.
        count: of how many.

    Raises:
        ValueError: `count` is 0, or `right` not between 0 and `count`.
    """
    if not 0 <= right <= count or count == 0:
        raise ValueError(f"{right} right of {count}: it must be from 0 to the count, which must be at least 1")
    share = right / count
    scale = 1 + _Z**2 / count
    middle = (share + _Z**2 / (2 * count)) / scale
    half = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / scale
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def paired_difference(ours: npt.ArrayLike, theirs: npt.ArrayLike, *, seed: int = 0) -> Interval:
    """The mean difference on the same problems, with a percentile bootstrap over the problems.

    Args:
        ours: shape (problems,): 1 for a right answer, 0 for a wrong one, or the mean of several seeds.
        theirs: the same of the other policy, in the same order.
        seed: of the resampling.

    Raises:
        ValueError: the two are not of one length, or empty.
    """
    differences = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    if differences.ndim != 1 or not differences.size:
        raise ValueError(f"the differences have shape {differences.shape}: it must be (problems,), at least 1")
    random = np.random.default_rng(seed)
    means = [differences[random.integers(differences.size, size=differences.size)].mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(differences.mean()), float(low), float(high))
