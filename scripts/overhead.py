"""Speed of the whole loop as a share of raw llama.cpp, both in one interleaved run.

Usage: .venv/bin/python scripts/overhead.py [MODEL] [--rounds N] [--tokens N]

The loop is `generate` with the preset `article`, which decodes each token once, as raw does. Raw is `llama_decode`
and an argmax, nothing else, with flash attention as in the loop beside it. The two take turns, a token each, so that
whatever else the machine does falls on both. A round's ratio is that of its median step times; printed are the median
of the rounds, and their quartiles.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable

import llama_cpp.llama_cpp as llama
import numpy as np

from entropix_edge import Engine, EngineConfig, GenerationConfig
from entropix_edge.llama import Context

PROMPT = "Write a long story about a lighthouse keeper and the sea."


class Raw:
    """A loop that decodes and takes the largest logit, one step at a time."""

    def __init__(self, context: Context, prompt: list[int]) -> None:
        self._context = context
        self._one = (llama.llama_token * 1)()
        llama.llama_memory_clear(llama.llama_get_memory(context.handle), False)
        array = (llama.llama_token * len(prompt))(*prompt)
        assert llama.llama_decode(context.handle, llama.llama_batch_get_one(array, len(prompt))) == 0

    def step(self) -> None:
        """Choose one token and decode it."""
        pointer = llama.llama_get_logits_ith(self._context.handle, -1)
        self._one[0] = int(np.ctypeslib.as_array(pointer, (self._context.model.n_vocab,)).argmax())
        assert llama.llama_decode(self._context.handle, llama.llama_batch_get_one(self._one, 1)) == 0
        llama.llama_synchronize(self._context.handle)


def seconds_of(step: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def one_round(engine: Engine, bare: Context, prompt: list[int], tokens: int, seed: int) -> np.ndarray:
    """Seconds of raw and loop steps, taken in turns: shape (steps, 2). Ends early where the model does."""
    pairs = []
    config = GenerationConfig(seed=seed, n_predict=tokens + 1, preset="article")
    with engine.stream(PROMPT, config) as stream:
        next(stream)
        raw = Raw(bare, prompt)
        with contextlib.suppress(StopIteration):
            while True:
                loop = seconds_of(stream.__next__)
                pairs.append((seconds_of(raw.step), loop))
    return np.array(pairs)


def compare(model: str, config: EngineConfig, rounds: int, tokens: int) -> tuple[np.ndarray, float, float]:
    """One ratio loop/raw in tokens a second for each round, and the median raw and loop seconds a token."""
    flash = "off" if config.attention != "off" else config.flash_attention
    with Engine.open(model, config) as engine:
        prompt = engine.tokenize_prompt(PROMPT)
        with Context(engine.model, n_ctx=engine.context.n_ctx, flash_attention=flash) as bare:
            one_round(engine, bare, prompt, 8, seed=0)  # warms up
            steps = [one_round(engine, bare, prompt, tokens, seed) for seed in range(rounds)]
    ratios = np.array([np.median(pairs[:, 0]) / np.median(pairs[:, 1]) for pairs in steps if len(pairs)])
    raw, loop = np.median(np.concatenate(steps), axis=0)
    return ratios, float(raw), float(loop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=100)
    arguments = parser.parse_args()
    cases = {
        "attention off, flash attention auto": EngineConfig(attention="off"),
        "attention off, flash attention off": EngineConfig(attention="off", flash_attention="off"),
        "attention of the last layer": EngineConfig(),
        "attention of all layers": EngineConfig(attention="all"),
    }
    for name, config in cases.items():
        ratios, raw, loop = compare(arguments.model, config, arguments.rounds, arguments.tokens)
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        rates = f"{1 / loop:.0f} against {1 / raw:.0f} tokens/s"
        print(f"{name:<38} {middle:.3f} of raw ({low:.3f} to {high:.3f}); {rates}", flush=True)


if __name__ == "__main__":
    main()
