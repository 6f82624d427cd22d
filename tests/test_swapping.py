"""Cached prefixes that are swapped out of the pool, and come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import endless_model
from test_decoding import END, Running, ScriptedContext, finish, sure_of, task

from entropix_edge import Engine, EngineConfig, GenerationConfig
from entropix_edge.decoding import Scheduler, slots
from entropix_edge.decoding.slots import Slot

if TYPE_CHECKING:
    from entropix_edge.types import Logits


def swapped(scheduler: Scheduler) -> list[Slot]:
    return [slot for slot in scheduler.slots.cached if slot.state is not None]


@pytest.fixture
def no_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cached cell counts."""
    monkeypatch.setattr(slots, "_PADDING", 0)


@pytest.mark.usefixtures("no_padding")
def test_all_cached_prefixes_but_the_newest_leave_the_pool_and_come_back() -> None:
    context = ScriptedContext(lambda held: sure_of(20) if len(held) % 10 else sure_of(END), n_ctx=200)
    scheduler = Scheduler(context)
    prompts = [[first, *range(5, 10)] for first in (1, 2, 3)]
    texts = []
    for prompt in prompts:
        texts.append(Running(scheduler, prompt, 20, task(n_predict=9, capacity=20)))
        finish(scheduler)
    assert len(swapped(scheduler)) == 2
    held = [len(cells) for cells in context.cells.values() if cells]
    assert len(held) == 1, "one sequence is left in the pool"
    before = sum(map(len, context.batches))
    again = [*prompts[0], *(token for token in texts[0].tokens if token is not None)]
    Running(scheduler, [*again, 7, 8], 30, task(n_predict=3, capacity=30))
    finish(scheduler)
    assert sum(map(len, context.batches)) - before <= 2 + 1 + 3, "what was swapped out is not decoded again"


@pytest.mark.usefixtures("no_padding")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.lists(st.lists(st.integers(5, 8), min_size=1, max_size=12), min_size=2, max_size=12),
    together=st.integers(1, 3),
    n_ctx=st.integers(40, 160),
)
def test_whatever_is_swapped_each_says_what_it_says_alone(prompts: list[list[int]], together: int, n_ctx: int) -> None:
    def script(held: list[int]) -> Logits:
        return sure_of(END) if len(held) >= 14 else sure_of(10 + sum(held) % 10)

    def say(waves: list[list[list[int]]]) -> list[list[int | None]]:
        context = ScriptedContext(script, n_ctx=n_ctx, sequences=3)
        scheduler = Scheduler(context)
        said = []
        for wave in waves:
            running = [Running(scheduler, prompt, 16, task(n_predict=14, capacity=16)) for prompt in wave]
            finish(scheduler)
            said += [one.tokens for one in running]
            in_pool = sum(map(len, context.cells.values()))
            away = sum(len(slot.tokens) for slot in swapped(scheduler))
            assert in_pool + away <= n_ctx, "no more memory than a full pool's"
            assert scheduler.free == (3, n_ctx)
        return said

    waves = [prompts[start : start + together] for start in range(0, len(prompts), together)]
    assert say(waves) == [one for prompt in prompts for one in say([[prompt]])]


def conversation(engine: Engine, opening: str, turns: int) -> Iterator[tuple[list[int], int]]:
    """After each turn all tokens so far, and how many were decoded of its prompt."""
    tokens = list(engine.tokenize_prompt(opening, raw=True))
    typed = list(engine.tokenize_prompt("cd", raw=True))[-2:]
    for _ in range(turns):
        with engine.stream_tokens(tokens, GenerationConfig(sampler="greedy", n_predict=40)) as stream:
            reply = stream.reply()
        tokens += [*stream.token_ids, *typed]
        yield list(tokens), reply.prompt_tokens - reply.cached_tokens


@pytest.mark.parametrize("attention", ["off", "last"])
def test_conversations_in_turns_decode_only_what_is_new(tmp_path: Path, attention: Literal["off", "last"]) -> None:
    """On the real cache: what was swapped out says on what it would have said."""
    model = endless_model(tmp_path / "endless.gguf")
    config = EngineConfig(threads=1, attention=attention, ctx_size=4096, sequences=4)
    openings = ["a" * 300, "b" * 300, "cd" * 150]
    alone = []
    for opening in openings:
        with Engine.open(model, config) as engine:
            alone.append(list(conversation(engine, opening, 3)))
    with Engine.open(model, config) as engine:
        turns = list(zip(*(conversation(engine, opening, 3) for opening in openings), strict=True))
        assert sum(slot.state is not None for slot in engine._scheduler.slots.cached) == 2
    assert [list(each) for each in zip(*turns, strict=True)] == alone
    assert all(decoded <= 3 for turn in turns[1:] for _tokens, decoded in turn)
