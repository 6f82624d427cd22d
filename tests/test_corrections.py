"""Numbers that are set right while they are written: on a scripted model, and on a real cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_gguf
from test_decoding import END, N_VOCAB, ByteVocabulary, ScriptedContext, finish, sure_of, task, text_of

from entropix_edge import (
    CorrectionEvent,
    Engine,
    EngineConfig,
    GenerationConfig,
    Origin,
    Reply,
    TokenEvent,
    load_preset,
)
from entropix_edge.checks import check_arithmetic
from entropix_edge.config import SAMPLERS
from entropix_edge.decoding import Scheduler, generate
from entropix_edge.errors import ConfigError
from entropix_edge.llama import Context
from entropix_edge.sessions import Deliberation, VotingConfig
from entropix_edge.types import Cell

if TYPE_CHECKING:
    from entropix_edge.config import SamplerName
    from entropix_edge.types import Event, Logits

EDGE = load_preset("edge")
COLD = replace(EDGE.sampler, temperature=0.0)
PROMPT = (5, 6, 7)


def token(letter: str) -> int:
    return ord(letter) - 40


def torn(first: str, second: str) -> Logits:
    """One bit of entropy: the first a little more probable."""
    row = np.full(N_VOCAB, -1000.0, np.float32)
    row[token(first)], row[token(second)] = 0.01, 0.0
    return row


def says(text: str, unsure_at: int | None) -> Callable[[list[int]], Logits]:
    """A model that says a text whatever stands before, sure of each token but one."""

    def script(held: list[int]) -> Logits:
        place = len(held) - len(PROMPT)
        if place >= len(text):
            return sure_of(END)
        return torn(text[place], "A") if place == unsure_at else sure_of(token(text[place]))

    return script


def reply(script: Callable[[list[int]], Logits], **changes: Any) -> tuple[list[Event], ScriptedContext]:
    preset = replace(EDGE, branch=replace(EDGE.branch, children=0), sampler=COLD)
    preset = replace(preset, check=replace(preset.check, **changes))
    context = ScriptedContext(script)
    scheduler = Scheduler(context)
    events: list[Event] = []
    item = task(preset=preset, capacity=64)
    job = scheduler.add(generate(PROMPT, item, ByteVocabulary(), events.append), 64, PROMPT)
    finish(scheduler)
    assert job.error is None
    return events, context


def written(events: list[Event]) -> str:
    return text_of(event for event in events if isinstance(event, TokenEvent))


def test_a_wrong_number_of_which_the_model_was_not_sure_is_set_right() -> None:
    events, context = reply(says("12*3=35;SO", unsure_at=6))
    assert written(events) == "12*3=36;SO"
    (correction,) = (event for event in events if isinstance(event, CorrectionEvent))
    assert (correction.expression, correction.found, correction.right) == ("12*3", "35", "36")
    assert (correction.index, correction.text) == (5, "35")
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert [event.index for event in tokens] == list(range(len(tokens)))
    assert [event.origin for event in tokens if event.index in (5, 6)] == [Origin.FORCED, Origin.FORCED]
    assert context.cells[0] == [*PROMPT, *(event.token_id for event in tokens[:-1])], "the cache holds what was said"


def test_a_number_of_which_the_model_was_sure_stands() -> None:
    events, _context = reply(says("12*3=35;SO", unsure_at=2))
    assert written(events) == "12*3=35;SO"
    assert all(isinstance(event, TokenEvent) for event in events)


@pytest.mark.parametrize("changes", [{"arithmetic": 0}, {"entropy_above": 2.0}, {"most": 0}])
def test_it_can_be_switched_off(changes: dict[str, Any]) -> None:
    events, _context = reply(says("12*3=35;SO", unsure_at=6), **changes)
    assert written(events) == "12*3=35;SO"


def test_the_end_of_a_reply_closes_a_number() -> None:
    events, _context = reply(says("2+2=5", unsure_at=4))
    assert written(events) == "2+2=4"
    assert events[-1] == TokenEvent(5, END, "", *events[-1][3:])  # type: ignore[index]


def test_nothing_of_it_is_shown_and_taken_back() -> None:
    events, _context = reply(says("12*3=35;2+2=5;8*8=64;", unsure_at=6))
    shown = 0
    for event in events:
        if isinstance(event, TokenEvent):
            assert event.index == shown
            shown += 1
        else:
            assert isinstance(event, CorrectionEvent)
            assert event.index == shown


def test_most_corrections_are_counted() -> None:
    def script(held: list[int]) -> Logits:
        text = "2+2=5;" * 6
        place = len(held) - len(PROMPT)
        if place >= len(text):
            return sure_of(END)
        return torn("5", "A") if text[place] == "5" else sure_of(token(text[place]))

    events, _context = reply(script, most=2)
    assert written(events) == "2+2=4;" * 2 + "2+2=5;" * 4


@pytest.mark.parametrize("check", [None, True, False])
@pytest.mark.parametrize("arithmetic", [0, 1])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_check_is_asked_for_whatever_chooses_the_tokens(
    sampler: SamplerName, arithmetic: int, check: bool | None
) -> None:
    """Where nothing is asked for, a plain sampler only reports."""
    config = GenerationConfig(sampler=sampler, check=check)
    given = replace(EDGE, sampler=COLD, check=replace(EDGE.check, arithmetic=arithmetic))
    context = ScriptedContext(says("2+2=5;", unsure_at=4))
    events: list[Event] = []
    scheduler = Scheduler(context)
    item = task(preset=config.in_effect(given), sampler=sampler, capacity=64)
    scheduler.add(generate(PROMPT, item, ByteVocabulary(), events.append), 64, PROMPT)
    finish(scheduler)
    checked = (sampler == "entropix" and arithmetic == 1) if check is None else check
    assert written(events) == ("2+2=4;" if checked else "2+2=5;")
    assert sum(isinstance(event, CorrectionEvent) for event in events) == checked


def test_a_check_is_asked_for_or_not() -> None:
    with pytest.raises(ConfigError, match="check is 2"):
        GenerationConfig(check=2)  # type: ignore[arg-type]


# --- on a real cache --------------------------------------------------------------------------------


def write_sums(folder: Path) -> Path:
    """A model that writes nothing but sums."""
    return write_letters(folder, "0123456789*=;")


def write_letters(folder: Path, letters: str) -> Path:
    """A model that writes nothing but these letters."""
    weights = tiny_gguf.random_weights(tiny_gguf.Shape(), sharpness=0.5)
    allowed = {tiny_gguf.TOKENS.index(letter) for letter in letters}
    weights["output.weight"][[token for token in range(tiny_gguf.N_VOCAB) if token not in allowed]] = -0.0
    return tiny_gguf.write_llama(folder / "letters.gguf", weights=weights)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = write_sums(tmp_path_factory.mktemp("sums"))
    with Engine.open(
        path, EngineConfig(threads=1, ctx_size=512, exact=True, attention="off", flash_attention="off")
    ) as opened:
        yield opened


SUMS = replace(
    EDGE,
    sampler=replace(EDGE.sampler, temperature=1.5, top_k=7),
    adaptive=replace(EDGE.adaptive, draws=1),
    branch=replace(EDGE.branch, entropy_below=0.0),
    pause=replace(EDGE.pause, entropy_above=1e9),
    resample=replace(EDGE.resample, entropy_above=1e9),
)


def test_every_token_after_a_correction_is_that_of_a_fresh_decode(engine: Engine) -> None:
    corrected = 0
    prompt = engine.tokenize_prompt("7*8=56;3*4=12;")
    with Context(
        engine.model, threads=1, n_ctx=512, sequences=1, cache_types=("f32", "f32"), flash_attention="off"
    ) as fresh:
        for seed in range(16):
            config = GenerationConfig(preset=SUMS, seed=seed, n_predict=150)
            said = engine.generate("7*8=56;3*4=12;", config)
            corrected += sum(isinstance(event, CorrectionEvent) for event in said.side_events)
            tokens = list(prompt)
            for event in said.events:
                assert event.token_id is not None
                fresh.truncate(0)
                fresh.decode([Cell(each, i, 0, wanted=False) for i, each in enumerate(tokens[:-1])])
                rows = fresh.decode([Cell(tokens[-1], len(tokens) - 1, 0, wanted=True)])
                assert rows
                logits = rows[0].logits.astype(np.float64)
                assert event.logprob == pytest.approx(logits[event.token_id] - np.logaddexp.reduce(logits), abs=1e-4)
                tokens.append(event.token_id)
            assert said.text == "".join(event.text for event in said.events)
            for place, letter in enumerate(said.text):  # whatever was corrected is right, and stays
                if letter == ";" and said.events[place - 1].origin is Origin.FORCED:
                    assert check_arithmetic(said.text[: place + 1]) is None
    assert corrected > 4


def test_the_same_seed_corrects_the_same(engine: Engine, tmp_path: Path) -> None:
    config = GenerationConfig(preset=SUMS, seed=3, n_predict=60)
    first, again = engine.generate("5*5=", config), engine.generate("5*5=", config)
    assert first.events == again.events
    assert first.side_events == again.side_events


def drawn(engine: Engine, *, check: bool | None, sampler: SamplerName = "temperature") -> list[Reply]:
    """The candidates of a vote."""
    config = GenerationConfig(preset=SUMS, sampler=sampler, check=check, seed=5, n_predict=100)
    voting = VotingConfig(candidates=16, weighted=False, early_stopping=False)
    with Deliberation(engine, engine.tokenize_prompt("7*8=56;3*4=12;"), config, voting) as deliberation:
        deliberation.reply()
        return deliberation.replies


def test_drawn_candidates_are_checked_each_by_itself(engine: Engine) -> None:
    """Until its first correction a candidate is the one that is drawn without the check."""
    corrected = 0
    for plain, checked in zip(drawn(engine, check=None), drawn(engine, check=True), strict=True):
        corrections = [event for event in checked.side_events if isinstance(event, CorrectionEvent)]
        assert not any(isinstance(event, CorrectionEvent) for event in plain.side_events)
        assert {event.origin for event in plain.events} == {Origin.SAMPLED}
        first = min((event.index for event in corrections), default=len(plain.events))
        assert checked.events[:first] == plain.events[:first]
        forced = [event.index for event in checked.events if event.origin is Origin.FORCED]
        assert set(forced) >= {event.index for event in corrections}
        assert all(index >= first for index in forced)
        taken_back = sum(len(event.token_ids) for event in corrections)
        again = len(corrections)  # the token before a number is decoded once more to look at what follows
        assert checked.decoded_tokens == len(checked.events) - 1 + taken_back + again
        corrected += bool(corrections)
    assert corrected > 1


def test_candidates_are_checked_as_the_first_is(engine: Engine) -> None:
    """Those of `edge` draw as a plain sampler does, and are checked all the same."""
    counts = [
        [sum(isinstance(event, CorrectionEvent) for event in reply.side_events) for reply in drawn(engine, **asked)]
        for asked in ({"check": None, "sampler": "entropix"}, {"check": False, "sampler": "entropix"})
    ]
    assert sum(count > 0 for count in counts[0][1:]) > 1
    assert counts[1] == [0] * 16
