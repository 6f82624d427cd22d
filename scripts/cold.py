"""How much memory a step of Python touches: `.venv/bin/python scripts/cold.py [greedy|article|edge]`, with valgrind.

After a decode the caches are empty: the model has gone through them. What a step costs then is the cache lines of code
and data that it has to fetch again, and cachegrind counts those, the same on every run, where times change by the hour.
The decode is a sum over more memory than the simulated cache holds; scheduler, generation, kernels and draw are real.
The first run compiles the kernels inside valgrind, which takes minutes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from entropix_edge.decoding import Scheduler, Task, generate
from entropix_edge.strategy import load_preset
from entropix_edge.types import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

_FEW, _MANY = 100, 300  # steps; the difference is of so many warm ones
_LINE, _CACHE = 64, 2**21  # bytes
_N_VOCAB = 512  # the kernels' own work is counted elsewhere


class Decoder:
    """Empties the caches, and answers with one of some rows."""

    swaps = True
    n_ctx = room = 1 << 16
    n_batch, sequences = 512, 4

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self._rows = random.normal(-4.0, 2.5, (16, _N_VOCAB)).astype(np.float32)
        self._rows[:, :16] += np.diag(np.arange(8.0, 16.0, 0.5)).astype(np.float32)
        self._row = np.empty(_N_VOCAB, np.float32)
        self._memory = np.ones(4 * _CACHE // 8)
        self._count = 0

    def decode(self, _cells: Sequence[Any]) -> list[Row]:
        self._memory.sum()
        self._count += 1
        self._row[:] = self._rows[self._count % len(self._rows)]
        return [Row(self._row, None)]

    def fork(self, source: int, target: int) -> None: ...

    def truncate(self, _sequence: int, _position: int = 0) -> bool:
        return True


class Words:
    """A vocabulary of words without an end."""

    thinking = None

    def __init__(self) -> None:
        self._pieces = [b" word%d" % token for token in range(_N_VOCAB)]

    def tokenize(self, _text: str, *, continues: bool = False) -> list[int]:
        return [7]

    def piece(self, token: int) -> bytes:
        return self._pieces[token]

    def is_end(self, _token: int) -> bool:
        return False

    def is_control(self, _token: int) -> bool:
        return False


def steps(loop: str, count: int) -> None:
    """What is counted."""
    sys.executable = ""  # another process would compile for the processor, not for valgrind's
    sampler = "greedy" if loop == "greedy" else "entropix"
    preset = load_preset("article" if loop == "greedy" else loop)
    task = Task(preset=preset, sampler=sampler, seed=0, n_predict=-1, stop=(), capacity=1 << 16)
    scheduler = Scheduler(Decoder(), 1)
    scheduler.add(generate(range(3), task, Words(), lambda event: None), 1 << 16)
    for _ in range(count):
        scheduler.step()


def counted(loop: str, count: int) -> dict[str, int]:
    """Cachegrind's sums over a run of so many steps."""
    tool = ["valgrind", "--tool=cachegrind", "--cache-sim=yes", f"--LL={_CACHE},16,{_LINE}"]
    command = [*tool, "--cachegrind-out-file=/dev/null", sys.executable, __file__, loop, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.findall(r"(I +refs|LLi misses|LLd misses): +([\d,]+)", done.stderr)
    return {name: int(number.replace(",", "")) for name, number in found}


def main() -> None:
    loop = sys.argv[1] if len(sys.argv) > 1 else "greedy"
    if len(sys.argv) > 2:  # inside valgrind
        steps(loop, int(sys.argv[2]))
        return
    counted(loop, 4)  # compiles
    with ThreadPoolExecutor() as pool:
        few, many = pool.map(lambda count: counted(loop, count), (_FEW, _MANY))
    each = {name: (many[name] - few[name]) / (_MANY - _FEW) for name in few}
    streamed = 4 * _CACHE / _LINE
    data = each["LLd misses"] - streamed
    print(f"{loop}: {each['LLi misses']:.0f} lines of code and {data:.0f} of data a step")


if __name__ == "__main__":
    main()
