"""Recordings: nothing is lost between a reply and its record, and a reply's numbers do not depend on its neighbours."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropix_edge.config import EngineConfig
from entropix_edge.engine import Engine, Reply
from entropix_edge.errors import ConfigError
from entropix_edge.evaluation.policies import policy
from entropix_edge.evaluation.records import (
    ALTERNATIVES,
    Record,
    Tokens,
    candidate_of,
    open_recording,
    read_recording,
)
from entropix_edge.evaluation.run import Meter, Run, questions
from entropix_edge.evaluation.tasks import Problem
from entropix_edge.text import locate
from entropix_edge.types import (
    Alternative,
    AttentionMetrics,
    BranchEvent,
    CorrectionEvent,
    Event,
    FinishReason,
    Metrics,
    Origin,
    RejectedEvent,
    RewindEvent,
    SideEvent,
    TokenEvent,
)

PROBLEMS = [
    Problem(id=f"p{number}", question="Well, " * number + "what is 1 and 1?", answer="2", extractor="last-number")
    for number in range(6)
]


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[Engine]:
    config = EngineConfig(
        ctx_size=2048, sequences=3, forks=0, threads=1, attention="off", pooled=False, same_shapes=True
    )
    with Engine.open(tiny_model, config) as opened:
        yield opened


def record(engine: Engine, *names: str, problems: list[Problem] = PROBLEMS, seeds: int = 1) -> list[Record]:
    asked = questions([policy(name) for name in names], problems, seeds)
    return list(Run(engine, n_predict=24).record(asked))


def columns(tokens: Tokens) -> list[npt.NDArray[Any]]:
    return [column for column in tokens if not isinstance(column, str)]


def same(one: Tokens, other: Tokens) -> bool:
    pairs = zip(columns(one), columns(other), strict=True)
    return one.origin == other.origin and all(np.array_equal(*pair, equal_nan=True) for pair in pairs)


# --- what is kept ---------------------------------------------------------------------------------


def event(index: int, token: int | None, text: str, alternatives: list[int], **changes: Any) -> TokenEvent:
    seen = AttentionMetrics(1.0, 2.0, 3.0, 4.0) if changes.pop("attention", False) else None
    best = tuple(Alternative(each, "", -0.5 * (place + 1)) for place, each in enumerate(alternatives))
    values: dict[str, Any] = {
        "logprob": -1.25,
        "metrics": Metrics(1.5, 2.5, seen),
        "origin": Origin.SAMPLED,
        "alternatives": best,
    }
    return TokenEvent(index, token, text, **(values | changes))


def reply(events: list[Event]) -> Reply:
    tokens = tuple(each for each in events if isinstance(each, TokenEvent))
    side: tuple[SideEvent, ...] = tuple(each for each in events if not isinstance(each, TokenEvent))
    return Reply(
        text="".join(each.text for each in tokens),
        events=tokens,
        side_events=side,
        finish_reason=tokens[-1].finish_reason,
        seed=7,
        prompt_tokens=5,
        cached_tokens=0,
        decoded_tokens=20,
        prompt_seconds=0.0,
        generation_seconds=1.0,
    )


def test_a_record_keeps_what_happened() -> None:
    text = reply(
        [
            event(0, 3, "so ", [3, 4], attention=True),
            RejectedEvent(1, 8, "x", 9.0, 4.0),
            RewindEvent(1, (8, 9), "xy"),
            BranchEvent(1, (5, 6, 7), "abc", 0.5, False),
            CorrectionEvent(1, (8,), "3", "6 + 6", "3", "12"),
            BranchEvent(1, (4,), "1", 0.9, True),
            event(1, 4, "1", [3, 4], origin=Origin.BRANCH),
            event(2, 30, "2", list(range(100, 120)), origin=Origin.FORCED),
            event(3, None, "!", [], finish_reason=FinishReason.REPETITION),
        ]
    )
    kept = candidate_of(text, locate(text.text, "last-number"), right=True, seconds=1.5)
    assert (kept.answer, kept.span, kept.text) == ("12", (3, 5), "so 12!")
    assert (kept.rejected, kept.rewound, kept.unkept, kept.decoded_tokens) == (1, 3, 3, 20)
    assert kept.corrections == ((1, "6 + 6", "3", "12"),)
    assert (kept.seed, kept.finish, kept.right, kept.seconds) == (7, FinishReason.REPETITION, True, 1.5)
    tokens = kept.tokens
    assert tokens.id.tolist() == [3, 4, 30]
    assert tokens.chars.tolist() == [3, 1, 1]
    assert tokens.rank.tolist() == [0, 1, ALTERNATIVES]
    assert tokens.second.tolist() == [4, 4, 101]
    assert tokens.best.tolist() == [-0.5] * 3
    assert tokens.gap.tolist() == [0.5] * 3
    assert tokens.origin == "sbf"
    assert [tokens.logprob[0], tokens.entropy[0], tokens.varentropy[0]] == [-1.25, 1.5, 2.5]
    assert np.isnan(tokens.attention_entropy).tolist() == [False, True, True]
    assert tokens.interaction_strength[0] == 4.0


def test_what_is_written_is_read_again(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    written = record(engine, "greedy", "self-consistency:2", problems=PROBLEMS[:2])
    with open_recording(path, {"model": "m"}) as log:
        for each in written:
            log.add(each)
    settings, again = read_recording(path)
    assert settings == {"model": "m"}
    assert [each.result for each in again] == [each.result for each in written]
    for mine, other in zip(written, again, strict=True):
        for ours, theirs in zip(mine.candidates, other.candidates, strict=True):
            same_but_tokens = dataclasses.replace(ours, seconds=round(ours.seconds, 4), tokens=theirs.tokens)
            assert same_but_tokens == theirs
            assert ours.tokens.origin == theirs.tokens.origin
            for column, found in zip(columns(ours.tokens), columns(theirs.tokens), strict=True):
                np.testing.assert_allclose(column, found, atol=6e-5)


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"settings": {}}\n{"result": {}}\n')
    with pytest.raises(ConfigError, match="line 2 is not a record of a recording"):
        read_recording(path)


# --- from an engine -------------------------------------------------------------------------------


def test_every_candidate_is_kept_with_all_its_tokens(engine: Engine) -> None:
    for each in record(engine, "greedy", "self-consistency:3"):
        assert len(each.candidates) == (3 if "self" in each.result.policy else 1)
        assert each.prompt_tokens > 0
        assert [kept.seed - each.candidates[0].seed for kept in each.candidates] == list(range(len(each.candidates)))
        for kept in each.candidates:
            tokens = kept.tokens
            assert kept.decoded_tokens == kept.written_tokens - 1
            assert kept.seconds > 0
            assert tokens.chars.sum() == len(kept.text)
            assert (tokens.gap >= 0).all()
            taken = tokens.rank == 0
            np.testing.assert_allclose(tokens.logprob[taken], tokens.best[taken])
            assert (tokens.logprob[~taken] <= tokens.best[~taken]).all()
            second = tokens.rank == 1
            np.testing.assert_allclose(tokens.logprob[second], (tokens.best - tokens.gap)[second], atol=1e-5)
            assert (tokens.id[second] == tokens.second[second]).all()
            if "greedy" in each.result.policy:
                assert taken.all()


def test_a_recording_answers_as_a_run_without_one(engine: Engine) -> None:
    asked = questions([policy("temperature"), policy("self-consistency:2")], PROBLEMS, 2)
    plain = {each.key: each for each in Run(engine, n_predict=24).answer(asked)}
    for each in Run(engine, n_predict=24).record(asked):
        other = plain[each.result.key]
        assert (each.result.found, each.result.decoded_tokens) == (other.found, other.decoded_tokens)


def test_with_attention_a_reply_does_not_depend_on_its_neighbours(tiny_model: Path) -> None:
    config = EngineConfig(ctx_size=2048, sequences=3, forks=0, threads=1, pooled=False, same_shapes=True)
    with Engine.open(tiny_model, config) as watching:
        alone = record(watching, "greedy", problems=PROBLEMS[2:3])[0].candidates[0]
        found = record(watching, "temperature:0.3", "greedy", problems=PROBLEMS[::-1])
    (among,) = [each.candidates[0] for each in found if each.key == ("greedy", "p2", 0)]
    assert not np.isnan(alone.tokens.attention_entropy).any()
    assert same(alone.tokens, among.tokens)


def test_a_reply_does_not_depend_on_its_neighbours(engine: Engine) -> None:
    alone = record(engine, "greedy", problems=PROBLEMS[2:3])[0].candidates[0]
    for others in (PROBLEMS, PROBLEMS[::-1]):
        found = record(engine, "temperature:0.3", "greedy", problems=others)
        (among,) = [each.candidates[0] for each in found if each.key == ("greedy", "p2", 0)]
        assert same(alone.tokens, among.tokens)
    candidates = record(engine, "self-consistency:5", problems=PROBLEMS[:3])[2].candidates
    single = record(engine, "temperature:0.7", problems=PROBLEMS[2:3])[0].candidates[0]
    assert same(single.tokens, candidates[0].tokens)


def test_a_full_batch_is_decoded_until_the_end(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = engine.context.decode
    rows: list[int] = []

    def counted(cells: Any) -> Any:
        if all(cell.wanted for cell in cells):
            rows.append(len(cells))
        else:
            assert [cell.sequence for cell in cells] == [cells[0].sequence] * len(cells), "a prompt is alone"
        return decode(cells)

    monkeypatch.setattr(engine.context, "decode", counted)
    record(engine, "greedy", problems=PROBLEMS[:4])
    assert set(rows) == {engine.sequences}
    assert engine.free == (engine.sequences, engine.context.n_ctx)


def test_a_problem_that_does_not_fit_is_recorded_as_that(engine: Engine) -> None:
    long = dataclasses.replace(PROBLEMS[0], id="long", question="word " * 3000)
    found = {each.result.problem: each for each in record(engine, "greedy", problems=[long, PROBLEMS[1]])}
    assert (found["long"].result.error is not None, found["long"].candidates) == (True, ())
    assert found["p1"].candidates


# --- seconds --------------------------------------------------------------------------------------


def test_a_decode_s_time_is_shared_by_its_tokens() -> None:
    meter = Meter()
    meter.note(1.0, {"a": 0, "b": 0})  # a prompt: nobody's
    meter.note(2.0, {"a": 1, "b": 1})
    meter.note(3.0, {"a": 3, "b": 2})
    meter.note(5.0, {"b": 3})
    assert (meter.pop("a"), meter.pop("b"), meter.pop("b")) == (3.0, 7.0, 0.0)


@given(st.lists(st.tuples(st.floats(0, 10), st.lists(st.integers(0, 3), min_size=3, max_size=3)), max_size=20))
def test_no_time_is_lost_and_none_is_counted_twice(decodes: list[tuple[float, list[int]]]) -> None:
    meter, counts, spent = Meter(), [0, 0, 0], 0.0
    for seconds, grown in decodes:
        counts = [count + more for count, more in zip(counts, grown, strict=True)]
        meter.note(seconds, dict(enumerate(counts)))
        spent += seconds if any(grown) else 0
    assert math.isclose(sum(meter.pop(number) for number in range(3)), spent, abs_tol=1e-9)


# --- the command ----------------------------------------------------------------------------------


def test_a_line_is_json(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with open_recording(path, {}) as log:
        log.add(record(engine, "greedy", problems=PROBLEMS[:1])[0])
    line = json.loads(path.read_text().splitlines()[1])
    tokens = line["candidates"][0]["tokens"]
    assert tokens["rank"] == 0  # greedy's never changes
    assert "attention_entropy" not in tokens
    assert len(tokens["entropy"]) == tokens["count"]
