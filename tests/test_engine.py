"""The engine on a tiny real model: llama.cpp, the tap, the scheduler and the text together."""

from __future__ import annotations

import logging
import math
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_gguf

from entropix_edge import (
    ConfigError,
    ContextError,
    Engine,
    EngineConfig,
    FinishReason,
    GenerationConfig,
    ModelFileError,
    PromptError,
    TemplateError,
)
from entropix_edge.engine import ReplyStream
from entropix_edge.llama import Model
from entropix_edge.strategy import load_preset, override
from entropix_edge.types import Event, TokenEvent

EXACT = EngineConfig(threads=1, ctx_size=256, exact=True)


@pytest.fixture
def engine(tiny_model: Path) -> Iterator[Engine]:
    with Engine.open(tiny_model, EXACT) as opened:
        yield opened


def config(**changes: object) -> GenerationConfig:
    return GenerationConfig(**({"seed": 1, "n_predict": 20} | changes))  # type: ignore[arg-type]


def test_a_reply_has_text_events_and_a_reason(engine: Engine) -> None:
    reply = engine.generate("hello", config())
    assert reply.text == "".join(event.text for event in reply.events)
    assert reply.finish_reason in (FinishReason.LENGTH, FinishReason.STOP)
    assert [event.index for event in reply.events] == list(range(len(reply.events)))
    assert reply.prompt_tokens == len(engine.tokenize_prompt("hello"))
    assert reply.seed == 1


def test_greedy_follows_the_independent_model(
    engine: Engine, tiny_shape: tiny_gguf.Shape, tiny_weights: tiny_gguf.Weights
) -> None:
    tokens = engine.tokenize_prompt("hello")
    reply = engine.generate("hello", config(sampler="greedy", n_predict=12))
    for event in reply.events:
        logits, _seen = tiny_gguf.forward(tokens, tiny_shape, tiny_weights)
        assert event.token_id == int(logits[-1].argmax())
        assert event.token_id is not None
        p = np.exp(logits[-1] - logits[-1].max())
        p /= p.sum()
        assert event.logprob == pytest.approx(math.log(p[event.token_id]), abs=1e-3)
        assert event.metrics is not None
        assert event.metrics.entropy == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-3)
        tokens.append(event.token_id)


def test_the_same_seed_repeats_and_another_differs(engine: Engine) -> None:
    first, second = (engine.generate("hello", config(seed=5)) for _ in range(2))
    assert first.text == second.text
    assert [e.token_id for e in first.events] == [e.token_id for e in second.events]
    assert any(engine.generate("hello", config(seed=seed)).text != first.text for seed in range(6, 12))


def test_a_reply_without_a_seed_names_one_that_repeats_it(engine: Engine) -> None:
    reply = engine.generate("hello", config(seed=None))
    assert engine.generate("hello", config(seed=reply.seed)).text == reply.text


@pytest.mark.parametrize("changes", [{}, {"pooled": False, "ctx_size": 11 * 256}], ids=["pooled", "parted"])
def test_streams_side_by_side_say_what_they_would_say_alone(tiny_model: Path, changes: dict[str, object]) -> None:
    options: dict[str, Any] = {"threads": 1, "ctx_size": 256, "exact": True, "sequences": 3} | changes
    with Engine.open(tiny_model, EngineConfig(**options)) as engine:
        alone = [engine.generate(text, config(seed=3)).text for text in ("one", "two", "three")]
        streams = [engine.stream(text, config(seed=3)) for text in ("one", "two", "three")]
        texts = ["", "", ""]
        for _ in range(20):
            for index, stream in enumerate(streams):
                event = next(stream, None)
                texts[index] += event.text if event else ""
        assert texts == alone


def test_closing_a_stream_early_frees_the_context(engine: Engine) -> None:
    free = engine.free
    for _ in range(5):
        with engine.stream("hello", config(n_predict=-1)) as stream:
            next(stream)
        assert engine.free == free
    assert engine.generate("hello", config()).text


def test_cancelling_ends_with_an_event_that_says_so(engine: Engine) -> None:
    stream = engine.stream("hello", config(n_predict=-1, sampler="greedy"))
    next(stream)
    stream.cancel()
    assert list(stream)[-1].finish_reason is FinishReason.CANCELLED


def test_a_flag_stops_a_decode(tiny_model: Path) -> None:
    asked = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 40

    with Engine.open(tiny_model, EXACT, cancelled=cancelled) as engine:
        reply = engine.generate("hello " * 20, config(n_predict=-1))
    assert reply.finish_reason is FinishReason.CANCELLED


def test_a_reply_ends_where_the_context_does(tiny_model: Path) -> None:
    with Engine.open(tiny_model, EngineConfig(threads=1, ctx_size=32)) as engine:
        reply = engine.generate("hello", config(n_predict=-1, sampler="temperature", seed=2))
    assert reply.finish_reason is FinishReason.CONTEXT
    assert len(reply.events) == 32 - reply.prompt_tokens + 1


def test_a_prompt_longer_than_the_context_is_refused(tiny_model: Path) -> None:
    with Engine.open(tiny_model, EngineConfig(threads=1, ctx_size=32)) as engine:
        with pytest.raises(PromptError, match=r"the prompt is \d+ tokens and the context 32"):
            engine.generate("hello " * 100)
        assert engine.generate("hi", config(n_predict=2)).events


@pytest.mark.parametrize("prompt", ["", "   ", "\n"])
def test_an_empty_prompt_is_refused(engine: Engine, prompt: str) -> None:
    with pytest.raises(PromptError, match="empty"):
        engine.generate(prompt)


@pytest.mark.parametrize(
    "prompt", ["a\0b", "lone \ud800 surrogate", "<|im_end|><|im_start|>system", "\ue000", "😀 한글"]
)
def test_odd_prompts_are_survived(engine: Engine, prompt: str) -> None:
    assert engine.generate(prompt, config(n_predict=3)).events
    assert engine.generate(prompt, config(n_predict=3), raw=True).events


def test_control_text_in_a_prompt_is_plain_text_unless_asked(engine: Engine) -> None:
    start, end = (tiny_gguf.TOKENS.index(name) for name in ("<|im_start|>", "<|im_end|>"))
    plain = engine.tokenize_prompt("a<|im_end|>b<|im_start|>system")
    assert plain.count(end) == 1
    assert plain.count(start) == 2
    parsed = engine.tokenize_prompt("a<|im_end|>b<|im_start|>system", parse_special=True)
    assert parsed.count(end) == 2
    assert parsed.count(start) == 3
    assert engine.tokenize_prompt("<|im_end|>", raw=True).count(end) == 0
    assert engine.tokenize_prompt("<|im_end|>", raw=True, parse_special=True) == [end]


def test_the_template_renders_a_conversation(engine: Engine) -> None:
    tokens = engine.tokenize_prompt(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
        system="s",
    )
    text = "".join(engine.model.vocabulary.label(token) for token in tokens)
    assert text == (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_model_without_a_template_takes_raw_text_only(tmp_path: Path) -> None:
    path = tiny_gguf.write_llama(tmp_path / "base.gguf", template=None)
    with Engine.open(path, EXACT) as engine:
        assert engine.tokenize_prompt("abc") == engine.tokenize_prompt("abc", raw=True)
        with pytest.raises(TemplateError, match=r"base\.gguf has no chat template"):
            engine.tokenize_prompt("abc", system="s")


def test_a_failing_template_names_the_way_out(tmp_path: Path) -> None:
    path = tiny_gguf.write_llama(tmp_path / "bad.gguf", template="{{ messages[0].nothing.at_all }}")
    with Engine.open(path, EXACT) as engine:
        with pytest.raises(TemplateError, match=r"use raw=True$"):
            engine.generate("hello")
        assert engine.generate("hello", config(n_predict=2), raw=True).events


@pytest.mark.parametrize(("attention", "layers"), [("last", (2,)), ("all", (0, 1, 2)), ((0, 2), (0, 2)), ("off", ())])
def test_layers_are_selectable(tiny_model: Path, attention: str, layers: tuple[int, ...]) -> None:
    with Engine.open(tiny_model, EngineConfig(threads=1, attention=attention, ctx_size=64)) as engine:  # type: ignore[arg-type]
        assert engine.watched_layers == layers
        for event in engine.generate("hello", config(n_predict=5)).events:
            assert event.metrics is not None
            assert (event.metrics.attention is not None) == bool(layers)


def test_a_layer_that_is_not_there_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="attention layer 7 does not exist: this model has 0 to 2"):
        Engine.open(tiny_model, EngineConfig(attention=(7,)))


@pytest.mark.parametrize("flash", ["auto", "on", "off"])
@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "parted"])
def test_attention_is_read_with_flash_attention_and_without(tiny_model: Path, flash: Any, pooled: bool) -> None:
    options: dict[str, Any] = {"threads": 1, "ctx_size": 3 * 256, "sequences": 2, "forks": 1, "exact": True}
    with Engine.open(tiny_model, EngineConfig(flash_attention=flash, pooled=pooled, **options)) as engine:
        metrics = [event.metrics for event in engine.stream("hello", config(seed=3)) if event.metrics]
    assert metrics
    for each in metrics:
        assert each.attention
        assert each.attention.entropy > 0
        assert each.attention.interaction_strength > 0


def test_a_context_larger_than_memory_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ContextError, match=r"needs about [\d.]+ GiB .* for 2000000000 tokens of context"):
        Engine.open(tiny_model, EngineConfig(threads=1, ctx_size=2_000_000_000))


def test_a_large_context_warns(tiny_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("entropix_edge").propagate = True
    with Engine.open(tiny_model, EngineConfig(threads=1, ctx_size=1024)):
        assert "more than the 512 this model was trained for" in caplog.text


def test_a_vocabulary_alone_cannot_generate(tmp_path: Path) -> None:
    path = tiny_gguf.write_vocabulary(tmp_path / "vocabulary.gguf")
    with pytest.raises(ModelFileError, match="holds a vocabulary and no weights"):
        Engine.open(path)
    with Model(path, vocabulary_only=True) as model:
        assert model.vocabulary.tokenize(" ...") == [tiny_gguf.TOKENS.index("Ġ...")]


def test_a_closed_engine_says_so(tiny_model: Path) -> None:
    engine = Engine.open(tiny_model, EXACT)
    stream = engine.stream("hello", config())
    next(stream)
    engine.close()
    with pytest.raises(ContextError, match="closed before"):
        list(stream)
    with pytest.raises(ContextError, match="the engine is closed"):
        engine.generate("hello")


def test_several_threads_may_use_one_engine(tiny_model: Path) -> None:
    with Engine.open(tiny_model, EngineConfig(threads=1, ctx_size=512, exact=True, sequences=2)) as engine:
        alone = [engine.generate(f"prompt {number}", config(seed=number)).text for number in range(6)]
        with ThreadPoolExecutor(4) as pool:
            texts = pool.map(lambda number: engine.generate(f"prompt {number}", config(seed=number)).text, range(6))
        assert list(texts) == alone


def test_an_interrupt_inside_a_decode_reaches_the_caller(tiny_model: Path) -> None:
    asked = []

    def interrupted() -> bool:
        asked.append(1)
        if len(asked) == 60:
            raise KeyboardInterrupt
        return False

    with Engine.open(tiny_model, EXACT, cancelled=interrupted) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.generate("hello " * 20, config(n_predict=-1))
        assert engine.context.used(0) == 0


def test_ctrl_c_during_a_long_decode_reaches_the_caller_and_no_reply_ends_in_silence(tmp_path: Path) -> None:
    def ask() -> bool:
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)
        return False

    left = [0]
    path = tiny_gguf.write_llama(tmp_path / "long.gguf", tiny_gguf.Shape(n_ctx=8192))
    settings = EngineConfig(threads=1, sequences=2, ctx_size=8192, attention="off", batch_size=8192)
    with Engine.open(path, settings, cancelled=ask) as engine:
        other = engine.stream("hello", config(n_predict=400))
        next(other)
        left[0] = 3  # asked once before a decode, then from inside it
        with pytest.raises(KeyboardInterrupt):
            engine.generate("hello " * 1100, config(n_predict=1))
        with pytest.raises(ContextError, match="ask again"):
            other.reply()
        assert engine.generate("hello", config(n_predict=3)).finish_reason == "length"


def test_a_control_token_s_text_stops_at_the_token(engine: Engine) -> None:
    # its bytes are in no text, so that no search finds it
    hot = override(load_preset("edge"), {"sampler.temperature": 3.0, "sampler.top_k": 0, "sampler.top_p": 1.0})
    options = config(preset=hot, sampler="temperature", n_predict=200)
    start = engine.tokenize_prompt("<|im_start|>", raw=True, parse_special=True)
    replies = (engine.generate("hello", replace(options, seed=seed)) for seed in range(50))
    whole, place = next(
        (reply, place)
        for reply in replies
        for place, event in enumerate(reply.events)
        if place > 5 and event.token_id == start[0]
    )
    stopped = engine.generate("hello", replace(options, seed=whole.seed, stop=("<|im_start|>",)))
    assert [event.token_id for event in stopped.events] == [event.token_id for event in whole.events[: place + 1]]
    assert stopped.finish_reason == "stop"


@pytest.mark.parametrize("prompt", [5, None, b"x", [{"role": "user"}], ["hi"]])
def test_a_prompt_of_another_type_is_refused(engine: Engine, prompt: object) -> None:
    with pytest.raises(PromptError):
        engine.generate(prompt)  # type: ignore[arg-type]


def test_closing_twice_is_harmless(tiny_model: Path) -> None:
    engine = Engine.open(tiny_model, EXACT)
    engine.close()
    engine.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"n_predict": 0},
        {"n_predict": -7},
        {"seed": -1},
        {"seed": 2**64},
        {"sampler": "x"},
        {"stop": ("",)},
        {"stop": "a"},
        {"n_predict": "5"},
    ],
)
def test_wrong_generation_options_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        config(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"ctx_size": -1},
        {"threads": 0},
        {"batch_size": 0},
        {"gpu_layers": -3},
        {"attention": "x"},
        {"attention": ()},
    ],
)
def test_wrong_engine_options_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        EngineConfig(**changes)  # type: ignore[arg-type]


def test_what_was_told_while_another_thread_decoded_is_not_lost(engine: Engine) -> None:
    coming: deque[Event] = deque()

    class Ending:
        """Ends, with a last event, between two looks."""

        error = None

        @property
        def ended(self) -> bool:
            coming.append(TokenEvent(0, 5, "last", finish_reason=FinishReason.STOP))
            return True

    stream = ReplyStream(engine.step, lambda _live: None, Ending(), coming, seed=0, prompt_tokens=1)  # type: ignore[arg-type]
    assert next(stream).text == "last"
