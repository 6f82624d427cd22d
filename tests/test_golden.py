"""Replies that must not change, to the token."""

import json
from typing import Any

import golden_replies
import pytest

GOLDEN: dict[str, list[list[Any]]] = json.loads(golden_replies.FILE.read_text("utf-8"))


@pytest.fixture(scope="module")
def replies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Any]]]:
    return golden_replies.record(tmp_path_factory.mktemp("golden"))


def is_number(value: object) -> bool:
    return isinstance(value, float)


def test_the_same_cases_are_on_record(replies: dict[str, list[list[Any]]]) -> None:
    assert list(replies) == list(GOLDEN)


@pytest.mark.parametrize("name", list(GOLDEN))
def test_a_reply_is_what_it_was(replies: dict[str, list[list[Any]]], name: str) -> None:
    assert len(replies[name]) == len(GOLDEN[name])
    for event, golden in zip(replies[name], GOLDEN[name], strict=True):
        assert len(event) == len(golden)
        for value, before in zip(event, golden, strict=True):
            assert value == (pytest.approx(before, abs=2e-3) if is_number(before) else before), (event, golden)


def test_every_act_is_among_them() -> None:
    kinds = {event[0] for events in GOLDEN.values() for event in events}
    assert kinds == {"token", "branch", "rejected", "rewind", "fallback", "candidate"}
    strategies = {event[4] for events in GOLDEN.values() for event in events if event[0] == "token"}
    assert {"argmax", "branch", "pause", "resample", "adaptive"} <= strategies
    assert {event[5] for events in GOLDEN.values() for event in events if event[0] == "token"} >= {
        "sampled",
        "forced",
        "branch",
    }
