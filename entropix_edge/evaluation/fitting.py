"""When a model's answers are right, fitted to answers that were judged: a small logistic model, and how good it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..confidence import QUANTILES, Fit, Rank, scaled, vote_features
from ..errors import ConfigError
from .statistics import area

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from .samples import Sample

    Array = npt.NDArray[np.float64]

LEAST_PROBLEMS = 300
"""To how many problems a fit should be made: with fewer the probabilities are off by more than they say."""

OF_ANY = ("summed_entropy", "length", "worst_64", "answer_greatest_entropy")
OF_NUMBERS = ("summed_entropy", "length", "number_summed_entropy", "answer_greatest_entropy", "wrong_results")
OF_VOTES = ("agreement", "mean_summed_entropy", "vote_entropy")
_KIND_OF_ANY = ("length",)
_KIND_OF_NUMBERS = ("length", "number_share", "result_count")
_RIDGE = 1.0  # on standardised weights: that of a unit normal prior
_FOLDS, _REPEATS = 10, 5
_BINS = 10
_TAIL = 0.01  # the share of replies that lie on each side of the range of what tells their kind
_LENGTHS = (8, 16, 32, 64, 96)  # tokens
_LEAST_REPLIES = 20


@dataclass(frozen=True, slots=True)
class Judged:
    """One problem's answer: what is known of the reply, and whether it is right.

    Attributes:
        problem: its id.
        features: of the chosen reply, and of the vote where there were several candidates.
        right: whether the answer is right.
    """

    problem: str
    features: Mapping[str, float]
    right: bool


def judged(samples: Sequence[Sample]) -> list[Judged]:
    """The answers of single replies: of those that ended by themselves and have one."""
    return [Judged(sample.problem, sample.features, sample.right) for sample in samples if sample.votes]


def voted(candidates: Sequence[Sample], chosen: Sample) -> Judged | None:
    """One problem's answer by several candidates; None where the chosen one has none.

    Args:
        candidates: all that were generated for it.
        chosen: one of them.
    """
    if not chosen.votes:
        return None
    votes = vote_features(
        [sample.answer if sample.votes else None for sample in candidates],
        [(sample.features["summed_entropy"], sample.written_tokens) for sample in candidates],
    )
    return Judged(chosen.problem, {**chosen.features, **votes}, chosen.right)


# --- fitting ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Logistic:
    """A ridge logistic model on scaled features, standardised."""

    mean: Array
    spread: Array
    weights: Array  # of a constant 1, then of each feature

    def probabilities(self, rows: Array) -> Array:
        """Of each row of scaled features: shape (rows, features) → (rows,)."""
        odds = self.weights[0] + ((rows - self.mean) / self.spread) @ self.weights[1:]
        return np.asarray(1 / (1 + np.exp(-np.clip(odds, -40, 40))), np.float64)


def _logistic(rows: Array, right: Array) -> _Logistic:
    """Newton's method (iteratively reweighted least squares) from zero; the ridge makes it converge."""
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    spread = np.where(spread > 1e-9 * (1 + np.abs(mean)), spread, 1.0)  # of one that never changes, rounding
    design = np.column_stack([np.ones(len(rows)), (rows - mean) / spread])
    penalty = np.diag([1e-6, *[_RIDGE] * rows.shape[1]])
    weights = np.zeros(design.shape[1])
    for _ in range(100):
        probabilities = 1 / (1 + np.exp(-np.clip(design @ weights, -40, 40)))
        curvature = probabilities * (1 - probabilities)
        hessian = design.T @ (design * curvature[:, None]) + penalty
        step = np.linalg.solve(hessian, design.T @ (right - probabilities) - penalty @ weights)
        weights += np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-9:
            break
    return _Logistic(mean, spread, weights)


def _rows(answers: Sequence[Judged], names: Sequence[str]) -> Array:
    return np.array([[scaled(name, each.features[name]) for name in names] for each in answers], np.float64)


def fit_answers(answers: Sequence[Judged], *, answer: str, policy: str, features: Sequence[str] = ()) -> Fit:
    """A fit to judged answers.

    Args:
        answers: one a problem.
        answer: the extractor that found them.
        policy: how the replies were generated: `confidence.policy_name`.
        features: names; none for the usual ones.

    Raises:
        ConfigError: too few are right, or too few wrong.
    """
    names = tuple(features) or usual_features(answers, answer)
    rows, right = _weighed(answers, names)
    model = _logistic(rows, right)
    weights = model.weights[1:] / model.spread
    discrimination, error = _cross_validated(rows, right)
    return Fit(
        answer=answer,
        policy=policy,
        problems=len(right),
        right=float(right.mean()),
        auroc=discrimination,
        calibration_error=error,
        intercept=float(model.weights[0] - weights @ model.mean),
        weights=dict(zip(names, map(float, weights), strict=True)),
        ranges=_ranges(_whole(answers, names), names, answer),
    )


def usual_features(answers: Sequence[Judged], answer: str) -> tuple[str, ...]:
    """The names of what is weighed for a kind of answer."""
    of_reply = OF_NUMBERS if answer == "last-number" else OF_ANY
    return (*OF_VOTES, *of_reply) if answers and "agreement" in answers[0].features else of_reply


def _ranges(answers: Sequence[Judged], names: Sequence[str], answer: str) -> dict[str, tuple[float, float]]:
    """Where the features lie: of those that tell the kind of a reply the middle 98 %, of the others all.

    A number that is worked out is the result of an equation: a reply without one is of another kind.
    """
    kind = _KIND_OF_NUMBERS if answer == "last-number" else _KIND_OF_ANY
    found = {}
    for name in dict.fromkeys((*kind, *names)):
        tail = _TAIL if name in kind else 0.0
        low, high = np.quantile([each.features[name] for each in answers], [tail, 1 - tail])
        found[name] = (max(float(low), 1.0) if name == "result_count" else float(low), float(high))
    return found


def _cross_validated(rows: Array, right: Array) -> tuple[float, float]:
    """AUROC and calibration error of probabilities for answers that were left out of their fits."""
    areas, errors = [], []
    for repeat in range(_REPEATS):
        probabilities = _left_out(rows, right, repeat)
        areas.append(area(probabilities, right))
        errors.append(calibration_error(probabilities, right))
    return float(np.mean(areas)), float(np.mean(errors))


def _left_out(rows: Array, right: Array, repeat: int = 0) -> Array:
    """The probabilities of answers, each by a fit to the folds that it is not in."""
    order = np.random.default_rng(repeat).permutation(len(right))
    probabilities = np.zeros(len(right))
    for fold in np.array_split(order, _FOLDS):
        others = np.setdiff1d(order, fold)
        probabilities[fold] = _logistic(rows[others], right[others]).probabilities(rows[fold])
    return probabilities


def left_out(answers: Sequence[Judged], answer: str) -> tuple[Array, Array]:
    """The probabilities that answers are given by fits they were left out of, and whether each is right.

    Args:
        answers: one a problem; those that lack a feature are left out.
        answer: the extractor that found them.

    Raises:
        ConfigError: too few are right, or too few wrong.
    """
    rows, right = _weighed(answers, usual_features(answers, answer))
    return _left_out(rows, right), right


def _weighed(answers: Sequence[Judged], names: Sequence[str]) -> tuple[Array, Array]:
    """The scaled features of the answers that have all of them, and whether each is right.

    Raises:
        ConfigError: too few are right, or too few wrong.
    """
    whole = _whole(answers, names)
    right = np.array([each.right for each in whole], np.float64)
    if not _FOLDS <= right.sum() <= len(right) - _FOLDS:
        raise ConfigError(
            f"{int(right.sum())} of {len(right)} answers are right: a fit needs {_FOLDS} right and {_FOLDS} wrong ones"
        )
    return _rows(whole, names), right


def _whole(answers: Sequence[Judged], names: Sequence[str]) -> list[Judged]:
    return [each for each in answers if all(math.isfinite(each.features.get(name, math.nan)) for name in names)]


# --- how good it is -----------------------------------------------------------------------------------


def bins(probabilities: npt.ArrayLike, right: npt.ArrayLike, count: int = _BINS) -> Array:
    """A reliability diagram: the answers by probability, in bins of equally many.

    Returns:
        Shape (bins, 3): mean probability, share of right answers, how many.
    """
    values, is_right = np.asarray(probabilities, np.float64), np.asarray(right, np.float64)
    parts = np.array_split(np.argsort(values, kind="stable"), min(count, len(values)))
    return np.array([[values[part].mean(), is_right[part].mean(), len(part)] for part in parts])


def calibration_error(probabilities: npt.ArrayLike, right: npt.ArrayLike, count: int = _BINS) -> float:
    """The expected calibration error: over the bins, the mean distance of probability and share of right answers."""
    rows = bins(probabilities, right, count)
    return float((np.abs(rows[:, 0] - rows[:, 1]) * rows[:, 2]).sum() / rows[:, 2].sum())


def risk_coverage(scores: npt.ArrayLike, right: npt.ArrayLike) -> Array:
    """How many answers are right when only the surest are given.

    Returns:
        Shape (answers, 2): the share of answers that is given, the share of those that is right; rising coverage.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    count = np.arange(1, order.size + 1)
    return np.column_stack([count / order.size, np.cumsum(np.asarray(right, np.float64)[order]) / count])


def cross_validation(answers: Sequence[Judged], features: Sequence[str]) -> tuple[float, float]:
    """AUROC and calibration error of a fit with some features, for answers that were left out of it.

    Args:
        answers: one a problem; those that lack a feature are left out.
        features: their names.
    """
    whole = _whole(answers, features)
    return _cross_validated(_rows(whole, features), np.array([each.right for each in whole], np.float64))


# --- the rank -----------------------------------------------------------------------------------------


def rank_of(replies: Sequence[Sequence[float]]) -> Rank | None:
    """How sure a model's replies are; None where there are too few.

    Args:
        replies: of each, the entropies of its tokens, in bits.
    """
    lengths, bounds = [], []
    for length in _LENGTHS:
        means = [math.fsum(reply[:length]) / length for reply in replies if len(reply) >= length]
        if len(means) >= _LEAST_REPLIES:
            lengths.append(length)
            bounds.append(tuple(map(float, np.percentile(means, QUANTILES))))
    return Rank(len(replies), tuple(lengths), tuple(bounds)) if lengths else None
