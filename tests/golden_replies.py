"""Replies whose every event is on record: fixed seeds on a tiny F32 model with an F32 cache.

`scripts/golden.py` writes `tests/golden_replies.json`; `tests/test_golden.py` holds the code against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import tiny_gguf

from entropix_edge import Engine, EngineConfig, GenerationConfig, Preset, load_preset
from entropix_edge.sessions import Deliberation, VotingConfig
from entropix_edge.types import (
    BranchEvent,
    CandidateEvent,
    ConfidenceEvent,
    CorrectionEvent,
    Event,
    FallbackEvent,
    RejectedEvent,
    RewindEvent,
    TokenEvent,
)

FILE = Path(__file__).with_suffix(".json")
PROMPTS = ("hello", "Why?", "the quick brown fox")
EDGE = load_preset("edge")


def edge_with(**changes: dict[str, object]) -> Preset:
    """`edge` with some values changed."""
    return replace(EDGE, **{name: replace(getattr(EDGE, name), **values) for name, values in changes.items()})


PRESETS = {
    "article": load_preset("article"),
    "edge": EDGE,
    # thresholds at which this model shows every act
    "acts": edge_with(
        argmax={"entropy_below": 1.8},
        branch={
            "entropy_below": 3.7,
            "varentropy_above": 5.0,
            "budget": 1.0,
            "credit": 20,
            "horizon": 5,
            "least_share": 0.1,
        },
        pause={"entropy_above": 3.5, "varentropy_below": 5.0, "cooldown": 4},
        resample={"entropy_above": 3.7, "varentropy_above": 4.0, "run": 2, "redraws": 2, "atypical": 0.05},
    ),
    "pauses": edge_with(
        branch={"entropy_below": 0.0},
        pause={"entropy_above": 0.0, "varentropy_below": 1e9, "texts": ("hm,",), "cooldown": 0, "most": 4},
    ),
}


def cases() -> Iterator[tuple[str, str, GenerationConfig]]:
    """A name, a prompt and how to answer it."""
    for prompt in PROMPTS:
        yield f"greedy: {prompt}", prompt, GenerationConfig(sampler="greedy", n_predict=40)
        for name, preset in PRESETS.items():
            for seed in (1, 2):
                yield f"{name} {seed}: {prompt}", prompt, GenerationConfig(preset=preset, seed=seed, n_predict=40)
        yield f"temperature: {prompt}", prompt, GenerationConfig(sampler="temperature", seed=3, n_predict=40)


def encoded(event: Event) -> list[Any]:
    """An event as plain values, numbers to 3 digits."""
    match event:
        case TokenEvent():
            numbers = [event.logprob, *(event.metrics[:2] if event.metrics else ())]
            rounded = [None if number is None else round(number, 3) for number in numbers]
            return [
                "token",
                event.index,
                event.token_id,
                event.text,
                event.strategy,
                event.origin,
                event.finish_reason,
                *rounded,
            ]
        case BranchEvent():
            return ["branch", event.index, list(event.token_ids), event.text, round(event.score, 3), event.kept]
        case RejectedEvent():
            return ["rejected", event.index, event.token_id, round(event.surprisal, 3)]
        case RewindEvent():
            return ["rewind", event.index, list(event.token_ids)]
        case FallbackEvent():
            return ["fallback", event.index, event.strategy, event.reason]
        case CorrectionEvent():
            return ["correction", event.index, list(event.token_ids), event.found, event.right]
        case CandidateEvent():
            return [
                "candidate",
                event.number,
                list(event.token_ids),
                event.text,
                round(event.confidence, 3),
                event.kept,
            ]
        case ConfidenceEvent():
            return ["confidence", event.index, event.kind, round(event.value, 3)]


def record(folder: Path) -> dict[str, list[list[Any]]]:
    """Generate every case; the events of each."""
    path = tiny_gguf.write_llama(folder / "golden.gguf")
    found: dict[str, list[list[Any]]] = {}
    config = EngineConfig(threads=1, ctx_size=512, exact=True, sequences=1, forks=5)
    with Engine.open(path, config) as engine:
        for name, prompt, generation in cases():
            engine.forget()
            with engine.stream(prompt, generation) as stream:
                found[name] = [encoded(event) for event in stream.everything()]
    with Engine.open(path, EngineConfig(threads=1, ctx_size=512, exact=True, sequences=4)) as engine:
        for weighted in (True, False):
            generation = GenerationConfig(seed=5, n_predict=30)
            tokens = engine.tokenize_prompt(PROMPTS[0])
            engine.forget()
            manner = VotingConfig(candidates=4, weighted=weighted, early_stopping=weighted)
            with Deliberation(engine, tokens, generation, manner, lambda text: text[:1] or None) as deliberation:
                found[f"deliberation, weighted {weighted}"] = [encoded(event) for event in deliberation.everything()]
    return found
