"""The real default model: what it says, and that it says it again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from entropix_edge import Engine, EngineConfig, GenerationConfig, Strategy
from entropix_edge.cli import run
from entropix_edge.types import Cell

pytestmark = pytest.mark.model

SYSTEM = "You are a helpful assistant."


@pytest.fixture(scope="module")
def engine(default_model: Path) -> Iterator[Engine]:
    with Engine.open(default_model) as opened:
        yield opened


@pytest.fixture(scope="module")
def bare(default_model: Path) -> Iterator[Engine]:
    with Engine.open(default_model, EngineConfig(attention="off")) as opened:
        yield opened


def test_the_capital_of_france(default_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "-m", str(default_model), "--sampler", "greedy", "-sys", SYSTEM, "-n", "24"]
    assert run([*arguments, "What is the capital of France?"]) == 0
    out, err = capsys.readouterr()
    assert "Paris" in out
    assert err == ""


def test_the_prompt_is_the_models_own_template(engine: Engine) -> None:
    tokens = engine.tokenize_prompt("Hi", system=SYSTEM)
    text = "".join(engine.model.vocabulary.label(token) for token in tokens)
    assert text == f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_the_pause_is_three_dots(engine: Engine) -> None:
    assert engine.model.vocabulary.tokenize(" ...") == [4563]
    assert engine.model.vocabulary.tokenize(" Wait") == [22297]


def test_the_same_seed_repeats_and_another_differs(engine: Engine) -> None:
    prompt = "Invent a name for a ship and say why."
    first, again, other = (
        engine.generate(prompt, GenerationConfig(seed=seed, n_predict=60)).text for seed in (11, 11, 12)
    )
    assert first == again
    assert first != other


def test_a_story_traces_finite_metrics(engine: Engine) -> None:
    prompt = "Write a very long story about a dragon, with many chapters."
    reply = engine.generate(prompt, GenerationConfig(seed=3, n_predict=200, preset="article"))
    assert len(reply.events) > 100
    for event in reply.events:
        assert event.metrics is not None
        assert event.metrics.attention is not None
        attention = event.metrics.attention
        values = (event.metrics.entropy, event.metrics.varentropy, attention.varentropy, attention.agreement)
        assert all(math.isfinite(value) and value >= 0 for value in (*values, attention.interaction_strength))
        assert event.metrics.entropy <= math.log2(engine.model.n_vocab)
        assert 0 <= attention.entropy <= math.log2(reply.prompt_tokens + event.index)


def test_several_strategies_occur(engine: Engine) -> None:
    prompts = ["Count from 1 to 20.", "Tell me a story.", "What is 2 + 2?", "Invent ten words that do not exist."]
    seen = {
        event.strategy
        for prompt in prompts
        for event in engine.generate(prompt, GenerationConfig(seed=1, n_predict=60)).events
    }
    assert len(seen & set(Strategy)) >= 3


def test_attention_does_not_change_what_is_said(default_model: Path, engine: Engine) -> None:
    """The tap looks and does not touch."""
    settings = GenerationConfig(sampler="greedy", n_predict=40)
    with Engine.open(default_model, EngineConfig(attention="off", flash_attention="off")) as plain:
        prompt = "Name three colours."
        tapped, untapped = engine.generate(prompt, settings), plain.generate(prompt, settings)
    assert tapped.text == untapped.text
    for one, other in zip(tapped.events, untapped.events, strict=True):
        assert one.logprob == other.logprob


def test_golden_token_ids(bare: Engine) -> None:
    """Greedy ids, each with how far the two best logits were apart on the machine that wrote them.

    Made by `scripts/golden.py`. Only where that is more than 1 must another machine choose the same; the
    golden token is decoded next whatever was chosen.
    """
    goldens = json.loads((Path(__file__).parent / "golden.json").read_text("utf-8"))
    compared = 0
    for prompt, golden in goldens.items():
        tokens = bare.tokenize_prompt(prompt, system=SYSTEM)
        bare.context.decode([Cell(token, i, 0, wanted=False) for i, token in enumerate(tokens[:-1])])
        fed = tokens[-1]
        for position, (token, apart) in enumerate(golden, start=len(tokens) - 1):
            rows = bare.context.decode([Cell(fed, position, 0, wanted=True)])
            assert rows is not None
            if apart > 1:
                assert int(rows[0].logits.argmax()) == token
                compared += 1
            fed = token
        bare.context.truncate(0)
    assert compared >= 100
