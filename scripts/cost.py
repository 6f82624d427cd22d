"""What the acts of a preset cost: extra decoded tokens and wall time against plain drawing, on shipped prompts.

Usage: .venv/bin/python scripts/cost.py [MODEL] [--preset NAME] [--tokens N] [--rounds N]

Both run through the same loop on the same engine, prompt by prompt in turns: the preset as it is, and with its
forks, rejections, rewinds and pauses switched off. Wall time is compared for each written token, since the two
say different things.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from entropix_edge import Engine, GenerationConfig, Preset, Reply, load_preset

PROMPTS = [
    "Tell me a short story about a lighthouse.",
    "Write a Python function that reverses a string.",
    "Explain why the sky is blue.",
    "Tom has 3 apples and buys 5 more. He gives 2 away. How many are left? Think step by step.",
    "Invent ten words that do not exist.",
    "Write a poem about the night.",
]


def plain(preset: Preset) -> Preset:
    """The same table, drawing only."""
    return replace(
        preset,
        branch=replace(preset.branch, children=0),
        resample=replace(preset.resample, atypical=0.0, run=0),
        pause=replace(preset.pause, entropy_above=1e9),
    )


def seconds_a_token(reply: Reply) -> float:
    """Wall time of each written token but the first, which is the prompt's."""
    return reply.generation_seconds / max(len(reply.events) - 1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--preset", default="edge")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    preset = load_preset(arguments.preset)
    ratios, written, decoded, acts = [], 0, 0, 0
    with Engine.open(arguments.model) as engine:
        engine.generate(PROMPTS[0], GenerationConfig(seed=0, n_predict=8))  # warms up
        for seed in range(arguments.rounds):
            for prompt in PROMPTS:
                acting, drawing = (
                    engine.generate(prompt, GenerationConfig(preset=each, seed=seed, n_predict=arguments.tokens))
                    for each in (preset, plain(preset))
                )
                ratios.append(seconds_a_token(acting) / seconds_a_token(drawing))
                written += len(acting.events)
                decoded += acting.decoded_tokens
                acts += len(acting.side_events)
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    print(f"{written} tokens written, {decoded} decoded: {decoded / written:.2f}x; {acts} lines of other events")
    print(f"wall time a token: {middle:.2f}x ({low:.2f} to {high:.2f}); mean {np.mean(ratios):.2f}x")


if __name__ == "__main__":
    main()
