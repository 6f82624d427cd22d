"""The coroutine and the scheduler, on a scripted model: rows that a test writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropix_edge.config import ArgmaxRule
from entropix_edge.decoding import Scheduler, Task, generate
from entropix_edge.decoding.guards import LoopGuard, PauseGuard, loop_token
from entropix_edge.errors import ContextError, MetricsError
from entropix_edge.strategy import load_preset
from entropix_edge.types import Cell, FinishReason, Origin, Row, Strategy, TokenEvent

if TYPE_CHECKING:
    from entropix_edge.types import Event, Logits

END = 0
PAUSE = 1
N_VOCAB = 64
PRESET = load_preset("article")
ALWAYS = ArgmaxRule(entropy_below=1e9, varentropy_below=1e9)


class ByteVocabulary:
    """Token n is the letter chr(n + 40); 0 ends, 1 is the pause."""

    thinking: tuple[int, int] | None = None

    def tokenize(self, text: str, *, continues: bool = False) -> list[int]:
        return [PAUSE] if text == " ..." else [ord(letter) - 40 for letter in text]

    def is_control(self, token: int) -> bool:
        return token == END

    def is_end(self, token: int) -> bool:
        return token == END

    def piece(self, token: int) -> bytes:
        return {END: b"", PAUSE: b" ..."}.get(token, bytes([token + 40]))


def sure_of(token: int) -> Logits:
    """LELV: all the mass on one token."""
    row = np.full(N_VOCAB, -1000.0, np.float32)
    row[token] = 0
    return row


def even(count: int) -> Logits:
    """Mass spread evenly over tokens 2 …: entropy log2(count), varentropy 0."""
    row = np.full(N_VOCAB, -np.inf, np.float32)
    row[2 : 2 + count] = 0
    return row


class ScriptedContext:
    """Answers by a function of the tokens that a sequence holds. Keeps cells as llama.cpp would."""

    swaps = True

    def __init__(
        self,
        script: Callable[[list[int]], Logits],
        *,
        n_ctx: int = 128,
        n_batch: int = 8,
        sequences: int = 4,
        stop_at: int | None = None,
    ) -> None:
        self.script = script
        self.n_ctx, self.n_batch, self.sequences = n_ctx, n_batch, sequences
        self.room = n_ctx
        self.cells: dict[int, list[int]] = {}
        self.batches: list[list[Cell]] = []
        self.stop_at = stop_at

    def decode(self, cells: Sequence[Cell]) -> list[Row] | None:
        assert 0 < len(cells) <= self.n_batch
        if self.stop_at is not None and len(self.batches) == self.stop_at:
            return None
        self.batches.append(list(cells))
        rows = []
        for cell in cells:
            held = self.cells.setdefault(cell.sequence, [])
            assert cell.position == len(held), "a position is taken twice, or left out"
            assert 0 <= cell.sequence < self.sequences
            held.append(cell.token)
            assert sum(map(len, self.cells.values())) <= self.n_ctx
            if cell.wanted:
                rows.append(Row(self.script(held), None))
        return rows

    def fork(self, source: int, target: int) -> None:
        assert not self.cells.get(target)
        self.cells[target] = list(self.cells[source])

    def truncate(self, sequence: int, position: int = 0) -> bool:
        del self.cells.get(sequence, [])[position:]
        return True

    def save(self, sequence: int) -> bytes:
        return bytes(self.cells[sequence])

    def load(self, sequence: int, state: bytes | memoryview) -> bool:
        assert not self.cells.get(sequence)
        self.cells[sequence] = list(state)
        return len(state) < self.n_ctx


def spell(text: str) -> Callable[[list[int]], Logits]:
    """A model that is sure of one text after a prompt of three tokens, then ends."""
    tokens = [ord(letter) - 40 for letter in text] + [END]
    return lambda held: sure_of(tokens[min(len(held) - 3, len(tokens) - 1)])


def task(**changes: object) -> Task:
    values: dict[str, object] = {
        "preset": PRESET,
        "sampler": "entropix",
        "seed": 1,
        "n_predict": -1,
        "stop": (),
        "capacity": 32,
    }
    return Task(**(values | changes))  # type: ignore[arg-type]


class Running:
    """A generation under way, and its token events so far."""

    def __init__(
        self,
        scheduler: Scheduler,
        prompt: Sequence[int] = (5, 6, 7),
        cells: int = 16,
        item: Task | None = None,
        reserve: int | None = None,
    ) -> None:
        self.events: list[TokenEvent] = []
        generation = generate(prompt, item or task(), ByteVocabulary(), self._take)
        self.job = scheduler.add(generation, cells, prompt, reserve=reserve)

    def _take(self, event: Event) -> None:
        if isinstance(event, TokenEvent):
            self.events.append(event)

    @property
    def tokens(self) -> list[int | None]:
        return [event.token_id for event in self.events]


def finish(scheduler: Scheduler) -> None:
    """Run until every generation has ended."""
    while scheduler.step():
        pass


def run(context: ScriptedContext, *tasks: Task, prompt: Sequence[int] = (5, 6, 7)) -> list[list[TokenEvent]]:
    """Run generations to their end; each one's events."""
    scheduler = Scheduler(context)
    running = [Running(scheduler, prompt, item.capacity, item) for item in tasks]
    finish(scheduler)
    for one in running:
        assert one.job.ended
        if one.job.error:
            raise one.job.error
    scheduler.slots.forget()
    assert not any(context.cells.values()), "cells are left behind"
    return [one.events for one in running]


def text_of(events: Iterable[TokenEvent]) -> str:
    return "".join(event.text for event in events)


# --- one generation -------------------------------------------------------------------------------


def test_a_sure_model_is_followed_to_its_end() -> None:
    (events,) = run(ScriptedContext(spell("HELLO")), task())
    assert text_of(events) == "HELLO"
    assert [event.index for event in events] == [0, 1, 2, 3, 4, 5]
    assert [event.finish_reason for event in events] == [None] * 5 + [FinishReason.STOP]
    assert {event.strategy for event in events} == {Strategy.ARGMAX}
    assert {event.origin for event in events} == {Origin.SAMPLED}
    assert events[-1].token_id == END
    assert events[-1].text == ""
    assert events[0].logprob == pytest.approx(0)


def test_metrics_are_of_the_row_a_token_was_taken_from() -> None:
    (events,) = run(ScriptedContext(lambda held: even(16) if len(held) == 3 else sure_of(END)), task(sampler="greedy"))
    assert events[0].metrics is not None
    assert events[0].metrics.entropy == pytest.approx(4)
    assert events[0].logprob == pytest.approx(-np.log(16))
    assert events[1].metrics is not None
    assert events[1].metrics.entropy == pytest.approx(0)


@pytest.mark.parametrize("n_predict", [1, 2, 5])
def test_the_length_limit_ends_a_reply(n_predict: int) -> None:
    (events,) = run(ScriptedContext(spell("HELLO WORLD")), task(n_predict=n_predict))
    assert text_of(events) == "HELLO WORLD"[:n_predict]
    assert events[-1].finish_reason is FinishReason.LENGTH
    assert len(events) == n_predict


def test_the_end_of_the_context_ends_a_reply() -> None:
    (events,) = run(ScriptedContext(spell("A" * 200), n_ctx=10), task(capacity=10))
    assert events[-1].finish_reason is FinishReason.CONTEXT
    assert len(events) == 10 - 3 + 1  # seven tokens fit beside the prompt, and the last need not


def test_a_stop_text_ends_a_reply_and_is_not_shown() -> None:
    (events,) = run(ScriptedContext(spell("ONE;TWO")), task(stop=(";",)))
    assert text_of(events) == "ONE"
    assert events[-1].finish_reason is FinishReason.STOP


def test_text_held_back_for_a_stop_comes_out_at_the_end() -> None:
    (events,) = run(ScriptedContext(spell("ONE;;")), task(stop=(";;;",)))
    assert text_of(events) == "ONE;;"


def test_a_lost_model_is_given_a_pause_then_drawn_from() -> None:
    """HELV: entropy 5 bits, varentropy 0."""
    (events,) = run(ScriptedContext(lambda held: even(32) if len(held) < 6 else sure_of(END)), task())
    assert [event.origin for event in events] == [Origin.FORCED, Origin.SAMPLED, Origin.FORCED, Origin.SAMPLED]
    assert [event.strategy for event in events] == [Strategy.PAUSE] * 3 + [Strategy.ARGMAX]
    assert events[0].token_id == PAUSE
    assert events[0].text == " ..."


def test_a_forced_run_is_decoded_token_by_token() -> None:
    preset = replace(PRESET, pause=replace(PRESET.pause, texts=("HM",)))
    context = ScriptedContext(lambda held: even(32) if len(held) == 3 else sure_of(END))
    (events,) = run(context, task(preset=preset))
    assert text_of(events) == "HM"
    assert [event.origin for event in events] == [Origin.FORCED, Origin.FORCED, Origin.SAMPLED]
    assert [event.strategy for event in events[:2]] == [Strategy.PAUSE, Strategy.PAUSE]
    assert all(event.metrics is not None for event in events)


@pytest.mark.parametrize("sampler", ["greedy", "temperature"])
def test_the_baselines_only_report_the_table(sampler: str) -> None:
    (events,) = run(ScriptedContext(lambda held: even(32) if len(held) < 6 else sure_of(END)), task(sampler=sampler))
    assert {event.origin for event in events} == {Origin.SAMPLED}
    assert events[0].strategy is Strategy.PAUSE
    if sampler == "greedy":
        assert [event.token_id for event in events] == [2, 2, 2, END]


def test_a_seed_repeats_and_another_differs() -> None:
    def reply(seed: int) -> list[int | None]:
        context = ScriptedContext(lambda held: even(30) if len(held) < 20 else sure_of(END))
        return [event.token_id for event in run(context, task(seed=seed, sampler="temperature"))[0]]

    assert reply(1) == reply(1)
    assert reply(1) != reply(2)


EDGE = load_preset("edge")
LOOP = 21


def in_a_loop(held: list[int]) -> Logits:
    """A model that wants to say the same for ever, and has something else to say."""
    row = np.full(N_VOCAB, -8.0, np.float32)
    row[END] = -1000
    row[LOOP] = 0
    return row


def test_a_loop_that_cannot_be_left_ends_the_reply() -> None:
    context = ScriptedContext(in_a_loop, n_ctx=1000)
    (events,) = run(context, task(preset=replace(EDGE, argmax=ALWAYS), capacity=1000))
    assert events[-1].finish_reason is FinishReason.REPETITION
    assert events[-1].token_id is None
    others = [event for event in events[:-1] if event.token_id != LOOP]
    assert len(others) == EDGE.loop.bans
    assert len(events) < (EDGE.loop.bans + 1) * (EDGE.loop.span + 2) + 1


def test_a_loop_that_is_left_goes_on() -> None:
    def script(held: list[int]) -> Logits:
        left = any(token != LOOP for token in held[3:])
        return sure_of(END) if left else in_a_loop(held)

    (events,) = run(ScriptedContext(script, n_ctx=1000), task(preset=replace(EDGE, argmax=ALWAYS), capacity=1000))
    assert events[-1].finish_reason is FinishReason.STOP


def test_honest_repetition_is_no_loop() -> None:
    rule = EDGE.loop
    assert loop_token([5] * rule.span, rule) is None
    assert loop_token([5] * (rule.span + 1), rule) == 5
    assert loop_token([5, 6] * (rule.span // 2) + [5], rule) == 6
    assert loop_token(list(range(20)) * (rule.repeats - 1), rule) is None
    assert loop_token(list(range(20)) * rule.repeats, rule) == 0
    assert loop_token([5] * 1000, load_preset("article").loop) is None


@pytest.mark.parametrize(("span", "repeats"), [(1, 2), (4, 2), (12, 4), (48, 4), (200, 2)])
def test_no_loop_is_overlooked(span: int, repeats: int) -> None:
    rule = replace(EDGE.loop, span=span, repeats=repeats)
    random = np.random.default_rng(span)
    tokens: list[int] = []
    guard, loops = LoopGuard(rule), 0
    for _ in range(4000):
        if random.random() < 0.02:  # a rewind
            index = int(random.integers(max(0, len(tokens) - 20), len(tokens) + 1))
            del tokens[index:]
            guard.rewind(index)
        elif random.random() < 0.02:
            period = int(random.integers(1, 66))
            tokens += (tokens[-period:] * 200)[: int(random.integers(250))]
        else:
            tokens.append(int(random.integers(200)))
        found = guard.next_token(tokens)
        assert found == loop_token(tokens, rule)
        loops += found is not None
    assert loops > 10


def test_nan_is_refused_with_its_position() -> None:
    def script(held: list[int]) -> Logits:
        row = sure_of(9)
        if len(held) == 5:
            row[7] = np.nan
        return row

    with pytest.raises(MetricsError, match="token position 4 hold 1 NaN"):
        run(ScriptedContext(script), task())


# --- where a pause may stand -------------------------------------------------------------------------

OPEN, CLOSE = 2, 3


class ThinkingVocabulary(ByteVocabulary):
    thinking = (OPEN, CLOSE)


def guard_of(vocabulary: ByteVocabulary, prompt: Sequence[int] = (5,)) -> PauseGuard:
    return PauseGuard(replace(EDGE.pause, cooldown=2, most=2), vocabulary, prompt)


def test_a_pause_waits_for_the_cooldown_and_a_words_end() -> None:
    guard = guard_of(ByteVocabulary())
    assert not guard.allows([10], b" next")
    assert guard.allows([10, 11], b" next")
    assert guard.allows([10, 11], b"\n")
    assert not guard.allows([10, 11], b"ing")
    guard.note(2, 1)
    assert guard.just_paused(3)
    assert not guard.allows([10, 11, PAUSE], b" next")
    assert guard.allows([10, 11, PAUSE, 12, 13], b" next")
    guard.note(5, 1)
    assert not guard.allows([10] * 20, b" next"), "two are the most"
    guard.rewind(3, thinking=False)
    assert guard.allows([10] * 20, b" next"), "the second was taken back"


def test_no_pause_follows_a_control_token() -> None:
    assert not guard_of(ByteVocabulary()).allows([10, END], b" next")


def test_a_thinking_model_pauses_while_it_thinks() -> None:
    tokens = [10, 11, 12]
    assert not guard_of(ThinkingVocabulary()).allows(tokens, b" next")
    assert guard_of(ThinkingVocabulary(), prompt=(5, OPEN)).allows(tokens, b" next")
    guard = guard_of(ThinkingVocabulary(), prompt=(5, OPEN, 6, CLOSE))
    assert not guard.allows(tokens, b" next")
    guard.see(OPEN)
    assert guard.allows(tokens, b" next")


# --- many generations -----------------------------------------------------------------------------


def test_several_generations_share_batches_and_get_their_own_rows() -> None:
    context = ScriptedContext(spell("HELLO"))
    results = run(context, task(), task(n_predict=2), task(stop=("LL",)))
    assert [text_of(events) for events in results] == ["HELLO", "HE", "HE"]
    assert max(len({cell.sequence for cell in batch}) for batch in context.batches) == 3


def test_what_runs_beside_it_does_not_change_a_generation() -> None:
    def script(held: list[int]) -> Logits:
        return even(20) if len(held) < 12 else sure_of(END)

    (alone,) = run(ScriptedContext(script), task(seed=3, sampler="temperature"))
    together = run(
        ScriptedContext(script), *(task(seed=seed, sampler="temperature", capacity=16) for seed in (3, 4, 5))
    )
    assert [event.token_id for event in together[0]] == [event.token_id for event in alone]


def test_a_long_prompt_goes_in_pieces() -> None:
    context = ScriptedContext(lambda _held: sure_of(END), n_batch=8)
    run(context, task(), prompt=range(2, 22))
    assert [len(batch) for batch in context.batches] == [8, 8, 4]
    assert [cell.wanted for batch in context.batches for cell in batch] == [False] * 19 + [True]


def test_generations_that_do_not_fit_wait_their_turn() -> None:
    context = ScriptedContext(spell("HELLO"), n_ctx=20, sequences=4)
    results = run(context, *[task(capacity=10)] * 5)
    assert [text_of(events) for events in results] == ["HELLO"] * 5
    assert max(len({cell.sequence for cell in batch}) for batch in context.batches) == 2


def test_what_can_never_fit_is_refused() -> None:
    scheduler = Scheduler(ScriptedContext(spell("A"), n_ctx=20))
    with pytest.raises(ContextError, match="21 tokens does not fit a context of 20"):
        Running(scheduler, cells=21)


def test_more_generations_than_sequences_take_turns() -> None:
    results = run(ScriptedContext(spell("HELLO"), sequences=1), *[task(capacity=10)] * 3)
    assert [text_of(events) for events in results] == ["HELLO"] * 3


def test_cancelling_one_leaves_the_others() -> None:
    context = ScriptedContext(spell("HELLO"))
    scheduler = Scheduler(context)
    first, second = Running(scheduler), Running(scheduler)
    while scheduler.step():
        if len(first.events) == 2:
            first.job.cancel()
            first.job.cancel()
    assert text_of(first.events) == "HE"
    assert first.events[-1].finish_reason is FinishReason.CANCELLED
    assert first.events[-1].token_id is None
    assert text_of(second.events) == "HELLO"
    scheduler.slots.forget()
    assert not any(context.cells.values())


def test_one_that_was_cancelled_can_be_removed_before_it_says_so() -> None:
    scheduler = Scheduler(ScriptedContext(spell("HELLO")))
    first, second = Running(scheduler), Running(scheduler)
    scheduler.step()
    scheduler.step()
    for one in (first, second):
        assert one.tokens
        one.job.cancel()
    scheduler.remove(second.job)
    assert not scheduler.step()
    assert [event.finish_reason for event in first.events] == [None, None, FinishReason.CANCELLED]
    assert second.job.ended
    assert len(second.events) == 2


def test_cancelling_gives_out_the_text_that_was_held_back() -> None:
    scheduler = Scheduler(ScriptedContext(spell("AB;CD")))
    one = Running(scheduler, item=task(stop=(";!",)))
    while scheduler.step():
        if len(one.events) == 3:
            one.job.cancel()
    assert text_of(one.events) == "AB;"


def test_one_that_waits_can_be_cancelled() -> None:
    scheduler = Scheduler(ScriptedContext(spell("HELLO"), sequences=1))
    Running(scheduler)
    waiting = Running(scheduler)
    waiting.job.cancel()
    finish(scheduler)
    assert [event.finish_reason for event in waiting.events] == [FinishReason.CANCELLED]


def test_a_stopped_decode_cancels_all() -> None:
    context = ScriptedContext(spell("HELLO"), stop_at=4)
    results = run(context, task(), task())
    for events in results:
        assert events[-1].finish_reason is FinishReason.CANCELLED
        assert "HELLO".startswith(text_of(events))


def test_an_error_in_one_leaves_the_others() -> None:
    def script(held: list[int]) -> Logits:
        return np.full(N_VOCAB, np.nan, np.float32) if held[0] == 9 else spell("HELLO")(held)

    scheduler = Scheduler(ScriptedContext(script))
    good, bad = Running(scheduler, (1, 2, 3)), Running(scheduler, (9, 2, 3))
    finish(scheduler)
    assert isinstance(bad.job.error, MetricsError)
    assert bad.job.ended
    assert text_of(good.events) == "HELLO"


def test_removing_frees_sequences_and_cells() -> None:
    context = ScriptedContext(spell("HELLO"), sequences=1)
    scheduler = Scheduler(context)
    for _ in range(50):
        one = Running(scheduler, cells=64)
        assert scheduler.step()
        scheduler.remove(one.job)
        scheduler.remove(one.job)
        assert not scheduler.step()
    scheduler.slots.forget()
    assert not any(context.cells.values())
    one = Running(scheduler, cells=64)
    finish(scheduler)
    assert len(one.events) == 6


# --- prompts in common --------------------------------------------------------------------------------


def together(context: ScriptedContext, prompts: Sequence[Sequence[int]]) -> list[list[int | None]]:
    """Generate for all prompts at once; the tokens of each."""
    scheduler = Scheduler(context)
    running = [Running(scheduler, prompt, 32) for prompt in prompts]
    finish(scheduler)
    scheduler.slots.forget()
    assert not any(context.cells.values())
    return [one.tokens for one in running]


def echo(held: list[int]) -> Logits:
    """Says each prompt's last token thrice, then ends."""
    return sure_of(END if held[-3:] == [held[-1]] * 3 else held[-1])


def test_what_prompts_have_in_common_is_decoded_once() -> None:
    shared = list(range(10, 30))
    prompts = [[*shared, 40], [*shared, 41], [*shared, 40]]
    context = ScriptedContext(echo, n_ctx=256)
    assert together(context, prompts) == [[40, 40, 0], [41, 41, 0], [40, 40, 0]]
    fed = [cell.token for batch in context.batches for cell in batch if cell.position < len(shared)]
    assert sorted(fed) == shared


def test_prompts_with_nothing_in_common_do_not_wait() -> None:
    context = ScriptedContext(echo, n_ctx=256, n_batch=16)
    together(context, [[10, 11, 12], [20, 21, 22]])
    assert {cell.sequence for cell in context.batches[0]} == {0, 1}


def test_a_state_that_cannot_be_rewound_is_not_shared() -> None:
    class Recurrent(ScriptedContext):
        def truncate(self, sequence: int, position: int = 0) -> bool:
            if 0 < position < len(self.cells.get(sequence, [])):
                return False
            return super().truncate(sequence, position)

    prompts = [[10, 11, 12, 13], [10, 11, 12, 14], [10, 11, 12, 13]]
    assert together(Recurrent(echo, n_ctx=256), prompts) == together(ScriptedContext(echo, n_ctx=256), prompts)


def test_a_reply_that_is_begun_goes_on() -> None:
    whole = together(ScriptedContext(spell("HELLO")), [[10, 11, 12]])[0]
    begun = tuple(token for token in whole[:2] if token is not None)
    scheduler = Scheduler(ScriptedContext(spell("HELLO")))
    one = Running(scheduler, [10, 11, 12], 32, task(begin_tokens=begun))
    finish(scheduler)
    assert text_of(one.events) == "HELLO"
    assert [event.index for event in one.events] == [2, 3, 4, 5]


# --- what ended generations leave -----------------------------------------------------------------------


def fed_for(context: ScriptedContext, scheduler: Scheduler, prompt: Sequence[int]) -> list[int]:
    """The tokens that are decoded to answer a prompt with nothing else going on."""
    before = len(context.batches)
    one = Running(scheduler, prompt, len(prompt) + 4, task(n_predict=4))
    finish(scheduler)
    fed = [cell.token for batch in context.batches[before:] for cell in batch]
    assert one.job.cached + len(fed) == len(prompt) + 2  # it says two tokens, and an end that is not fed
    return fed


def test_a_second_turn_does_not_decode_the_first_again() -> None:
    context = ScriptedContext(echo, sequences=1)
    scheduler = Scheduler(context)
    first = [10, 11, 12, 13]
    assert fed_for(context, scheduler, first) == [*first, 13, 13]
    second = [*first, 13, 13, 20, 21]
    assert fed_for(context, scheduler, second) == [20, 21, 21, 21]
    assert fed_for(context, scheduler, first) == [13, 13, 13]  # back to the first: only its last token
    assert fed_for(context, scheduler, [30, 31]) == [30, 31, 31, 31]


def test_an_ended_conversation_is_kept_beside_another_while_there_is_room() -> None:
    context = ScriptedContext(echo, sequences=2)
    scheduler = Scheduler(context)
    ours, theirs = [10, 11, 12, 13, 14, 15], [10, 21, 22, 23, 24, 25]
    fed_for(context, scheduler, ours)
    assert fed_for(context, scheduler, theirs) == [*theirs[1:], 25, 25]
    assert fed_for(context, scheduler, [*ours, 15, 15, 16]) == [16, 16, 16]
    assert fed_for(context, scheduler, [*theirs, 25, 25, 26]) == [26, 26, 26]


def test_what_rests_gives_way_to_a_generation_that_needs_the_cells() -> None:
    context = ScriptedContext(echo, n_ctx=24, sequences=3)
    scheduler = Scheduler(context)
    for prompt in ([10, 11, 12, 13], [20, 21, 22, 23]):
        fed_for(context, scheduler, prompt)
    long = list(range(30, 48))
    assert fed_for(context, scheduler, long) == [*long, 47, 47]
    assert scheduler.free == (3, 24)
    scheduler.slots.forget()
    assert not any(context.cells.values())


def test_what_a_generation_left_goes_on_elsewhere() -> None:
    here, there = Scheduler(ScriptedContext(echo)), ScriptedContext(echo, sequences=1)
    finish(here)
    assert here.slots.saved() is None
    Running(here, [10, 11, 12], 32)
    finish(here)
    saved = here.slots.saved()
    assert saved is not None
    assert saved[0] == [10, 11, 12, 12, 12]
    scheduler = Scheduler(there)
    assert scheduler.slots.restore(*saved)
    assert fed_for(there, scheduler, [10, 11, 12, 12, 12, 13]) == [13, 13, 13]
    assert scheduler.slots.restore(*saved), "what rests gives way"
    assert not scheduler.slots.restore(list(range(200)), bytes(range(200)))
    assert scheduler.free == (1, 128)


@given(
    waves=st.lists(
        st.lists(st.lists(st.integers(2, 4), min_size=1, max_size=12), min_size=1, max_size=4), min_size=1, max_size=5
    ),
    sequences=st.integers(1, 3),
    n_ctx=st.integers(20, 60),
)
def test_what_was_said_before_never_changes_what_is_said(
    waves: list[list[list[int]]], sequences: int, n_ctx: int
) -> None:
    def say(held: list[int]) -> Logits:
        return sure_of(END if len(held) > 15 else 2 + hash(tuple(held)) % 3)

    context = ScriptedContext(say, n_ctx=n_ctx, sequences=sequences)
    scheduler = Scheduler(context)
    for wave in waves:
        running = [Running(scheduler, prompt, len(prompt) + 6, task(n_predict=6)) for prompt in wave]
        finish(scheduler)
        for one, prompt in zip(running, wave, strict=True):
            alone = run(ScriptedContext(say, sequences=1), task(n_predict=6), prompt=prompt)[0]
            assert one.tokens == [event.token_id for event in alone]
        assert scheduler.free == (sequences, n_ctx)
    scheduler.slots.forget()
    assert not any(context.cells.values())
