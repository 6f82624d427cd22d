"""What the evaluation says: intervals with known values, results that survive a kill, costs that add up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropix_edge.config import EngineConfig
from entropix_edge.engine import Engine
from entropix_edge.errors import ConfigError
from entropix_edge.evaluation.policies import DEFAULT_POLICIES, policy, reads_attention
from entropix_edge.evaluation.results import Result, open_results, read_results
from entropix_edge.evaluation.run import Question, Run, questions
from entropix_edge.evaluation.statistics import paired_difference, wilson
from entropix_edge.evaluation.summary import columns, markdown, summarise
from entropix_edge.evaluation.tasks import Problem, read_problems
from entropix_edge.strategy import load_preset

# --- statistics -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilsons_interval_has_its_published_values(right: int, count: int, low: float, high: float) -> None:
    assert wilson(right, count) == pytest.approx((right / count, low, high), abs=1e-4)


@pytest.mark.parametrize(("right", "count"), [(1, 0), (-1, 5), (6, 5)])
def test_a_share_that_is_none(right: int, count: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        wilson(right, count)


def test_the_bootstrap_finds_the_normal_interval() -> None:
    random = np.random.default_rng(3)
    ours, theirs = random.random(400) < 0.5, random.random(400) < 0.4
    found = paired_difference(ours, theirs)
    differences = ours.astype(float) - theirs.astype(float)
    half = 1.96 * differences.std() / np.sqrt(400)
    assert found == pytest.approx((differences.mean(), differences.mean() - half, differences.mean() + half), abs=0.01)


def test_a_policy_against_itself_gains_nothing() -> None:
    assert paired_difference([1, 0, 1], [1, 0, 1]) == (0, 0, 0)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_a_difference_turns_its_sign_with_its_sides(pairs: list[tuple[bool, bool]]) -> None:
    ours, theirs = zip(*pairs, strict=True)
    one, other = paired_difference(ours, theirs), paired_difference(theirs, ours)
    assert one == pytest.approx((-other.value, -other.high, -other.low))
    assert one.low <= one.value <= one.high


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([[1]], [[0]])])
def test_differences_of_nothing(ours: list[Any], theirs: list[Any]) -> None:
    with pytest.raises(ValueError, match="problems"):
        paired_difference(ours, theirs)


# --- policies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*DEFAULT_POLICIES, "self-consistency:5", "deliberate:8"])
def test_a_policy_keeps_its_name(name: str) -> None:
    assert policy(name).name == name
    checked = policy(f"{name}+check")
    assert (checked.name, checked.unchecked) == (f"{name}+check", name)
    assert replace(checked, name=name, check=None) == policy(name)
    assert checked.config().in_effect(load_preset("article")).check.arithmetic == 1


def test_greedy_with_checks_is_greedy_where_there_is_no_sum(engine: Engine) -> None:
    results = list(Run(engine, n_predict=12).answer(ask("greedy", "greedy+check")))
    found = {each.key: (each.found, each.written_tokens) for each in results}
    for problem in PROBLEMS:
        assert found["greedy", problem.id, 0] == found["greedy+check", problem.id, 0]


def test_what_the_policies_are() -> None:
    assert policy("greedy").sampler == "greedy"
    hot = policy("temperature:1.0").preset
    assert not isinstance(hot, str)
    assert (hot.sampler.temperature, hot.sampler.min_p, hot.sampler.top_k) == (1.0, 0.05, 0)
    votes, deliberation = policy("self-consistency:5").voting, policy("deliberate:8").voting
    assert (votes.candidates, votes.weighted, votes.early_stopping) == (5, False, False)
    assert (deliberation.candidates, deliberation.weighted, deliberation.early_stopping) == (8, True, True)
    assert policy("deliberate").voting == deliberation


@pytest.mark.parametrize(
    "name", ["", "edgy", "temperature:warm", "temperature:-1", "deliberate:", "deliberate:0", "self-consistency:x"]
)
def test_a_policy_that_is_none(name: str) -> None:
    with pytest.raises(ConfigError):
        policy(name)


# --- results --------------------------------------------------------------------------------------


def result(problem: str = "p", name: str = "greedy", **changes: Any) -> Result:
    values: dict[str, Any] = {
        "problem": problem,
        "policy": name,
        "seed": 0,
        "right": True,
        "found": "4",
        "gold": "4",
        "written_tokens": 10,
        "decoded_tokens": 20,
        "cut": False,
        "seconds": 1.0,
    }
    return Result(**(values | changes))


@pytest.mark.parametrize("torn", ["", '{"problem": "c", "pol', '{"pro'])
def test_a_killed_run_goes_on(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "results.jsonl"
    file = open_results(path, {"model": "m"})
    file.add(result("a"))
    file.add(result("b", found=None, candidates=(("4", 0.5, 3), (None, 0.1, 2)), right=False))
    file.close()
    with path.open("a") as end:
        end.write(torn)
    again = open_results(path, {"model": "m"})
    assert [each.problem for each in again.records] == ["a", "b"]
    again.add(result("c"))
    again.close()
    settings, results = read_results(path)
    assert settings == {"model": "m"}
    assert results == [
        result("a"),
        result("b", found=None, candidates=(("4", 0.5, 3), (None, 0.1, 2)), right=False),
        result("c"),
    ]


def test_results_of_the_first_version_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    with open_results(path, {}) as file:
        file.add(result("b", candidates=(("4", 0.5, 3), (None, 0.1, 2))))
    old = path.read_text().replace('"candidates"', '"roads"')
    assert old.count("roads") == 1
    path.write_text(old)
    assert read_results(path)[1] == [result("b", candidates=(("4", 0.5, 3), (None, 0.1, 2)))]


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    open_results(path, {"model": "m", "n_predict": 5}).close()
    with pytest.raises(ConfigError, match=r"n_predict 5, and this run has 6"):
        open_results(path, {"model": "m", "n_predict": 6})


def test_a_line_that_is_no_result_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"settings": {}}\n{"problem": 1}\n')
    with pytest.raises(ConfigError, match=r"line 2 is not a record of a results file: '\{\"problem"):
        open_results(path, {})


def test_layers_by_number_are_the_same_settings_when_read_again(tmp_path: Path) -> None:
    for _ in range(2):
        open_results(tmp_path / "results.jsonl", {"attention": (0, 1)}).close()


# --- the report -----------------------------------------------------------------------------------


def test_the_report_counts() -> None:
    results = [result(name, right=name in "ab", decoded_tokens=10) for name in "abcd"]
    results += [result(name, "edge", right=name != "d", decoded_tokens=25, cut=name == "d") for name in "abcd"]
    greedy, edge = summarise(results)
    assert (greedy.accuracy.value, greedy.gain, greedy.cost) == (0.5, None, None)
    assert edge.accuracy.value == 0.75
    assert edge.gain
    assert edge.gain.value == 0.25
    assert (edge.cost, edge.cut, edge.seconds, edge.failed) == (2.5, 1, 4.0, 0)


def test_seeds_are_averaged_before_they_are_compared() -> None:
    results = [result("a"), result("b")]
    results += [result(name, "hot", seed=seed, right=seed == 0) for name in "ab" for seed in range(4)]
    hot = summarise(results)[1]
    assert (hot.problems, hot.seeds, hot.accuracy.value) == (2, 4, 0.25)
    assert hot.gain == (-0.75, -0.75, -0.75)


def test_any_policy_can_be_what_others_are_measured_against() -> None:
    results = [result("a", right=False), result("a", "edge"), result("b", right=False), result("b", "edge")]
    greedy, edge = rows = summarise(results, "edge")
    assert (greedy.gain, edge.gain) == ((-1, -1, -1), None)
    assert markdown(rows, "edge").splitlines()[0].count("edge") == 2


def test_only_problems_that_both_answered_are_compared() -> None:
    results = [result("a", right=False), result("a", "edge"), result("b", "edge", right=False)]
    assert summarise(results)[1].gain == (1, 1, 1)


def test_the_table_is_markdown() -> None:
    lines = markdown(summarise([result("a"), result("a", "edge")])).splitlines()
    assert len(lines) == 4
    assert all(line.count("|") == len(columns()) + 1 for line in lines)
    assert "100.0 (21 to 100)" in lines[2]


# --- runs -----------------------------------------------------------------------------------------

PROBLEMS = [
    Problem(id=f"p{number}", question=f"What is {number} and 1?", answer=str(number + 1), extractor="last-number")
    for number in range(5)
]


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[Engine]:
    config = EngineConfig(ctx_size=1024, sequences=3, forks=3, threads=1, attention="off")
    with Engine.open(tiny_model, config) as opened:
        yield opened


def ask(*names: str, seeds: int = 1) -> list[Question]:
    return questions([policy(name) for name in names], PROBLEMS, seeds)


def test_every_question_is_answered_once(engine: Engine) -> None:
    asked = ask("greedy", "temperature", "edge", "deliberate:3", "self-consistency:2", seeds=2)
    results = list(Run(engine, n_predict=12).answer(asked))
    assert sorted(each.key for each in results) == sorted(question.key for question in asked)
    assert all(each.error is None and each.decoded_tokens >= each.written_tokens - 1 for each in results)
    assert [len(each.candidates) for each in results if each.policy == "self-consistency:2"] == [2] * 10
    assert engine.free == (6, 1024)


def test_a_stopped_run_goes_on_to_the_same_results(engine: Engine, tmp_path: Path) -> None:
    asked = ask("temperature", seeds=3)
    whole = {each.key: (each.found, each.written_tokens) for each in Run(engine, n_predict=12).answer(asked)}
    file = open_results(tmp_path / "results.jsonl", {})
    for each in Run(engine, n_predict=12).answer(asked, lambda: len(file.records) >= 4):
        file.add(each)
    assert 4 <= len(file.records) < len(asked)
    done = {each.key for each in file.records}
    for each in Run(engine, n_predict=12).answer([question for question in asked if question.key not in done]):
        file.add(each)
    file.close()
    assert {each.key: (each.found, each.written_tokens) for each in file.records} == whole
    assert len(file.records) == len(whole)


def test_a_problem_that_does_not_fit_is_a_result(engine: Engine) -> None:
    long = Problem(id="long", question="word " * 3000, answer="1", extractor="last-number")
    results = list(Run(engine, n_predict=12).answer(questions([policy("greedy")], [long, PROBLEMS[0]], 1)))
    assert {each.problem: each.error is not None for each in results} == {"long": True, "p0": False}
    assert summarise(results)[0].failed == 1


def test_the_shipped_problems_are_read() -> None:
    from entropix_edge import evaluation

    problems = read_problems(Path(str(evaluation.__file__)).parent / "smoke.jsonl")
    assert len(problems) >= 16
    assert len({problem.id for problem in problems}) == len(problems)


def test_a_result_is_one_line_of_json(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    file = open_results(path, {})
    file.add(result(found="a\nb "))
    file.close()
    assert len(path.read_bytes().splitlines()) == 2
    assert json.loads(path.read_text().split("\n")[1])["found"] == "a\nb "


def test_only_a_policy_that_acts_on_attention_reads_it() -> None:
    names = ["greedy", "temperature", "self-consistency:3", "edge", "deliberate:3", "article"]
    assert [reads_attention(policy(name)) for name in names] == [False] * 5 + [True]
