"""The trace: what is written is what is read, and what is damaged is named by its line."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entropix_edge import Engine, EngineConfig, GenerationConfig
from entropix_edge.errors import ConfigError
from entropix_edge.render import Trace, TraceWriter, as_record, read_trace
from entropix_edge.types import (
    Alternative,
    AttentionMetrics,
    BranchEvent,
    CandidateEvent,
    ConfidenceEvent,
    CorrectionEvent,
    Event,
    FallbackEvent,
    FinishReason,
    Metrics,
    Origin,
    RejectedEvent,
    RewindEvent,
    SideEvent,
    Strategy,
    TokenEvent,
)

HEADER = {"model": "tiny.gguf", "seed": 1, "prompt_tokens": 3, "preset": {"name": "edge"}, "attention_layers": [2]}
FORMAT = '{"format": "entropix-edge trace 1", "model": "tiny.gguf"}'

COUNT = st.integers(0, 2**40)
NUMBER = st.floats(allow_nan=False)
TEXT = st.text(st.characters(codec="utf-8"))
TOKENS = st.lists(COUNT, max_size=5).map(tuple)
ATTENTION = st.builds(AttentionMetrics, NUMBER, NUMBER, NUMBER, NUMBER)
METRICS = st.builds(Metrics, NUMBER, NUMBER, st.none() | ATTENTION)
ALTERNATIVES = st.lists(st.builds(Alternative, COUNT, TEXT, NUMBER), max_size=3).map(tuple)
STRATEGY = st.sampled_from(Strategy)
FINISH = st.none() | st.sampled_from(FinishReason)
TOKEN = st.builds(
    TokenEvent, COUNT, COUNT, TEXT, NUMBER, st.none() | METRICS, STRATEGY, st.sampled_from(Origin), FINISH, ALTERNATIVES
)
END = st.tuples(COUNT, st.none(), TEXT, st.none(), st.none(), st.none(), st.none(), FINISH).map(
    lambda values: TokenEvent(*values)
)
SIDE = [
    st.builds(BranchEvent, COUNT, TOKENS, TEXT, NUMBER, st.booleans()),
    st.builds(RejectedEvent, COUNT, COUNT, TEXT, NUMBER, st.none() | NUMBER),
    st.builds(RewindEvent, COUNT, TOKENS, TEXT),
    st.builds(FallbackEvent, COUNT, STRATEGY, TEXT),
    st.builds(CorrectionEvent, COUNT, TOKENS, TEXT, TEXT, TEXT, TEXT),
    st.builds(CandidateEvent, COUNT, TOKENS, TEXT, NUMBER, st.none() | TEXT, st.booleans()),
    st.builds(ConfidenceEvent, COUNT, TEXT, NUMBER, st.none() | TEXT, COUNT, TOKENS),
]


def test_every_kind_of_side_event_is_tried() -> None:
    assert len(SIDE) == len(get_args(SideEvent))


@given(st.lists(TOKEN | END | st.one_of(SIDE), max_size=12), st.integers(0, 2**64 - 1))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, events: list[Event], seed: int) -> None:
    path = tmp_path / "trace.jsonl"
    writer = TraceWriter(path, HEADER | {"seed": seed})
    for event in events:
        writer.write(event)
    writer.close()
    trace = read_trace(path)
    assert trace == Trace(version=1, header=HEADER | {"seed": seed}, events=tuple(events))
    assert [type(event) for event in trace.events] == [type(event) for event in events]
    for line in path.read_bytes().split(b"\n")[:-1]:
        json.loads(line, parse_constant=pytest.fail)  # NaN and Infinity are not JSON


def test_a_reply_is_read_as_it_was_generated(tiny_model: Path, tmp_path: Path) -> None:
    with Engine.open(tiny_model, EngineConfig(threads=1, ctx_size=256)) as engine:
        reply = engine.generate("hello", GenerationConfig(seed=1, n_predict=30, alternatives=2))
    events: list[Event] = [*reply.side_events, *reply.events]
    writer = TraceWriter(tmp_path / "trace.jsonl", HEADER)
    for event in events:
        writer.write(event)
    writer.close()
    trace = read_trace(tmp_path / "trace.jsonl")
    assert trace.events == tuple(events)
    assert trace.tokens == reply.events


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    path.write_text("\n".join(lines) + end, "utf-8")
    return path


TOKEN_LINE = json.dumps(as_record(TokenEvent(0, 5, "a", -0.5, Metrics(1.0, 2.0), Strategy.ARGMAX, Origin.SAMPLED)))


def test_a_file_without_a_version_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "old.jsonl", '{"model": "tiny.gguf", "seed": 1}', TOKEN_LINE)
    trace = read_trace(path)
    assert (trace.version, trace.header) == (0, {"model": "tiny.gguf", "seed": 1})
    assert trace.tokens == (TokenEvent(0, 5, "a", -0.5, Metrics(1.0, 2.0), Strategy.ARGMAX, Origin.SAMPLED),)


def test_fields_of_a_later_writer_are_left_out(tmp_path: Path) -> None:
    line = json.dumps(json.loads(TOKEN_LINE) | {"mood": "sure"})
    assert (
        read_trace(write(tmp_path / "trace", FORMAT, line)).events
        == read_trace(write(tmp_path / "plain", FORMAT, TOKEN_LINE)).events
    )


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(b"\xef\xbb\xbf" + f"{FORMAT}\r\n{TOKEN_LINE}\r\n".encode())
    assert len(read_trace(path).tokens) == 1


@pytest.mark.parametrize("kept", [5, 40, len(TOKEN_LINE) - 1])
def test_a_line_that_was_cut_short_costs_itself_alone(tmp_path: Path, kept: int) -> None:
    trace = read_trace(write(tmp_path / "trace", FORMAT, TOKEN_LINE, TOKEN_LINE[:kept], end=""))
    assert trace.cut
    assert len(trace.tokens) == 1
    whole = read_trace(write(tmp_path / "trace", FORMAT, TOKEN_LINE, TOKEN_LINE, end=""))
    assert not whole.cut
    assert len(whole.tokens) == 2


def changed(**values: Any) -> str:
    return json.dumps({key: value for key, value in (json.loads(TOKEN_LINE) | values).items() if value != "gone"})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ("\udcff", "it is not JSON"),
        ("[]", "it is not an object"),
        ("7", "it is not an object"),
        ("{}", "it has neither an origin nor an event"),
        ('{"event": "miracle"}', "event 'miracle' is not known"),
        ('{"event": ["end"]}', "event ['end'] is not known"),
        ('{"event": "rewind", "index": 0, "text": "a"}', "token_ids is missing"),
        ('{"event": "rewind", "index": 0, "text": "a", "token_ids": 3}', "token_ids is 3: it must be a list"),
        ('{"event": "rewind", "index": 0, "text": "a", "token_ids": ["b"]}', "token_ids is 'b': it must be a whole"),
        (changed(index=0.5), "index is 0.5: it must be a whole number"),
        (changed(index=True), "index is True: it must be a whole number"),
        (changed(index="gone"), "index is missing"),
        (changed(text=None), "text is None: it must be a text"),
        (changed(logprob="low"), "logprob is 'low': it must be a number"),
        (changed(logprob=[]), "logprob is []: it must be a number"),
        (changed(metrics=[1, 2]), "metrics is [1, 2]: it must be an object"),
        (changed(metrics={"entropy": 1}), "varentropy is missing"),
        (changed(logprob=-(10**400)), "logprob is too great: it must be a number up to 1.8e308"),
        (changed(strategy="hope"), "strategy is 'hope': it must be one of argmax, branch,"),
        (changed(strategy={}), "strategy is {}: it must be one of argmax, branch,"),
        (changed(finish_reason="bored"), "finish_reason is 'bored': it must be one of stop, length,"),
        (changed(alternatives=[{"token_id": 1}]), "text is missing"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"event": ' + "9" * 5000 + "}", "integer string conversion"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes("\n".join((FORMAT, TOKEN_LINE, line, TOKEN_LINE, "")).encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=r"trace\.jsonl: line 3 is not a trace event: ") as refused:
        read_trace(path)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("", "its first line must describe the run"),
        ("{}", "its first line must describe the run"),
        ("[" * 100_000, "its first line must describe the run"),
        (TOKEN_LINE, "its first line must describe the run"),
        ('{"settings": {}}', "its first line must describe the run"),
        ('{"format": 1}', "its format is 1"),
        ('{"format": "1"}', "its format is '1'"),
        ('{"format": "entropix-edge trace one"}', "its format is 'entropix-edge trace one'"),
        ('{"format": "entropix-edge trace 2"}', "reads up to 1"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, first: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_trace(write(tmp_path / "trace.jsonl", first, TOKEN_LINE))
    assert reason in str(refused.value)


def test_an_empty_file_is_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with pytest.raises(ConfigError, match="is not a trace"):
        read_trace(path)


def test_a_probability_of_nothing_ends_no_trace(tmp_path: Path) -> None:
    event = TokenEvent(0, 1, "a", -math.inf, Metrics(0.0, 0.0), Strategy.PAUSE, Origin.FORCED)
    writer = TraceWriter(tmp_path / "trace", HEADER)
    writer.write(event)
    writer.close()
    assert json.loads((tmp_path / "trace").read_text().splitlines()[1])["logprob"] == "-inf"
    assert read_trace(tmp_path / "trace").events == (event,)


def test_the_page_names_every_event_and_field() -> None:
    page = (Path(__file__).parents[1] / "docs" / "TRACE.md").read_text("utf-8")
    for kind in get_args(SideEvent):
        for field in fields(kind):
            assert f"`{field.name}`" in page, f"{kind.__name__}.{field.name}"
    metrics = {f"metrics.{name}" for name in Metrics._fields}
    for name in {"format", *TokenEvent._fields, *Alternative._fields, *metrics} - {"metrics"}:
        assert f"`{name}`" in page, name


def test_the_pages_program_runs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "TRACE.md").read_text("utf-8")
    program = page.split("```python\n")[1].split("```")[0]
    write(tmp_path / "trace.jsonl", FORMAT, TOKEN_LINE, TOKEN_LINE)
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == " 1.00  argmax    'a'\n" * 2
