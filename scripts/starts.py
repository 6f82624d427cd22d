"""How long versions of this program take to start, in turns: what a change did to the start, the help, the memory.

Usage: .venv/bin/python scripts/starts.py MODEL NAME=FOLDER… [--times 9]

FOLDER is a checkout; `git worktree add ../before COMMIT` makes one. All run in this environment, after a raw script
that loads the model and decodes. Medians; seconds until the first token, and MiB at that moment.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from entropix_edge.bench.process import Start, generate_arguments, median, raw_arguments, start
from entropix_edge.llama import RAW_PROCESS, default_threads

PROGRAM = [sys.executable, "-P", "-m", "entropix_edge"]


def row(name: str, warm: Start, first: float | None, helped: float | None) -> str:
    """A line of the table."""
    numbers = [f"{value:.2f}" if value else "" for value in (warm.seconds, first)]
    sizes = [f"{size / 2**20:.0f}" if size else "" for size in (warm.resident, warm.anonymous)]
    return f"| {name} | {' | '.join(numbers)} | {'' if helped is None else f'{helped:.3f}'} | {' | '.join(sizes)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("versions", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--times", type=int, default=9)
    options = parser.parse_args()
    threads = default_threads()
    path = options.model.resolve()
    raw = [sys.executable, "-c", RAW_PROCESS, *raw_arguments(path, threads)]
    ours = [*PROGRAM, *generate_arguments(path, threads)]
    folders = {
        name: str(Path(folder).resolve()) for name, _, folder in (each.partition("=") for each in options.versions)
    }
    raws: list[Start] = []
    warm: dict[str, list[Start]] = {name: [] for name in folders}
    first: dict[str, list[float]] = {name: [] for name in folders}
    helps: dict[str, list[float]] = {name: [] for name in folders}
    for _ in range(options.times + 1):
        raws.append(start(raw))
        for name, folder in folders.items():
            here = {"PYTHONPATH": folder}
            warm[name].append(start(ours, here))
            helps[name].append(start([*PROGRAM, "--help"], here).seconds)
            with tempfile.TemporaryDirectory() as empty:
                first[name].append(start(ours, here | {"NUMBA_CACHE_DIR": empty}).seconds)
    print("| version | first token, s | the very first run, s | `--help`, s | resident, MiB | of them anonymous |")
    print("|---|---:|---:|---:|---:|---:|")
    print(row("a raw script", median(raws[1:]), None, None))
    for name in folders:
        found = (statistics.median(first[name][1:]), statistics.median(helps[name][1:]))
        print(row(name, median(warm[name][1:]), *found))


if __name__ == "__main__":
    main()
