"""A closed engine: every public call says so, none reaches freed memory."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entropix_edge import ContextError, Deliberation, Engine, EngineConfig, GenerationConfig, VotingConfig

CONFIG = GenerationConfig(n_predict=4, seed=1)
MESSAGE = [{"role": "user", "content": "hello"}]

# A call of every public method and property; what is not named here is not tested, and the test says so.
CALLS: dict[str, Callable[[Engine], Any]] = {
    "step": lambda engine: engine.step(),
    "forget": lambda engine: engine.forget(),
    "generate": lambda engine: engine.generate("hello", CONFIG),
    "stream": lambda engine: engine.stream("hello", CONFIG),
    "stream_tokens": lambda engine: engine.stream_tokens([70, 80], CONFIG),
    "tokenize_prompt": lambda engine: engine.tokenize_prompt("hello"),
    "prompts": lambda engine: engine.prompts.tokenize("hello"),
    "save_prompt_cache": lambda engine: engine.save_prompt_cache(Path("never.bin")),
    "load_prompt_cache": lambda engine: engine.load_prompt_cache(engine.model.path),
}
HARMLESS = {"jobs", "open", "close", "preset", "fitted", "watched_layers", "free"}  # they need nothing of the model


@pytest.fixture
def closed(tiny_model: Path) -> Engine:
    engine = Engine.open(tiny_model, EngineConfig(threads=1, ctx_size=256))
    engine.close()
    return engine


def test_every_public_name_is_covered() -> None:
    public = {name for name, _value in inspect.getmembers(Engine) if not name.startswith("_")}
    assert public == CALLS.keys() | HARMLESS


@pytest.mark.parametrize("name", CALLS)
def test_a_call_on_a_closed_engine_says_so(closed: Engine, name: str) -> None:
    with pytest.raises(ContextError, match="closed"):
        CALLS[name](closed)


@pytest.mark.parametrize("name", sorted(HARMLESS - {"open"}))
def test_what_needs_no_model_goes_on_working(closed: Engine, name: str) -> None:
    value = getattr(closed, name)
    if callable(value) and name in ("close", "preset"):
        value()


def test_what_was_taken_from_it_before_says_so_too(tiny_model: Path) -> None:
    engine = Engine.open(tiny_model, EngineConfig(threads=1, ctx_size=256, sequences=2))
    stream, unread = engine.stream("hello", CONFIG), engine.stream("hello", CONFIG)
    next(stream)
    prompts, vocabulary, context = engine.prompts, engine.model.vocabulary, engine.context
    tokens = engine.tokenize_prompt("hello")
    deliberation = Deliberation(engine, tokens, CONFIG, VotingConfig(candidates=2))
    engine.close()
    uses: list[Callable[[], Any]] = [
        lambda: next(stream),
        lambda: unread.reply(),
        lambda: deliberation.reply(),
        lambda: prompts.tokenize("hello"),
        lambda: vocabulary.tokenize("hello"),
        lambda: context.truncate(0),
        lambda: Deliberation(engine, tokens, CONFIG, VotingConfig(candidates=2)),
    ]
    for use in uses:
        with pytest.raises(ContextError, match="closed"):
            use()
    stream.cancel()  # what can only end something that has ended does nothing
    stream.close()
    deliberation.close()
    engine.close()
