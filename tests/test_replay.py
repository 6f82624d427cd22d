"""Replayed votes and features: on synthetic candidates whose outcome can be worked out by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropix_edge.cli import run
from entropix_edge.errors import ConfigError
from entropix_edge.evaluation.comparison import compare, feature_rows
from entropix_edge.evaluation.escalation import escalate
from entropix_edge.evaluation.features import SIGNS, features
from entropix_edge.evaluation.pairs import pair
from entropix_edge.evaluation.records import Candidate, Record, Tokens, open_recording
from entropix_edge.evaluation.replay import Pool, any_right, ballot, curve, lead_is_safe, orders, pools, rule, tally
from entropix_edge.evaluation.results import Result, open_results
from entropix_edge.evaluation.samples import Sample, read_samples, write_summary
from entropix_edge.evaluation.statistics import auroc, gain_at_equal_cost, mean_interval, sign_test
from entropix_edge.types import FinishReason

# --- what is counted ------------------------------------------------------------------------------

EVERY = dict.fromkeys(SIGNS, math.nan)


def sample(answer: str | None, entropy: float = 1.0, tokens: int = 10, **changes: Any) -> Sample:
    """A candidate for problem p, where A is right."""
    values: dict[str, Any] = {
        "problem": "p",
        "policy": "draws",
        "seed": 0,
        "number": 0,
        "answer": answer,
        "right": answer == "A",
        "finish": "stop",
        "written_tokens": tokens,
        "decoded_tokens": tokens,
        "seconds": tokens / 10,
        "features": EVERY | {"mean_entropy": entropy, "length": float(tokens)},
    }
    return Sample(**(values | changes))


def pool(*candidates: Sample) -> Pool:
    return Pool("draws", {"p": candidates})


THREE = pool(sample("A", 2, 10), sample("A", 3, 20), sample("B", 1, 30))  # B is the surest


@pytest.mark.parametrize(
    ("name", "right", "used", "decoded"),
    [
        ("fixed:1", 2 / 3, 1, 20),
        ("fixed:2", 1 / 3, 2, 40),  # A and B tie in two pairs of three, and B is surer
        ("fixed:3", 1, 3, 60),
        ("ahead:3", 1, 8 / 3, 50),  # only the pair of As stops it
        ("posterior:3", 1, 3, 60),  # three votes to none are 15 to 1: not enough
    ],
)
def test_a_rule_worked_out_by_hand(name: str, right: float, used: float, decoded: float) -> None:
    found = tally(THREE, rule(name), ballot("equal"))
    assert [found.right[0], found.used[0], found.decoded[0]] == pytest.approx([right, used, decoded])
    assert found.seconds[0] == pytest.approx(decoded / 10)


def test_the_posterior_stops_at_four_to_none() -> None:
    four = pool(*[sample("A")] * 5)
    assert tally(four, rule("posterior:5"), ballot("equal")).used.tolist() == [4]


@pytest.mark.parametrize(
    ("vote", "ties", "winner"),
    [
        ("equal", "mean_entropy", "A"),
        ("confidence", "mean_entropy", "B"),  # 1/4 + 1/8 against 1/2
        ("best:mean_entropy", "mean_entropy", "B"),
        ("best:length", "mean_entropy", "A"),  # the shortest
        ("mean_entropy:0", "mean_entropy", "A"),  # a weight that says nothing
        ("mean_entropy:5", "mean_entropy", "B"),
    ],
)
def test_a_vote_worked_out_by_hand(vote: str, ties: str, winner: str) -> None:
    assert ballot(vote, ties).winner(THREE.problems["p"]).answer == winner


def test_ties_go_to_the_surest_candidate_by_the_feature_that_is_named() -> None:
    pair = [sample("A", 2, 10), sample("B", 1, 30)]
    assert ballot("equal", "mean_entropy").winner(pair).answer == "B"
    assert ballot("equal", "length").winner(pair).answer == "A"


def test_ties_of_a_plain_vote_go_to_the_answer_that_came_first() -> None:
    pair = [sample("A", 2), sample("B", 1)]
    assert ballot("plain").winner(pair).answer == "A"
    assert ballot("plain").winner(pair[::-1]).answer == "B"
    assert ballot("plain").winner([*pair, sample("B", 9)]).answer == "B"
    assert ballot("plain").winner([sample(None, 2), sample(None, 1)]).features["mean_entropy"] == 2


def test_votes_weighed_by_a_shipped_fit() -> None:
    likely = {"summed_entropy": 35.0, "length": 200.0, "number_summed_entropy": 0.1, "answer_greatest_entropy": 0.001}
    likely |= {"wrong_results": 0.0, "number_share": 0.15, "result_count": 3.0}
    source = {"fingerprint": "62523bfa8561ee64"}  # Qwen2.5-Coder-0.5B

    def candidate(answer: str, **changed: float) -> Sample:
        plain = sample(answer)
        return dataclasses.replace(plain, features={**plain.features, **likely, **changed}, source=source)

    unlikely = [candidate("B", summed_entropy=200.0, number_summed_entropy=20.0) for _ in range(2)]
    assert ballot("probability").winner([*unlikely, candidate("A")]).answer == "A"
    assert ballot("equal").winner([*unlikely, candidate("A")]).answer == "B"
    of_another_kind = [
        candidate("B", length=9.0) for _ in range(4)
    ]  # each counts as much as the share of right answers
    assert ballot("probability").winner([*of_another_kind, candidate("A")]).answer == "B"
    with pytest.raises(ConfigError, match="no fit to greedy replies of the model nobody"):
        ballot("probability").winner([dataclasses.replace(candidate("A"), source={"fingerprint": "nobody"})])


def test_who_was_cut_or_has_no_answer_has_no_vote() -> None:
    votes = [sample("B", finish="length"), sample("B", finish=None), sample(None), sample("A", 9)]
    assert ballot("equal").winner(votes).answer == "A"
    assert ballot("equal").winner(votes[:3]).answer == "B"  # nobody votes: the surest, or one as sure
    assert rule("ahead:3").used(votes) == 3


def test_a_policy_s_candidate_can_go_first() -> None:
    greedy = Pool("greedy", {"p": [sample("C", 0.5, 100, policy="greedy")]})
    found = tally(THREE, rule("fixed:1"), ballot("equal"), first=greedy)
    assert (found.policy, found.right[0], found.decoded[0]) == ("greedy + draws", 0, 100)
    assert tally(THREE, rule("fixed:4"), ballot("equal"), first=greedy).right[0] == 1
    elsewhere = Pool("greedy", {"q": greedy.problems["p"]})
    assert tally(THREE, rule("fixed:1"), ballot("equal"), first=elsewhere).problems == ()


def test_problems_with_too_few_candidates_are_left_out() -> None:
    both = Pool("draws", {"p": THREE.problems["p"], "q": [sample("A", problem="q")]})
    assert tally(both, rule("fixed:1"), ballot("equal")).problems == ("p", "q")
    assert tally(both, rule("fixed:2"), ballot("equal")).problems == ("p",)
    assert [each.rule for each in curve(both, ballot("equal"))] == ["fixed:1"]


@pytest.mark.parametrize("name", ["", "fixed", "fixed:0", "fixed:-1", "fixed:x", "often:3", "ahead:1e3"])
def test_a_rule_that_is_none(name: str) -> None:
    with pytest.raises(ConfigError, match="is not known: it must be"):
        rule(name)


@pytest.mark.parametrize("name", ["", "votes", "best:", "best:hm", "mean_entropy:x"])
def test_a_vote_that_is_none(name: str) -> None:
    with pytest.raises(ConfigError, match="must be"):
        ballot(name)


def test_samples_are_pooled_by_policy_and_problem() -> None:
    one, two = sample("A", number=1, source={"model": "m"}), sample("B", number=0, source={"model": "m"})
    (found,) = pools([one, two, one])
    assert [each.answer for each in found.problems["p"]] == ["B", "A"]
    with pytest.raises(ConfigError, match="candidates of m and n: give the files of one model"):
        pools([one, sample("A", source={"model": "n"})])


# --- whatever the candidates ----------------------------------------------------------------------

CANDIDATES = st.lists(
    st.builds(
        sample,
        st.sampled_from(["A", "B", "C", None]),
        st.floats(0, 5),
        st.integers(1, 100),
        finish=st.sampled_from(["stop", "stop", "length"]),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60)
@given(CANDIDATES, st.sampled_from(["equal", "confidence", "mean_entropy:2", "best:length"]))
def test_no_vote_is_better_than_any_candidate_and_costs_rise(candidates: list[Sample], vote: str) -> None:
    found = pool(*candidates)
    points = curve(found, ballot(vote), subsets=20)
    assert all(point.right[0] <= any_right(found)[0] for point in points)
    costs = [point.decoded[0] for point in points]
    assert costs == sorted(costs)
    assert costs[-1] == pytest.approx(sum(each.decoded_tokens for each in candidates))
    for name in (f"ahead:{len(candidates)}", f"posterior:{len(candidates)}"):
        early = tally(found, rule(name), ballot(vote), subsets=20)
        assert 1 <= early.used[0] <= len(candidates)
        assert early.decoded[0] <= costs[-1] + 1e-9


@given(CANDIDATES)
def test_the_order_of_all_candidates_does_not_matter(candidates: list[Sample]) -> None:
    winners = {ballot("equal").winner(order).right for order in orders(candidates, 24)}
    votes = Counter(each.answer for each in candidates if each.votes).most_common()
    if len({each.features["mean_entropy"] for each in candidates}) == len(candidates) and votes:
        assert len(winners) == 1
        if len(votes) == 1 or votes[0][1] > votes[1][1]:
            assert winners == {votes[0][0] == "A"}


@given(st.integers(1, 9), st.integers(1, 60))
def test_orders_are_permutations_and_the_same_in_every_run(count: int, subsets: int) -> None:
    candidates = [sample("A", number=number) for number in range(count)]
    found = orders(candidates, subsets)
    assert len(found) == min(subsets, math.factorial(count)) or len(found) == subsets
    assert all(sorted(each.number for each in order) == list(range(count)) for order in found)
    assert found == orders(candidates, subsets)


# --- statistics -----------------------------------------------------------------------------------


def test_a_mean_s_interval_is_the_normal_one() -> None:
    values = np.random.default_rng(1).random(500)
    half = 1.96 * values.std() / math.sqrt(500)
    assert mean_interval(values) == pytest.approx((values.mean(), values.mean() - half, values.mean() + half), abs=3e-3)


def test_a_gain_at_equal_cost_is_over_the_line_between_two_points() -> None:
    ones = np.ones(40)
    curve_right, curve_cost = [0.2 * ones, 0.4 * ones, 0.5 * ones], [10 * ones, 20 * ones, 30 * ones]
    assert gain_at_equal_cost(0.5 * ones, 15 * ones, curve_right, curve_cost) == pytest.approx((0.2, 0.2, 0.2))
    assert gain_at_equal_cost(0.5 * ones, 30 * ones, curve_right, curve_cost) == pytest.approx((0, 0, 0), abs=1e-9)
    assert gain_at_equal_cost(0.5 * ones, 31 * ones, curve_right, curve_cost) is None
    assert gain_at_equal_cost(0.5 * ones, 9 * ones, curve_right, curve_cost) is None


def test_a_point_of_the_curve_gains_nothing_over_it() -> None:
    random = np.random.default_rng(2)
    right, cost = np.sort(random.random((3, 60)), axis=0), np.cumsum(random.random((3, 60)) + 1, axis=0)
    assert gain_at_equal_cost(right[1], cost[1], right, cost) == pytest.approx((0, 0, 0), abs=1e-9)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_the_auroc_counts_pairs(replies: list[tuple[int, bool]]) -> None:
    scores, right = zip(*replies, strict=True)
    pairs = [
        1.0 if one > other else 0.5 if one == other else 0.0
        for one, good in replies
        if good
        for other, bad in replies
        if not bad
    ]
    found = auroc(scores, right)
    if not pairs:
        assert found is None
        return
    assert found
    assert found.value == pytest.approx(np.mean(pairs))
    assert found.low <= found.high
    other_way = auroc([-score for score in scores], right)
    assert other_way
    assert other_way.value == pytest.approx(1 - found.value)


def test_replies_to_one_problem_are_resampled_together() -> None:
    random = np.random.default_rng(3)
    right = np.repeat(random.random(40) < 0.5, 8)
    scores = np.repeat(random.random(40), 8) + np.repeat(right[::8], 8) * 0.3
    alone, together = auroc(scores, right), auroc(scores, right, np.repeat(np.arange(40), 8))
    assert alone
    assert together
    assert alone.value == together.value
    assert together.high - together.low > 2 * (alone.high - alone.low)


# --- features -------------------------------------------------------------------------------------


def candidate(pieces: list[str], entropy: list[float], span: tuple[int, int] | None = None) -> Candidate:
    count = len(pieces)
    zeros, whole = np.zeros(count, np.float32), np.zeros(count, np.int32)
    bits = np.array(entropy, np.float32)
    missing = np.full(count, np.nan, np.float32)
    tokens = Tokens(
        id=whole,
        chars=np.array([len(piece) for piece in pieces], np.int32),
        logprob=-bits,
        entropy=bits,
        varentropy=bits * 2,
        best=zeros,
        gap=bits,
        second=whole,
        rank=np.array([0] * (count - 1) + [1] * min(count, 1), np.int32),
        origin="s" * count,
        attention_entropy=np.array([2.0] + [np.nan] * (count - 1), np.float32) if count else zeros,
        attention_varentropy=missing,
        agreement=missing,
        interaction_strength=missing,
    )
    text = "".join(pieces)
    return Candidate(
        seed=1,
        finish=FinishReason.STOP,
        text=text,
        answer=text[span[0] : span[1]] if span else None,
        span=span,
        right=True,
        decoded_tokens=count,
        rewound=0,
        rejected=0,
        unkept=0,
        seconds=0.5,
        tokens=tokens,
    )


def test_features_worked_out_by_hand() -> None:
    found = features(candidate(["3", " is", " = ", "1", "2", "."], [0.5, 2.0, 0.0, 1.0, 3.0, 0.1], (7, 9)))
    assert found.keys() == SIGNS.keys()
    expected = {
        "length": 6,
        "summed_entropy": 6.6,
        "mean_entropy": 1.1,
        "greatest_entropy": 3,
        "top_decile_entropy": 3,
        "share_above_1_bit": 2 / 6,
        "worst_64": 1.1,
        "first_32": 1.1,
        "mean_varentropy": 2.2,
        "lowest_logprob": -3,
        "mean_best": 1,
        "share_not_best": 1 / 6,
        "number_mean_logprob": -1.5,
        "number_lowest_logprob": -3,
        "result_greatest_entropy": 3,
        "result_summed_entropy": 4,
        "answer_logprob": -4,
        "mean_attention_entropy": 2,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert math.isnan(found["mean_agreement"])


def test_the_worst_window_is_the_worst() -> None:
    entropy = [0.0] * 50 + [1.0] * 32 + [0.0] * 50
    found = features(candidate(["x"] * 132, entropy))
    assert (found["worst_32"], found["worst_64"]) == pytest.approx((1.0, 0.5))
    assert found["top_decile_entropy"] == 1.0
    assert (found["first_32"], found["last_32"]) == (0, 0)


def test_a_reply_without_tokens_or_answer_has_no_such_features() -> None:
    assert all(math.isnan(value) for value in features(candidate([], [])).values())
    found = features(candidate(["no"], [1.0]))
    assert math.isnan(found["answer_logprob"])
    assert math.isnan(found["number_mean_logprob"])


def test_a_feature_s_area_is_told_in_the_direction_in_which_the_model_is_surer() -> None:
    problems = {f"p{n}": [sample("A" if n < 5 else "B", n, 20 - n, problem=f"p{n}")] for n in range(10)}
    rows = {row.feature: row for row in feature_rows(Pool("greedy", problems))}
    assert rows["mean_entropy"].auroc.value == 1
    assert rows["length"].auroc.value == 0  # here the longer are right
    assert rows["length"].surer == "lower"
    assert "lowest_logprob" not in rows


def test_what_votes_tell_is_among_the_features() -> None:
    letters = {"p": "AAAB", "q": "BBBC", "r": "AAAA", "s": "BACD"}
    known = EVERY | {"mean_entropy": 1.0, "summed_entropy": 10.0}
    problems = {name: [sample(letter, problem=name, features=known) for letter in row] for name, row in letters.items()}
    rows = {row.feature: row for row in feature_rows(Pool("draws", problems)) if row.policy == "draws, voted"}
    agreement = rows["agreement"]  # right: p 0.75, r 1; wrong: q 0.75, and s 0.25 by a tie that B begins
    assert (agreement.surer, agreement.replies, agreement.right) == ("higher", 4, 0.5)
    assert agreement.auroc.value == (0.5 + 3) / 4
    assert rows["mean_summed_entropy"].auroc.value == 0.5


# --- asking a larger model ------------------------------------------------------------------------


def two_models(small: str, large: str, entropies: list[float]) -> tuple[Pool, Pool]:
    """A small model's replies and a larger one's, a letter a problem: A is right."""
    first = {
        str(place): [sample(letter, problem=str(place), features=EVERY | {"mean_entropy": entropy})]
        for place, (letter, entropy) in enumerate(zip(small, entropies, strict=True))
    }
    second = {
        str(place): [sample(letter, problem=str(place), tokens=30, policy="draws")]
        for place, letter in enumerate(large)
    }
    return Pool("draws", first), Pool("draws", second)


def test_the_least_sure_replies_are_asked_again() -> None:
    small, large = two_models("ABBA", "ABAA", [0.1, 3.0, 2.0, 0.2])
    none, half, every = escalate(small, large, "mean_entropy", (0.0, 0.5, 1.0))
    assert [row.accuracy.value for row in (none, half, every)] == [0.5, 0.75, 0.75]
    assert [row.decoded_tokens for row in (none, half, every)] == [10, 25, 40]
    assert half.gain.value == pytest.approx(0.75 - (0.5 + 0.75) / 2)
    assert half.below == -0.2
    assert none.below is None
    assert none.gain.value == every.gain.value == 0.0


def test_two_policies_are_paired_on_the_problems_that_both_answered() -> None:
    first, second = two_models("ABBA", "ABAB", [1.0] * 4)
    row = pair(second, Pool("other", {**first.problems, "x": first.problems["0"]}))
    assert row
    assert (row.problems, row.won, row.lost, row.chance) == (4, 1, 1, 1.0)
    assert row.accuracy.value == 0.5
    assert row.over
    assert row.over.value == 0.0
    assert (row.decoded_tokens, row.cost) == (30, 3.0)
    alone = pair(first, first)
    assert alone
    assert (alone.over, alone.chance, alone.cost) == (None, None, 1.0)
    assert pair(first, Pool("other", {})) is None


def test_votes_are_paired_with_another_policy_s_replies() -> None:
    draws = Pool("draws", {"p": THREE.problems["p"], "q": [sample("B", problem="q")] * 3, "r": [sample("A")]})
    greedy = Pool("greedy", {name: [sample("B", problem=name, policy="greedy")] for name in "pqr"})
    vote = rule("ahead:3"), ballot("equal")
    row = pair(draws, greedy, vote)
    assert row
    assert (row.policy, row.problems, row.won, row.lost) == ("draws, ahead:3", 2, 1, 0)  # r has too few
    assert row.decoded_tokens == (10 + 20 + 10 + 10) / 2  # two agree at once, in both
    itself = pair(greedy, greedy, (rule("fixed:1"), ballot("equal")))
    assert itself
    assert (itself.won, itself.lost, itself.chance) == (0, 0, 1.0)


@pytest.mark.parametrize(("won", "lost", "chance"), [(0, 0, 1.0), (2, 1, 1.0), (6, 0, 2 / 2**6), (1, 7, 18 / 2**8)])
def test_how_likely_an_uneven_split_is_by_chance(won: int, lost: int, chance: float) -> None:
    assert sign_test(won, lost) == chance


def test_models_without_a_problem_in_common_are_not_compared() -> None:
    small, large = two_models("AB", "AB", [1.0, 2.0])
    with pytest.raises(ConfigError, match="no problem in common"):
        escalate(small, Pool("draws", {"x": large.problems["0"]}), "mean_entropy")


# --- files and the command ------------------------------------------------------------------------

SETTINGS = {"model": "m.gguf", "tasks": "t.jsonl"}


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "r.jsonl.gz"
    random = np.random.default_rng(5)
    with open_recording(path, SETTINGS) as log:
        for policy, count in (("greedy", 1), ("self-consistency:4", 4)):
            for problem in range(12):
                kept = []
                for _ in range(count):
                    text = [" 7" if random.random() < 0.5 else " 8", "."]
                    kept.append(candidate(text, random.random(2).tolist(), (1, 2)))
                answered = dataclasses.replace(
                    result(policy, f"p{problem}"), right=False, found="7", gold="7", written_tokens=2, decoded_tokens=2
                )
                log.add(Record(result=answered, prompt_tokens=3, candidates=tuple(kept)))
    return path


@pytest.fixture
def replay(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def invoke(*arguments: object) -> tuple[int, str, str]:
        code = run(["replay", *map(str, arguments)])
        return code, *capsys.readouterr()

    return invoke


Replay = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("file", ["s.jsonl", "s.jsonl.gz"])
def test_a_summary_counts_as_its_recording(recording: Path, tmp_path: Path, replay: Replay, file: str) -> None:
    summary = tmp_path / file
    code, out, said = replay(recording, "--summary", summary)
    assert (code, out) == (0, "")
    assert "Summary: " in said
    whole, short = read_samples(recording), read_samples(summary)
    assert len(whole) == len(short) == 12 * 5
    for one, other in zip(whole, short, strict=True):
        assert one.source == other.source == SETTINGS
        for name in ("problem", "policy", "seed", "number", "answer", "right", "finish", "decoded_tokens"):
            assert getattr(one, name) == getattr(other, name)
        assert dict(other.features) == pytest.approx(dict(one.features), rel=1e-3, nan_ok=True)
    assert len(summary.read_bytes()) < 500 * len(short)
    write_summary(tmp_path / f"again.{file}", short)
    assert (tmp_path / f"again.{file}").read_bytes() == summary.read_bytes()
    for option in ([], ["--features"]):
        assert replay(recording, "--format", "md", *option) == replay(summary, "--format", "md", *option)


def test_votes_beside_another_policy_are_counted_in_one_way(recording: Path, replay: Replay) -> None:
    beside = [recording, "--against", "greedy", "--rule", "fixed:2", "--format", "md"]
    code, out, _said = replay(*beside, "--vote", "plain")
    assert code == 0
    assert ", fixed:2 |" in out
    code, out, said = replay(*beside, "--vote", "plain", "--vote", "equal")
    assert (code, out) == (2, "")
    assert "name one of plain, equal with --vote" in said


def test_the_report_says_what_was_asked_for(recording: Path, replay: Replay) -> None:
    code, out, _ = replay(recording, "--rule", "ahead:4", "--vote", "equal", "--vote", "confidence", "--format", "json")
    assert code == 0
    rows = json.loads(out)["rows"]
    assert [(row["policy"], row["rule"], row["vote"]) for row in rows] == [
        ("self-consistency:4", "ahead:4", "equal"),
        ("self-consistency:4", "ahead:4", "confidence"),
    ]
    assert all(row["problems"] == 12 and len(row["gain"]) == 3 for row in rows)
    _, table, _ = replay(recording, "--policy", "self-consistency:4")
    assert [line.split()[1] for line in table.splitlines()[1:7]] == [
        *(f"fixed:{count}" for count in range(1, 5)),
        "posterior:4",
        "ahead:4",
    ]
    _, table, _ = replay(recording, "--policy", "greedy", "--over", "self-consistency:4", "--format", "md")
    assert table.splitlines()[2].count("(") == 2  # greedy has a gain over the others' curve


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--policy", "edge"), "no candidates of policy 'edge' in these files: there are those of greedy"),
        (("--first", "edge"), "no candidates of policy 'edge'"),
        (("--rule", "often"), "rule 'often' is not known"),
        (("--vote", "loud"), "feature 'loud' is not known"),
        (("--ties", "loud"), "feature 'loud' is not known"),
    ],
)
def test_what_cannot_be_counted_is_said(
    recording: Path, replay: Replay, arguments: tuple[str, ...], reason: str
) -> None:
    code, out, error = replay(recording, *arguments)
    assert (code, out) == (2, "")
    assert reason in error.strip().splitlines()[-1]


def test_another_file_is_named(tmp_path: Path, replay: Replay) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("hello\n")
    code, _, error = replay(path)
    assert code == 2
    assert "is not a recording, a summary of one, or a results file" in error


def result(policy: str, problem: str, candidates: tuple[tuple[str | None, float, int], ...] = ()) -> Result:
    return Result(
        problem=problem,
        policy=policy,
        seed=0,
        right=True,
        found="2",
        gold="2",
        written_tokens=8,
        decoded_tokens=26,
        cut=False,
        seconds=1.0,
        candidates=candidates,
    )


def test_results_count_like_recordings_where_they_keep_candidates(tmp_path: Path, replay: Replay) -> None:
    """Without the seconds of each candidate, which they do not have."""
    path = tmp_path / "results.jsonl"
    candidates = (("2", 0.9, 5), ("3", 0.8, 6), (None, 0.7, 7), ("2", 0.6, 8))
    with open_results(path, {"model": "m"}) as log:
        for number in range(3):
            log.add(result("deliberate:4", f"p{number}", candidates))
        log.add(result("greedy", "p0"))
    samples = read_samples(path)
    assert [sample.votes for sample in samples[:4]] == [True, True, False, True]
    assert [sample.right for sample in samples[:4]] == [True, False, False, True]
    code, report, _ = replay(path, "--rule", "fixed:4", "--format", "json")
    (row,) = json.loads(report)["rows"]
    assert code == 0
    assert (row["policy"], row["problems"], row["accuracy"][0]) == ("deliberate:4", 3, 1.0)
    assert (row["decoded_tokens"], row["seconds"]) == (26.0, None)
    assert "nan" not in replay(path, "--rule", "fixed:4")[1]


def test_gains_are_over_fixed_numbers_and_none_at_these(recording: Path) -> None:
    (_, draws) = pools(read_samples(recording))
    rows = compare([draws], [], [ballot("equal"), ballot("confidence")], subsets=50)
    assert [row.gain is None for row in rows[:4]] == [True] * 4
    assert all(row.gain for row in rows[4:])
    assert rows[0].decoded_tokens == 2


@pytest.mark.parametrize(
    ("first", "second", "safe"),
    [(3, 0, False), (4, 0, True), (4, 1, False), (5, 1, False), (6, 1, True), (0, 0, False), (9, 9, False)],
)
def test_when_a_lead_is_safe(first: int, second: int, safe: bool) -> None:
    assert lead_is_safe(first, second) is safe
