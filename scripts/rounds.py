"""What Python takes of a round in which many replies are generated together.

Usage: .venv/bin/python scripts/rounds.py MODEL [--replies 1,4,16] [--tokens 128] [--attention last]

So many replies of the default preset at once; a round is one batch with a token of each. The time in `llama_decode` is
the engine's own count; what is left is ours: scheduler, metrics, strategy and draws of each token, and the reading of
its event. Rounds in which a reply has branches, or not just one token, are left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from entropix_edge import Engine, EngineConfig, GenerationConfig
from entropix_edge.types import TokenEvent

PROMPT = "Write a long story about {} friends who go on a journey."

_TIMES = 5  # with another seed each


class Round(NamedTuple):
    """Seconds of a round, and those of them in llama.cpp."""

    seconds: float
    decode: float


def rounds(engine: Engine, replies: int, tokens: int, seed: int) -> list[Round]:
    """The rounds of so many replies, of so many tokens each, in which each had one token."""
    config = GenerationConfig(seed=seed, n_predict=tokens)
    engine.forget()
    streams = [engine.stream(PROMPT.format(number + 2), config) for number in range(replies)]
    found = []
    while not any(stream.ended for stream in streams):
        start, decoded = time.perf_counter(), engine.context.decode_seconds
        engine.step()
        events = [event for stream in streams for event in stream.waiting()]
        seconds = time.perf_counter() - start
        whole = len(events) == replies and all(isinstance(event, TokenEvent) for event in events)
        if whole and not any(stream.is_forked for stream in streams):
            found.append(Round(seconds, engine.context.decode_seconds - decoded))
    for stream in streams:
        stream.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--replies", default="1,4,16")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--attention", choices=("off", "last", "all"), default="last")
    options = parser.parse_args()
    counts = [int(count) for count in options.replies.split(",")]
    most = max(counts)
    config = EngineConfig(ctx_size=most * (options.tokens + 128), sequences=most, attention=options.attention)
    print("| replies | rounds | a round, ms | Python and kernels, ms | a token, µs | of the round, % |")
    print("|---:|---:|---:|---:|---:|---:|")
    with Engine.open(options.model, config) as engine:
        for count in counts:
            found = [each for seed in range(1, _TIMES + 1) for each in rounds(engine, count, options.tokens, seed)]
            round_ms = 1000 * statistics.median(each.seconds for each in found)
            own_ms = 1000 * statistics.median(each.seconds - each.decode for each in found)
            print(
                f"| {count} | {len(found)} | {round_ms:.1f} | {own_ms:.2f} | {1000 * own_ms / count:.0f} | "
                f"{100 * own_ms / round_ms:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
