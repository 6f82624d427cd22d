"""Greedy's recorded replies, taken for those of greedy with the check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from test_corrections import PROMPT, reply, says
from test_decoding import ByteVocabulary, ScriptedContext, finish, task
from test_records import PROBLEMS, engine
from test_records import record as recorded
from test_records import reply as whole_reply

from entropix_edge import CorrectionEvent, Engine, GenerationConfig, load_preset
from entropix_edge.decoding import Scheduler, generate
from entropix_edge.errors import ConfigError
from entropix_edge.evaluation.policies import policy
from entropix_edge.evaluation.records import Candidate, candidate_of, open_recording
from entropix_edge.evaluation.reuse import is_left_alone, left_alone
from entropix_edge.evaluation.run import questions

if TYPE_CHECKING:
    from entropix_edge.types import Event

__all__ = ["engine"]  # a fixture


def equations(text: str, unsure_at: int) -> tuple[Candidate, bool]:
    """Greedy's reply that says a text, recorded; and whether the check corrects something in it."""
    context = ScriptedContext(says(text, unsure_at))
    scheduler = Scheduler(context)
    events: list[Event] = []
    plain = GenerationConfig(sampler="greedy").in_effect(load_preset("edge"))
    item = task(preset=plain, sampler="greedy", capacity=64, alternatives=2)
    scheduler.add(generate(PROMPT, item, ByteVocabulary(), events.append), 64, PROMPT)
    finish(scheduler)
    checked, _context = reply(says(text, unsure_at))
    corrected = any(isinstance(event, CorrectionEvent) for event in checked)
    return candidate_of(whole_reply(events), None, right=False, seconds=0.0), corrected


@given(
    first=st.integers(0, 30),
    second=st.integers(0, 30),
    found=st.integers(0, 60),
    unsure_at=st.integers(0, 12),
    end=st.sampled_from(["", ";", " SO", ",5"]),
)
@example(first=12, second=3, found=36, unsure_at=6, end=";")
@example(first=12, second=3, found=36, unsure_at=2, end=";")
def test_a_reply_without_a_correction_is_known_from_greedys(
    first: int, second: int, found: int, unsure_at: int, end: str
) -> None:
    candidate, corrected = equations(f"{first}+{second}={found}{end}", unsure_at)
    assert is_left_alone(candidate, load_preset("edge").check, ByteVocabulary()) is not corrected


@pytest.mark.parametrize(("key", "value"), [("n_predict", 25), ("rows", 4), ("pooled", True)])
def test_a_recording_of_other_settings_is_not_reused(engine: Engine, tmp_path: Path, key: str, value: object) -> None:
    settings = {"n_predict": 24, "rows": 3, "pooled": False}
    path = tmp_path / "greedy.jsonl.gz"
    with open_recording(path, settings) as recording:
        for each in recorded(engine, "greedy"):
            recording.add(each)
    asked = questions([policy("greedy+check")], PROBLEMS, 1)
    taken = list(left_alone(path, {**settings, "edge": "x"}, asked, engine))
    assert {each.key for each in taken} == {question.key for question in asked}
    with pytest.raises(ConfigError, match=key):
        list(left_alone(path, settings | {key: value}, asked, engine))
