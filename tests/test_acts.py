"""The acts on a real KV cache: whatever is drawn, forked, rewound and forced, the cache holds what was emitted."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entropix_edge import Engine, EngineConfig, GenerationConfig, Origin, TokenEvent, load_preset
from entropix_edge.decoding import Scheduler
from entropix_edge.llama import Context, Model
from entropix_edge.types import (
    BranchEvent,
    Cell,
    FallbackEvent,
    Feed,
    Fork,
    Keep,
    RejectedEvent,
    Rewind,
    RewindEvent,
    Row,
)

if TYPE_CHECKING:
    from entropix_edge.decoding.protocols import Answer
    from entropix_edge.types import Logits, Request

SEQUENCES = 6
PROMPT = (60, 70, 80, 75)

# One act: what, and numbers that choose within it.
ACTS = st.lists(
    st.tuples(st.sampled_from(["draw", "fork", "rewind", "force"]), st.integers(0, 2**30)), min_size=1, max_size=12
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tiny_gguf.write_llama(tmp_path_factory.mktemp("acts") / "tiny.gguf")
    with Model(path) as model:
        yield model


@pytest.fixture(scope="module", params=["pooled", "parted"])
def acting(tiny: Model, request: pytest.FixtureRequest) -> Iterator[Context]:
    """A context with room for children: in one pool, or each in a part of its own."""
    pooled = request.param == "pooled"
    n_ctx = 256 if pooled else 256 * SEQUENCES
    with Context(
        tiny, threads=1, n_ctx=n_ctx, sequences=SEQUENCES, cache_types=("f32", "f32"), layers=(0, 2), pooled=pooled
    ) as context:
        yield context


@pytest.fixture(scope="module")
def fresh(tiny: Model) -> Iterator[Context]:
    """A context that only decodes."""
    with Context(tiny, threads=1, n_ctx=256, sequences=1, cache_types=("f32", "f32"), layers=(0, 2)) as context:
        yield context


def afresh(context: Context, tokens: list[int]) -> tuple[Logits, Row]:
    """The row after these tokens, decoded anew: the logits copied."""
    context.truncate(0)
    if tokens[:-1]:
        context.decode([Cell(token, i, 0, wanted=False) for i, token in enumerate(tokens[:-1])])
    rows = context.decode([Cell(tokens[-1], len(tokens) - 1, 0, wanted=True)])
    assert rows is not None
    return rows[0].logits.copy(), rows[0]


def perform(acts: list[tuple[str, int]], emitted: list[int]) -> Generator[Request, Answer, Row]:
    """Do the acts at random places with random tokens, keeping `emitted` as what the text should be."""
    emitted[:] = PROMPT
    row: Any = yield Feed(PROMPT)
    for act, number in acts:
        random = np.random.default_rng(number)
        token = int(random.integers(3, tiny_gguf.N_VOCAB))
        if act == "draw":
            row = yield Feed((token,))
            emitted.append(token)
        elif act == "force":
            run = tuple(int(t) for t in random.integers(3, tiny_gguf.N_VOCAB, random.integers(1, 6)))
            row = yield Feed(run)
            emitted.extend(run)
        elif act == "rewind":
            target = int(random.integers(1, len(emitted) + 1))
            assert (yield Rewind(target))
            del emitted[target:]
            row = yield Feed(())
        else:
            row = yield from fork(random, emitted)
    return row  # type: ignore[no-any-return]


def fork(random: np.random.Generator, emitted: list[int]) -> Generator[Request, Answer, Row]:
    """Fork, walk the children different lengths, keep one."""
    children = int(random.integers(2, SEQUENCES))
    lengths = random.integers(1, 5, children)
    branches = random.integers(3, tiny_gguf.N_VOCAB, (children, 5))
    assert (yield Fork(children, 5))
    last: dict[int, Row] = {}
    for step in range(int(lengths.max())):
        walking = tuple(child for child in range(children) if lengths[child] > step)
        rows: Any = yield Feed(tuple(int(branches[child, step]) for child in walking), walking)
        for child, row in zip(walking, rows, strict=True):
            last[child] = Row(row.logits.copy(), row.attention)
    kept = int(random.integers(0, children))
    yield Keep(kept)
    emitted.extend(int(token) for token in branches[kept, : lengths[kept]])
    return last[kept]


def test_a_rewind_to_the_end_of_the_prompt_decodes_nothing(acting: Context) -> None:
    rows: list[Logits] = []

    def back_and_forth() -> Generator[Request, Answer, None]:
        row: Any = yield Feed(PROMPT)
        rows.append(row.logits.copy())
        yield Feed((7,))
        assert (yield Rewind(len(PROMPT)))
        row = yield Feed(())
        rows.append(row.logits.copy())

    scheduler = Scheduler(acting, 1)
    job = scheduler.add(back_and_forth(), 200)
    while scheduler.step():
        pass
    scheduler.slots.forget()
    assert job.error is None
    assert job.decoded == len(PROMPT) + 1
    assert rows[0].tolist() == rows[1].tolist()


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS)
def test_the_cache_equals_a_fresh_decode_of_what_was_emitted(
    acting: Context, fresh: Context, acts: list[tuple[str, int]]
) -> None:
    emitted: list[int] = []
    final: list[tuple[Logits, Row]] = []

    def checked() -> Generator[Request, Answer, None]:
        row = yield from perform(acts, emitted)
        final.append((row.logits.copy(), row))
        probe: Any = yield Feed((7,))
        final.append((probe.logits.copy(), probe))

    scheduler = Scheduler(acting, 1)
    before = scheduler.free
    job = scheduler.add(checked(), 200)
    while scheduler.step():
        pass
    assert job.ended
    assert job.error is None
    assert scheduler.free == before
    scheduler.slots.forget()
    assert not any(acting.used(sequence) for sequence in range(SEQUENCES))
    for (logits, row), tokens in zip(final, (emitted, [*emitted, 7]), strict=True):
        wanted, wanted_row = afresh(fresh, tokens)
        np.testing.assert_allclose(logits, wanted, atol=1e-4)
        if not acting.tap:
            continue
        assert row.attention is not None
        assert wanted_row.attention is not None
        assert row.attention.entropy == pytest.approx(wanted_row.attention.entropy, abs=1e-4)
        assert row.attention.interaction_strength == pytest.approx(wanted_row.attention.interaction_strength, abs=1e-4)


# --- whole replies --------------------------------------------------------------------------------

EDGE = load_preset("edge")


def eager(**changes: dict[str, object]) -> Any:
    """`edge` with every quadrant but one out of reach, unless changed."""
    sections: dict[str, dict[str, object]] = {
        "argmax": {"entropy_below": 0.0},
        "branch": {"entropy_below": 0.0},
        "pause": {"entropy_above": 1e9},
        "resample": {"entropy_above": 1e9},
    }
    for name, values in changes.items():
        sections[name] = sections.get(name, {}) | values
    return replace(EDGE, **{name: replace(getattr(EDGE, name), **values) for name, values in sections.items()})


FORKS = eager(branch={"entropy_below": 1e9, "varentropy_above": 0.0, "least_share": 0.0, "budget": 100.0, "horizon": 5})
REWINDS = eager(resample={"entropy_above": 0.0, "varentropy_above": 0.0, "run": 3, "rewinds": 4, "atypical": 0.0})
REJECTS = eager(resample={"entropy_above": 0.0, "varentropy_above": 0.0, "run": 0, "atypical": 0.01, "redraws": 3})
PAUSES = eager(pause={"entropy_above": 0.0, "varentropy_below": 1e9, "cooldown": 4, "most": 3})


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = tiny_gguf.write_llama(tmp_path_factory.mktemp("acts") / "engine.gguf")
    with Engine.open(path, EngineConfig(threads=1, ctx_size=256, exact=True, forks=5)) as opened:
        yield opened


@pytest.mark.parametrize("name", ["FORKS", "REWINDS", "REJECTS", "PAUSES", "EDGE"])
@pytest.mark.parametrize("seed", range(6))
def test_each_tokens_logprob_is_that_of_a_fresh_decode(engine: Engine, fresh: Context, name: str, seed: int) -> None:
    """The cache under every emitted token was what a fresh decode of the text before it gives."""
    config = GenerationConfig(preset=globals()[name], seed=seed, n_predict=30)
    reply = engine.generate("hello", config)
    tokens = engine.tokenize_prompt("hello")
    for event in reply.events:
        assert event.token_id is not None
        logits, _row = afresh(fresh, tokens)
        logprob = logits[event.token_id] - np.logaddexp.reduce(logits.astype(np.float64))
        assert event.logprob == pytest.approx(logprob, abs=1e-4)
        tokens.append(event.token_id)
    assert reply.text == "".join(event.text for event in reply.events)
    assert len(reply.events) <= 30


def side_events(reply: Any, kind: type) -> list[Any]:
    return [event for event in reply.side_events if isinstance(event, kind)]


def test_the_kept_branch_is_what_is_emitted(engine: Engine) -> None:
    reply = engine.generate("hello", GenerationConfig(preset=FORKS, seed=1, n_predict=40))
    kept = [branch for branch in side_events(reply, BranchEvent) if branch.kept]
    assert kept
    for branch in kept:
        events = reply.events[branch.index : branch.index + len(branch.token_ids)]
        assert tuple(event.token_id for event in events) == branch.token_ids[: len(events)]
        assert {event.origin for event in events} == {Origin.BRANCH}
        rivals = [other for other in side_events(reply, BranchEvent) if other.index == branch.index]
        assert len(rivals) == EDGE.branch.children
        assert branch.score == max(other.score for other in rivals)
        assert len({other.token_ids[0] for other in rivals}) == len(rivals)
    first = kept[0]
    assert first.score == pytest.approx(
        np.mean([event.logprob for event in reply.events[first.index : first.index + len(first.token_ids)]])
    )


@pytest.mark.parametrize("score", ["mean", "total", "entropy"])
def test_branches_can_be_scored_in_several_ways(engine: Engine, score: str) -> None:
    preset = replace(FORKS, branch=replace(FORKS.branch, score=score))
    reply = engine.generate("hello", GenerationConfig(preset=preset, seed=1, n_predict=20))
    assert any(branch.kept for branch in side_events(reply, BranchEvent))


def test_the_budget_bounds_what_forks_cost(engine: Engine) -> None:
    for budget in (0.0, 0.1, 0.5):
        preset = replace(FORKS, branch=replace(FORKS.branch, budget=budget, credit=20))
        reply = engine.generate("hello", GenerationConfig(preset=preset, seed=2, n_predict=100))
        extra = reply.decoded_tokens - len(reply.events)
        assert extra <= budget * (len(reply.events) + 20)
        assert any(isinstance(branch, FallbackEvent) and "budget" in branch.reason for branch in reply.side_events)
        assert bool(side_events(reply, BranchEvent)) == (budget > 0)


def test_without_sequences_for_children_there_is_a_draw_and_a_word(tmp_path: Path) -> None:
    path = tiny_gguf.write_llama(tmp_path / "tiny.gguf")
    with Engine.open(path, EngineConfig(threads=1, ctx_size=256, forks=0)) as engine:
        reply = engine.generate("hello", GenerationConfig(preset=FORKS, seed=1, n_predict=10))
    assert len(reply.events) > 1
    assert {branch.reason for branch in side_events(reply, FallbackEvent)} == {"no room for children"}


def test_near_the_contexts_end_there_is_a_draw(tmp_path: Path) -> None:
    path = tiny_gguf.write_llama(tmp_path / "tiny.gguf")
    with Engine.open(path, EngineConfig(threads=1, ctx_size=48)) as engine:
        reply = engine.generate("hello", GenerationConfig(preset=FORKS, seed=3))
        engine.forget()
        assert not any(map(engine.context.used, range(engine.context.sequences)))
    assert reply.events[-1].finish_reason in ("context", "stop")
    assert reply.prompt_tokens + len(reply.events) <= 49


def test_a_rewind_drops_what_nobody_saw(engine: Engine) -> None:
    reply = engine.generate("hello", GenerationConfig(preset=REWINDS, seed=4, n_predict=40))
    rewinds = side_events(reply, RewindEvent)
    assert 1 <= len(rewinds) <= 4
    assert all(len(rewind.token_ids) == 3 for rewind in rewinds)
    assert [event.index for event in reply.events] == list(range(len(reply.events)))
    for rewind in rewinds:
        assert reply.events[rewind.index].token_id != rewind.token_ids[0] or any(
            later.index == rewind.index for later in rewinds if later is not rewind
        )


def test_nothing_is_shown_and_then_taken_back(engine: Engine) -> None:
    """Streaming lags by at most the run's length, and never goes back."""
    stream = engine.stream("hello", GenerationConfig(preset=REWINDS, seed=4, n_predict=40))
    shown = 0
    for event in stream.everything():
        if isinstance(event, RewindEvent):
            assert event.index >= shown
        if isinstance(event, TokenEvent):
            assert event.index == shown
            shown += 1


def test_an_atypical_draw_is_rejected(engine: Engine) -> None:
    reply = engine.generate("hello", GenerationConfig(preset=REJECTS, seed=5, n_predict=40))
    rejected = side_events(reply, RejectedEvent)
    assert rejected
    for branch in rejected:
        assert branch.limit is not None
        assert branch.surprisal > branch.limit
        assert reply.events[branch.index].token_id != branch.token_id


def test_pauses_keep_their_distance(engine: Engine) -> None:
    reply = engine.generate("hello", GenerationConfig(preset=PAUSES, seed=6, n_predict=60))
    pauses = [event.index for event in reply.events if event.origin is Origin.FORCED]
    assert 1 <= len(pauses) <= 3
    assert pauses[0] >= 4
    assert all(later - earlier > 4 for earlier, later in itertools.pairwise(pauses))


@pytest.mark.parametrize("name", ["FORKS", "REWINDS", "REJECTS", "PAUSES", "EDGE"])
def test_the_same_seed_replays_every_act(engine: Engine, name: str) -> None:
    config = GenerationConfig(preset=globals()[name], seed=9, n_predict=40)
    first, again = engine.generate("hello", config), engine.generate("hello", config)
    assert first.events == again.events
    assert first.side_events == again.side_events


def test_generations_beside_each_other_act_as_they_do_alone(tmp_path: Path) -> None:
    path = tiny_gguf.write_llama(tmp_path / "tiny.gguf")
    with Engine.open(path, EngineConfig(threads=1, ctx_size=512, exact=True, sequences=3, forks=9)) as engine:
        configs = [GenerationConfig(preset=preset, seed=3, n_predict=30) for preset in (FORKS, REWINDS, EDGE)]
        alone = [engine.generate("hello", config).text for config in configs]
        streams = [engine.stream("hello", config) for config in configs]
        assert [stream.reply().text for stream in streams] == alone


def test_nothing_leaks_over_a_thousand_generations(tmp_path: Path) -> None:
    shape = tiny_gguf.Shape(n_layer=1, n_embd=16, n_head=2, n_head_kv=1, n_ff=16)
    path = tiny_gguf.write_llama(tmp_path / "small.gguf", shape)
    with Engine.open(path, EngineConfig(threads=1, ctx_size=256, attention="off", sequences=2, forks=4)) as engine:
        before = engine.free
        forks = 0
        for seed in range(1000):
            preset = (FORKS, REWINDS)[seed % 2]
            with engine.stream("hi", GenerationConfig(preset=preset, seed=seed, n_predict=12)) as stream:
                if seed % 7 == 0:
                    next(stream)  # and leave early
                else:
                    forks += len(side_events(stream.reply(), BranchEvent))
            assert engine.free == before
        assert forks > 500
        engine.forget()
        assert not any(engine.context.used(sequence) for sequence in range(6))


# --- models whose state is no list of cells ---------------------------------------------------------


@pytest.fixture(scope="module")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write_mamba(tmp_path_factory.mktemp("acts") / "mamba.gguf")


def test_a_recurrent_model_forks_exactly(mamba: Path) -> None:
    with (
        Model(mamba) as model,
        Context(model, threads=1, n_ctx=256, sequences=4, cache_types=("f32", "f32")) as acting,
        Context(model, threads=1, n_ctx=256, cache_types=("f32", "f32")) as fresh,
    ):
        emitted: list[int] = []
        final: list[Logits] = []

        def checked() -> Generator[Request, Answer, None]:
            row = yield from perform([("draw", 1), ("force", 2)], emitted)
            for number in range(4):
                children = yield Fork(3, 4)
                assert children
                for step in range(3):
                    rows: Any = yield Feed((10 + step, 20 + step, 30 + number), (0, 1, 2))
                row = Row(rows[number % 3].logits.copy(), None)
                yield Keep(number % 3)
                emitted.extend([[10, 11, 12], [20, 21, 22], [30 + number] * 3][number % 3])
            final.append(row.logits.copy())

        scheduler = Scheduler(acting, 1)
        job = scheduler.add(checked(), 200)
        while scheduler.step():
            pass
        assert job.error is None
        scheduler.slots.forget()
        wanted, _row = afresh(fresh, emitted)
        np.testing.assert_allclose(final[0], wanted, atol=1e-4)


def test_a_recurrent_model_refuses_to_rewind_and_says_so(mamba: Path) -> None:
    with Engine.open(mamba, EngineConfig(threads=1, ctx_size=256)) as engine:
        reply = engine.generate("hello", GenerationConfig(preset=REWINDS, seed=1, n_predict=30))
    assert not side_events(reply, RewindEvent)
    assert [branch.reason for branch in side_events(reply, FallbackEvent)] == ["this model's state cannot be rewound"]
    assert len(reply.events) == 30 or reply.finish_reason == "stop"
