"""What the cells of other sequences cost a token: in one pool llama.cpp computes it against them too, only masked.

Usage: .venv/bin/python scripts/idle_cells.py MODEL [--cells 0,1000,4000,8000] [--threads N]

Raw llama.cpp: so many cells in one sequence, then tokens of another one at a depth of 100. A median a line.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from entropix_edge import EngineConfig
from entropix_edge.engine import open_context, prepare
from entropix_edge.llama import Context, Model, default_threads
from entropix_edge.types import Cell

DEPTH, TOKENS, TIMES = 100, 40, 3
IDLE, LIVE = 1, 0  # sequences


def decode(context: Context, sequence: int, start: int, count: int) -> None:
    """Some tokens into a sequence; the last one's row is wanted."""
    cells = [Cell(100 + place % 500, start + place, sequence, place == count - 1) for place in range(count)]
    context.decode(cells)


def seconds_a_token(context: Context) -> float:
    """The median of some runs."""
    decode(context, LIVE, 0, DEPTH)
    found = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        for place in range(TOKENS):
            decode(context, LIVE, DEPTH + place, 1)
        found.append((time.perf_counter() - begun) / TOKENS)
        context.truncate(LIVE, DEPTH)
    context.truncate(LIVE)
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--cells", default="0,1000,4000,8000")
    parser.add_argument("--threads", type=int, default=default_threads())
    options = parser.parse_args()
    counts = sorted(int(count) for count in options.cells.split(","))
    config = EngineConfig(
        ctx_size=counts[-1] + 1024, sequences=2, threads=options.threads, attention="off", batch_size=512
    )
    prepare(config)
    with Model(options.model) as model, open_context(model, config) as context:
        held = 0
        for count in counts:
            while held < count:
                more = min(500, count - held)
                decode(context, IDLE, held, more)
                held += more
            print(f"{count:6} cells of another sequence: {1000 * seconds_a_token(context):.2f} ms a token", flush=True)


if __name__ == "__main__":
    main()
