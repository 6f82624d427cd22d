"""Who runs when, and on which cells: many generations on a scripted model, and on a real one with little context."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_decoding import END, Running, ScriptedContext, echo, even, finish, spell, sure_of, task, text_of

from entropix_edge import Engine, EngineConfig, GenerationConfig, Metrics, PromptError
from entropix_edge.decoding import GROWTH, Scheduler
from entropix_edge.strategy import plan
from entropix_edge.strategy import policy as policies
from entropix_edge.types import Cell, FinishReason, Row, Strategy

if TYPE_CHECKING:
    from entropix_edge.types import Action, Logits


def unlimited(scheduler: Scheduler, prompt: Sequence[int], capacity: int) -> Running:
    """A generation of which nobody knows how long it will be."""
    return Running(scheduler, prompt, capacity, task(capacity=capacity), reserve=len(prompt) + GROWTH)


# --- unlimited replies ------------------------------------------------------------------------------


def test_unlimited_replies_take_turns() -> None:
    context = ScriptedContext(lambda held: sure_of(held[0] if len(held) < 40 else END), n_ctx=1000)
    scheduler = Scheduler(context)
    running = [unlimited(scheduler, [letter, 2, 3], 1000) for letter in (11, 12, 13)]
    finish(scheduler)
    generated = [cell.sequence for batch in context.batches for cell in batch if cell.wanted]
    assert generated[2:11] == [0, 1, 2] * 3  # the third's prompt does not fit the first batch
    assert [one.tokens for one in running] == [[letter] * 37 + [END] for letter in (11, 12, 13)]


def test_where_cells_run_out_the_last_waits_and_loses_nothing() -> None:
    """Three replies of 300 tokens on 500 cells."""
    context = ScriptedContext(lambda held: sure_of(held[0] if len(held) < 300 else END), n_ctx=500)
    scheduler = Scheduler(context)
    running = [unlimited(scheduler, [letter, 2, 3], 500) for letter in (11, 12, 13)]
    finished: list[int] = []
    while scheduler.step():
        finished += [number for number, one in enumerate(running) if one.job.ended and number not in finished]
    assert [one.tokens for one in running] == [[letter] * 297 + [END] for letter in (11, 12, 13)]
    assert [one.events[-1].finish_reason for one in running] == [FinishReason.STOP] * 3
    assert finished[0] == 0, "the one that came first is never held up"
    assert scheduler.free == (4, 500)
    assert running[2].job.decoded > 300, "what was dropped was decoded again, and is counted"


def test_an_unlimited_reply_alone_has_the_whole_context() -> None:
    context = ScriptedContext(lambda _held: sure_of(20), n_ctx=200)
    scheduler = Scheduler(context)
    one = unlimited(scheduler, [5, 6, 7], 200)
    finish(scheduler)
    assert one.events[-1].finish_reason is FinishReason.CONTEXT
    assert len(one.events) == 200 - 3 + 1


def test_prompts_that_come_again_at_once_are_all_cached() -> None:
    """As many as there are sequences: each takes its own cached prefix, though others are older."""
    context = ScriptedContext(lambda held: sure_of(held[0] if len(held) < 40 else END), n_ctx=1000)
    scheduler = Scheduler(context)
    prompts = [[letter, 2, 3, letter, 5, 6] for letter in (11, 12, 13, 14)]
    for prompt in prompts:
        unlimited(scheduler, prompt, 1000)
    finish(scheduler)
    again = [unlimited(scheduler, prompts[number], 1000) for number in (2, 0, 3, 1)]
    finish(scheduler)
    assert [one.job.cached for one in again] == [6] * 4


def test_cached_prefixes_give_way_to_a_reply_that_grows() -> None:
    context = ScriptedContext(lambda held: sure_of(held[0] if len(held) < 150 else END), n_ctx=160)
    scheduler = Scheduler(context)
    Running(scheduler, [9] * 60, 62, task(n_predict=2, capacity=62))
    finish(scheduler)
    one = unlimited(scheduler, [5, 6, 7], 160)
    finish(scheduler)
    assert len(one.tokens) == 148


@given(
    lengths=st.lists(st.integers(1, 120), min_size=1, max_size=6),
    n_ctx=st.integers(130, 300),
    sequences=st.integers(1, 4),
    chunk=st.sampled_from([0, 1, 3]),
)
def test_whatever_the_capacity_each_says_what_it_would_say_alone(
    lengths: list[int], n_ctx: int, sequences: int, chunk: int
) -> None:
    def script(held: list[int]) -> Logits:
        return sure_of(END if len(held) >= 3 + held[1] else 2 + hash(tuple(held)) % 30)

    context = ScriptedContext(script, n_ctx=n_ctx, sequences=sequences)
    scheduler = Scheduler(context, prompt_chunk=chunk)
    running = [unlimited(scheduler, [10 + number, length, 3], n_ctx) for number, length in enumerate(lengths)]
    finish(scheduler)
    for number, (one, length) in enumerate(zip(running, lengths, strict=True)):
        held = [10 + number, length, 3]
        for _ in range(length):
            held.append(int(script(held).argmax()))
        assert one.tokens == [*held[3:], END]
    assert scheduler.free == (sequences, n_ctx)
    scheduler.slots.forget()
    assert not any(context.cells.values())


# --- prefixes in common ------------------------------------------------------------------------------


class Counted(int):
    """A token that counts how often it is compared."""

    compared = 0
    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return int(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other


def test_what_a_prompt_costs_to_match_does_not_grow_with_those_beside_it() -> None:
    """They wait for the first, share what it has decoded, and come again: what each costs does not grow with them."""

    def comparisons(count: int) -> float:
        context = ScriptedContext(lambda _held: sure_of(20), n_ctx=count * 220, sequences=count)
        scheduler = Scheduler(context)
        before = Counted.compared
        for _ in range(2):
            prompts = [[Counted(5 + place % 7) for place in range(200)] + [40 + number] for number in range(count)]
            running = [Running(scheduler, prompt, 210, task(n_predict=3, capacity=210)) for prompt in prompts]
            finish(scheduler)
            assert all(one.tokens == [20] * 3 for one in running)
        assert sum(len(batch) for batch in context.batches) < 200 + 30 * count, "the beginning was decoded once"
        return (Counted.compared - before) / count

    assert comparisons(16) < 1.5 * comparisons(4)


# --- cancelling -------------------------------------------------------------------------------------


def test_cancelling_one_of_four_changes_no_others_text() -> None:
    def script(held: list[int]) -> Logits:
        return even(20) if len(held) < 20 else sure_of(END)

    def say(cancelled: int | None) -> list[list[int | None]]:
        scheduler = Scheduler(ScriptedContext(script, n_ctx=256))
        running = [Running(scheduler, item=task(seed=seed, sampler="temperature"), cells=32) for seed in (3, 4, 5, 6)]
        while scheduler.step():
            if cancelled is not None and len(running[cancelled].events) == 5:
                running[cancelled].job.cancel()
        return [one.tokens for one in running]

    whole = say(None)
    for number in range(4):
        partly = say(number)
        assert partly[number] == [*whole[number][:5], None]
        assert partly[:number] + partly[number + 1 :] == whole[:number] + whole[number + 1 :]


def test_a_reply_that_waits_for_cells_can_be_cancelled() -> None:
    context = ScriptedContext(lambda held: sure_of(held[0] if len(held) < 300 else END), n_ctx=320)
    scheduler = Scheduler(context)
    first, second = (unlimited(scheduler, [letter, 2, 3], 320) for letter in (11, 12))
    while len(first.events) < 200:
        scheduler.step()
    said = len(second.events)
    assert 0 < said < 200, "it waits"
    second.job.cancel()
    finish(scheduler)
    assert second.events[-1].finish_reason is FinishReason.CANCELLED
    assert len(second.events) == said + 1
    assert len(first.tokens) == 298


# --- prompts beside replies -------------------------------------------------------------------------


def test_a_long_prompt_is_read_in_small_parts_beside_a_reply() -> None:
    context = ScriptedContext(echo, n_ctx=512, n_batch=64)
    scheduler = Scheduler(context, prompt_chunk=8)
    talking = Running(scheduler, cells=40, item=task(sampler="greedy", n_predict=30), prompt=[5, 6, 7])
    context.script = lambda held: sure_of(30) if held[0] == 5 else echo(held)
    scheduler.step()
    scheduler.step()
    Running(scheduler, list(range(10, 60)), 60)
    start = len(context.batches)
    finish(scheduler)
    beside = [batch for batch in context.batches[start:] if any(cell.wanted for cell in batch) and len(batch) > 1]
    assert max(len(batch) for batch in beside) == 1 + 8
    assert len(talking.events) == 30


def test_a_long_prompt_alone_fills_the_batch() -> None:
    context = ScriptedContext(echo, n_ctx=512, n_batch=64)
    scheduler = Scheduler(context, prompt_chunk=8)
    Running(scheduler, list(range(2, 60)), 64)
    finish(scheduler)
    assert len(context.batches[0]) == 58


def test_with_same_shapes_a_prompt_is_alone_and_whole_and_replies_are_apart_from_it() -> None:
    context = ScriptedContext(echo, n_ctx=512, n_batch=64)
    scheduler = Scheduler(context, 2, prompt_chunk=8, same_shapes=True)
    greedy = task(sampler="greedy", n_predict=6)
    prompts = [[5, 6, *range(10, 20)], [5, 6, *range(10, 20)], [5, 6, *range(30, 40)], [5, 6, *range(40, 50)]]
    for prompt in prompts:
        Running(scheduler, prompt, 40, greedy)
    finish(scheduler)
    read = [batch for batch in context.batches if not all(cell.wanted for cell in batch)]
    assert [[cell.token for cell in batch] for batch in read] == [prompts[each] for each in (0, 2, 3)]
    assert {len(batch) for batch in context.batches if batch not in read} == {2}
    assert not scheduler.slots.cached


# --- from other threads -----------------------------------------------------------------------------


class SlowContext(ScriptedContext):
    """Waits inside a decode until it is told to go on."""

    def __init__(self) -> None:
        super().__init__(spell("HELLO"))
        self.inside, self.go_on = threading.Event(), threading.Event()

    def decode(self, cells: Sequence[Cell]) -> list[Row] | None:
        self.inside.set()
        assert self.go_on.wait(10)
        return super().decode(cells)


def test_adding_and_cancelling_do_not_wait_for_a_decode() -> None:
    context = SlowContext()
    scheduler = Scheduler(context)
    first = Running(scheduler)
    thread = threading.Thread(target=finish, args=(scheduler,))
    thread.start()
    assert context.inside.wait(10)
    second, third = Running(scheduler), Running(scheduler)  # would hang here
    third.job.cancel()
    first.job.cancel()
    assert not first.events
    context.go_on.set()
    thread.join(10)
    assert not thread.is_alive()
    assert first.events[-1].finish_reason is FinishReason.CANCELLED
    assert text_of(second.events) == "HELLO"
    assert [event.finish_reason for event in third.events] == [FinishReason.CANCELLED]


# --- a policy with memory ---------------------------------------------------------------------------


class Counting:
    """Remembers every token that was written: the longest text it has seen stands in for a constraint's state."""

    acts = True
    remembers = True
    seen: list[list[int]]

    def __init__(self, seen: list[list[int]], tokens: list[int]) -> None:
        self.seen, self.tokens = seen, tokens
        seen.append(tokens)

    def decide(self, strategy: Strategy, metrics: Metrics, *, after_pause: bool) -> Action:
        return plan(strategy, metrics, PRESET, after_pause=after_pause)

    def accept(self, token: int) -> None:
        self.tokens.append(token)

    def copy(self) -> Counting:
        return Counting(self.seen, list(self.tokens))


PRESET = replace(
    task().preset,
    resample=replace(task().preset.resample, entropy_above=3.0, varentropy_above=-0.0, run=2, rewinds=2),
    pause=replace(task().preset.pause, entropy_above=1e9),
)


def test_a_policys_state_is_rewound_with_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def scattered(held: list[int]) -> Logits:
        if len(held) >= 8:
            return sure_of(END)
        row = even(30)
        row[2 + len(held)] = 1.0  # some varentropy
        return row

    seen: list[list[int]] = []
    monkeypatch.setitem(policies._POLICIES, "entropix", lambda _preset: Counting(seen, []))
    scheduler = Scheduler(ScriptedContext(scattered))
    one = Running(scheduler, item=task(preset=PRESET))
    finish(scheduler)
    assert one.tokens in seen, "the policy that is left has seen exactly what was written"
    assert len(seen) > 2, "there was a rewind"


# --- the engine -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[Engine]:
    config = EngineConfig(threads=1, ctx_size=512, exact=True, sequences=3, forks=0)
    with Engine.open(tiny_model, config) as opened:
        yield opened


def test_three_unlimited_replies_interleave_on_the_real_cache(engine: Engine) -> None:
    configs = [GenerationConfig(sampler="temperature", seed=seed) for seed in (1, 2, 3)]
    alone = []
    for config in configs:
        engine.forget()
        alone.append(engine.generate("hello", config))
    engine.forget()
    streams = [engine.stream("hello", config) for config in configs]
    order: list[int] = []
    while engine.step():
        for number, stream in enumerate(streams):
            order += [number for _event in stream.waiting()]
    assert set(order[:6]) == {0, 1, 2}
    for stream, reply in zip(streams, alone, strict=True):
        together = stream.reply()
        assert together.text == reply.text
        assert together.finish_reason == reply.finish_reason
    assert engine.free == (3, 512)


def test_alternatives_are_the_most_probable_tokens(engine: Engine) -> None:
    config = GenerationConfig(seed=1, n_predict=12, alternatives=5)
    reply = engine.generate("hello", config)
    plain = engine.generate("hello", replace(config, alternatives=0))
    assert [event.token_id for event in reply.events] == [event.token_id for event in plain.events]
    assert all(event.alternatives == () for event in plain.events)
    for event in reply.events:
        assert len(event.alternatives) == 5
        logprobs = [alternative.logprob for alternative in event.alternatives]
        assert logprobs == sorted(logprobs, reverse=True)
        assert event.logprob is not None
        assert event.logprob <= logprobs[0]
        same = [each for each in event.alternatives if each.token_id == event.token_id]
        assert all(each.logprob == event.logprob for each in same)


def test_a_reply_goes_on_from_exact_tokens(engine: Engine) -> None:
    config = GenerationConfig(sampler="greedy", n_predict=20)
    whole = engine.generate("hello", config)
    ids = [event.token_id for event in whole.events]
    begun = [token for token in ids[:8] if token is not None]
    rest = engine.generate("hello", config, begin_tokens=begun)
    assert rest.text == whole.text
    assert [event.token_id for event in rest.events] == ids[8:]
    assert rest.events[0].index == 8


@pytest.mark.parametrize(
    ("tokens", "message"),
    [([10**6], "not in the vocabulary"), ([-1], "not in the vocabulary"), ([5] * 20, "must be at least 21")],
)
def test_wrong_beginnings_are_refused(engine: Engine, tokens: list[int], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        engine.stream("hello", GenerationConfig(n_predict=20), begin_tokens=tokens)


def test_replies_in_threads_of_their_own_are_what_they_are_alone(engine: Engine) -> None:
    configs = [GenerationConfig(seed=seed, n_predict=25) for seed in range(6)]
    alone = [engine.generate("hello", config).text for config in configs]
    together: dict[int, str] = {}

    def read(number: int) -> None:
        together[number] = "".join(event.text for event in engine.stream("hello", configs[number]))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [together[number] for number in range(6)] == alone
    assert engine.free == (3, 512)


def test_scheduling_is_measured_without_a_model() -> None:
    script = Path(__file__).parents[1] / "scripts" / "scheduling.py"
    said = subprocess.run(
        [sys.executable, str(script), "--tokens", "64", "--sequences", "2"], capture_output=True, text=True, check=True
    )
    assert [line.split(" | ")[0] for line in said.stdout.splitlines()[2:]] == ["| unlike", "| the next turn", "| alike"]
