"""Confidence fitted to answers that were judged: what was put in is found, and what is too little is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from entropix_edge.confidence import SIGNS, VOTE_SIGNS
from entropix_edge.errors import ConfigError
from entropix_edge.evaluation.fitting import (
    Judged,
    bins,
    calibration_error,
    cross_validation,
    fit_answers,
    judged,
    rank_of,
    risk_coverage,
    usual_features,
    voted,
)
from entropix_edge.evaluation.samples import Sample
from entropix_edge.evaluation.statistics import area, auroc

NAMES = ("lowest_logprob", "mean_logprob")


def answers(count: int, weights: tuple[float, float] = (1.5, -0.5), seed: int = 0) -> list[Judged]:
    """Answers that are right with a probability that two features give."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        values = random.normal(size=2) * (1.0, 2.0) + (-3.0, 1.0)
        odds = 2.0 + weights[0] * (values[0] + 2) + weights[1] * values[1]
        known = dict.fromkeys(SIGNS, math.nan) | dict(zip(NAMES, map(float, values), strict=True)) | {"length": 9.0}
        found.append(Judged(f"p{number}", known, bool(random.random() < 1 / (1 + math.exp(-odds)))))
    return found


def test_the_weights_that_made_the_answers_are_found() -> None:
    fit = fit_answers(answers(8_000), answer="exact", policy="greedy", features=NAMES)
    assert fit.weights["lowest_logprob"] == pytest.approx(1.5, abs=0.1)
    assert fit.weights["mean_logprob"] == pytest.approx(-0.5, abs=0.06)
    assert fit.intercept == pytest.approx(2 + 1.5 * 2, abs=0.35)
    assert fit.calibration_error < 0.02
    assert fit.problems == 8_000


def test_its_probabilities_are_right_that_often_on_other_answers() -> None:
    fit = fit_answers(answers(3000), answer="exact", policy="greedy", features=NAMES)
    others = [each for each in answers(3000, seed=1) if fit.probability(each.features) is not None]
    assert 0.97 < len(others) / 3000 <= 1  # but for those beyond what was seen
    probabilities = [fit.probability(each.features) or 0.0 for each in others]
    assert calibration_error(probabilities, [each.right for each in others]) < 0.04


def test_features_that_tell_nothing_are_worth_nothing() -> None:
    fit = fit_answers(answers(1000, (0.0, 0.0)), answer="exact", policy="greedy", features=NAMES)
    assert 0.35 < fit.auroc < 0.6


def test_a_feature_that_never_changes_does_no_harm() -> None:
    fit = fit_answers(answers(1000), answer="exact", policy="greedy", features=(*NAMES, "length"))
    assert math.isfinite(fit.intercept)
    assert fit.weights["length"] == pytest.approx(0)


def test_answers_that_are_perfectly_told_apart_have_finite_weights() -> None:
    random = np.random.default_rng(0)
    perfect = [
        Judged(str(each), {"lowest_logprob": float(each), "length": 5.0}, bool(each > 0))
        for each in random.normal(size=400)
    ]
    fit = fit_answers(perfect, answer="exact", policy="greedy", features=NAMES[:1])
    assert 1 < fit.weights["lowest_logprob"] < 100
    assert fit.auroc > 0.99


def test_too_few_right_ones_are_refused() -> None:
    some = [Judged(each.problem, each.features, number < 9) for number, each in enumerate(answers(59))]
    with pytest.raises(ConfigError, match="9 of 59 answers are right: a fit needs 10 right and 10 wrong ones"):
        fit_answers(some, answer="exact", policy="greedy", features=NAMES)


def test_answers_that_are_all_right_are_refused() -> None:
    all_right = [Judged(each.problem, each.features, True) for each in answers(400)]
    with pytest.raises(ConfigError, match="400 of 400 answers are right"):
        fit_answers(all_right, answer="exact", policy="greedy", features=NAMES)


def test_bins_hold_equally_many() -> None:
    rows = bins([0.1, 0.9, 0.2, 0.8], [False, True, True, True], 2)
    assert rows.tolist() == [[pytest.approx(0.15), 0.5, 2], [pytest.approx(0.85), 1.0, 2]]
    assert calibration_error([0.1, 0.9, 0.2, 0.8], [False, True, True, True], 2) == pytest.approx(0.25)


def test_the_surest_come_first_in_a_risk_coverage_curve() -> None:
    curve = risk_coverage([0.1, 0.9, 0.5, 0.7], [True, True, False, False])
    assert curve.tolist() == [[0.25, 1.0], [0.5, 0.5], [0.75, pytest.approx(1 / 3)], [1.0, 0.5]]


# --- samples --------------------------------------------------------------------------------------


def sample(number: int, answer: str | None, finish: str | None = "stop", entropy: float = 10.0) -> Sample:
    return Sample(
        problem="p",
        policy="self-consistency:4",
        seed=0,
        number=number,
        answer=answer,
        right=answer == "4",
        finish=finish,
        written_tokens=20,
        decoded_tokens=20,
        seconds=1.0,
        features=dict.fromkeys(SIGNS, 1.0) | {"summed_entropy": entropy},
    )


def test_single_answers_are_those_of_replies_that_ended_by_themselves() -> None:
    found = judged([sample(0, "4"), sample(1, None), sample(2, "5", "length"), sample(3, "5")])
    assert [each.right for each in found] == [True, False]


def test_a_vote_is_judged_by_the_answer_that_was_chosen() -> None:
    candidates = [sample(0, "4", entropy=5), sample(1, "5"), sample(2, "4", entropy=15), sample(3, "4", None)]
    found = voted(candidates, candidates[2])
    assert found
    assert found.right
    assert found.features["agreement"] == pytest.approx(2 / 3)
    assert found.features["mean_summed_entropy"] == pytest.approx(10)
    assert found.features["summed_entropy"] == 15
    assert voted(candidates, candidates[3]) is None
    assert set(VOTE_SIGNS) & set(usual_features([found], "last-number"))
    assert not set(VOTE_SIGNS) & set(usual_features(judged(candidates), "last-number"))


# --- the rank -------------------------------------------------------------------------------------


def test_replies_are_ranked_with_those_of_their_length() -> None:
    replies = [[number / 40] * 20 for number in range(40)] + [[9.0] * 10] * 2
    rank = rank_of(replies)
    assert rank
    assert rank.replies == 42
    assert rank.lengths == (8, 16)
    assert rank.share_below(0.5, 20) == pytest.approx(0.5, abs=0.02)
    assert rank_of(replies[:19]) is None


def test_the_quick_area_is_the_one_with_an_interval() -> None:
    random = np.random.default_rng(0)
    scores, right = random.integers(0, 9, 60), random.random(60) < 0.4
    known = auroc(scores, right)
    assert known
    assert area(scores, right) == pytest.approx(known.value)


def test_a_feature_is_worth_what_it_adds() -> None:
    some = answers(600)
    assert cross_validation(some, NAMES)[0] > cross_validation(some, NAMES[1:])[0] + 0.02
