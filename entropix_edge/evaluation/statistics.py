"""How sure a measured accuracy is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

_Z = 1.959964  # of a two-sided 95 % interval
_RESAMPLES = 10_000
_FEWER = 2_000  # resamples, where each costs more


class Interval(NamedTuple):
    """A value between two bounds that hold it in 95 of 100 repetitions."""

    value: float
    low: float
    high: float

    def in_percent(self) -> str:
        """Of a share: in percent, with the bounds in brackets."""
        return "{:.1f} ({:.1f} to {:.1f})".format(*(100 * value for value in self))

    def difference_in_percent(self) -> str:
        """Of a difference of shares: in points, with signs, never a negative zero."""
        return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(round(100 * value, 1) + 0.0 for value in self))


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


def sign_test(won: int, lost: int) -> float:
    """How likely as uneven a split is where each side wins with even odds: two-sided and exact (McNemar's test).

    Args:
        won: problems that only one policy answers right.
        lost: those that only the other does.
    """
    count, fewer = won + lost, min(won, lost)
    return float(min(1.0, 2 * sum(math.comb(count, number) for number in range(fewer + 1)) / 2**count))


def resampled(count: int, resamples: int = _FEWER, *, seed: int = 0) -> Array:
    """How often each of `count` problems is drawn in each resample: shape (resamples, count)."""
    random = np.random.default_rng(seed)
    return random.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)


def mean_interval(values: npt.ArrayLike, *, seed: int = 0) -> Interval:
    """The mean over problems, with a percentile bootstrap.

    Args:
        values: shape (problems,).
        seed: of the resampling.

    Raises:
        ValueError: there are none.
    """
    each = _filled(values)
    return _interval(float(each.mean()), resampled(each.size, seed=seed) @ each / each.size)


def gain_at_equal_cost(
    right: npt.ArrayLike, cost: npt.ArrayLike, curve_right: npt.ArrayLike, curve_cost: npt.ArrayLike, *, seed: int = 0
) -> Interval | None:
    """How much more often one rule is right than a curve of others on the same problems, at equal mean cost.

    The curve is a straight line between its neighbouring points, as if each problem were answered by one of the two
    at random. Resampled problems move both the costs and the accuracies.

    Args:
        right: shape (problems,): the share of right answers.
        cost: shape (problems,).
        curve_right: shape (points, problems): the same of each point of the curve.
        curve_cost: shape (points, problems); the means must rise.
        seed: of the resampling.

    Returns:
        None where the mean cost lies outside the curve.
    """
    ours, spent = _filled(right), _filled(cost)
    points, costs = np.asarray(curve_right, np.float64), np.asarray(curve_cost, np.float64)
    if not costs.mean(axis=1).min() <= spent.mean() <= costs.mean(axis=1).max():
        return None
    weights = np.vstack([np.ones(ours.size), resampled(ours.size, seed=seed)]) / ours.size
    theirs = [
        np.interp(mean, along, heights)
        for mean, along, heights in zip(weights @ spent, weights @ costs.T, weights @ points.T, strict=True)
    ]
    gains = weights @ ours - np.array(theirs)
    return _interval(float(gains[0]), gains[1:])


def auroc(scores: npt.ArrayLike, right: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> Interval | None:
    """How often a right reply has a higher score than a wrong one (a tie counts half), with a bootstrap over groups.

    Args:
        scores: shape (replies,).
        right: shape (replies,): whether each is right.
        groups: shape (replies,): replies with the same number, such as those to one problem, are resampled together;
            None for each alone.

    Returns:
        None where all are right, or none is.
    """
    values, is_right = np.asarray(scores, np.float64), np.asarray(right, np.bool_)
    if is_right.all() or not is_right.any():
        return None
    numbers = np.arange(values.size) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    order = np.argsort(values, kind="stable")
    values, is_right, numbers = values[order], is_right[order], numbers[order]
    last = np.searchsorted(values, values, side="right")  # of those with the same score: the place after the last,
    first = np.searchsorted(values, values, side="left")  # and the first
    counts = np.vstack([np.ones(int(numbers.max()) + 1), resampled(int(numbers.max()) + 1, 1_000)])
    areas = []
    for weights in counts[:, numbers]:
        wrong = np.concatenate([[0.0], np.cumsum(weights * ~is_right)])
        below = (wrong[first] + wrong[last]) / 2
        pairs = weights[is_right].sum() * wrong[-1]
        areas.append((weights * below)[is_right].sum() / pairs if pairs else np.nan)
    found = np.array(areas)
    return _interval(float(found[0]), found[1:][~np.isnan(found[1:])])


def area(scores: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """The same without an interval, for replies of which some are right and some are not."""
    values, is_right = np.asarray(scores, np.float64), np.asarray(right, np.bool_)
    wrong = np.sort(values[~is_right])
    below = np.searchsorted(wrong, values[is_right], "left") + np.searchsorted(wrong, values[is_right], "right")
    return float(below.mean() / 2 / wrong.size)


def _filled(values: npt.ArrayLike) -> Array:
    each = np.asarray(values, np.float64)
    if each.ndim != 1 or not each.size:
        raise ValueError(f"the values have shape {each.shape}: it must be (problems,), at least 1")
    return each


def _interval(value: float, resamples: Array) -> Interval:
    low, high = np.percentile(resamples, [2.5, 97.5])
    return Interval(value, float(low), float(high))
