"""What scheduling costs beside llama.cpp, however long the prompts and however many: processor time, no model.

Usage: .venv/bin/python scripts/scheduling.py [--sequences N,N] [--tokens N,N]

So many sequences at once, each with a prompt of so many tokens. The prompts are unlike; or all but their last 16 tokens
are alike; or they are asked again, each with its reply and 16 tokens more, which is a conversation's next turn. The
decoder only counts, so what is left is the scheduler, the slots and the generations. A line that grows faster than its
tokens shows in the columns for a token.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from entropix_edge import load_preset
from entropix_edge.decoding import Job, Scheduler, Task, generate
from entropix_edge.types import Cell, Row

N_VOCAB = 64
N_BATCH = 512
STEPS = 32  # in which all generate
TAIL = 16


class Decoder:
    """Answers every row with one token, and keeps nothing."""

    swaps = True

    def __init__(self, n_ctx: int, sequences: int) -> None:
        self.n_ctx = self.room = n_ctx
        self.n_batch, self.sequences = N_BATCH, sequences
        logits = np.full(N_VOCAB, -1000.0, np.float32)
        logits[20] = 0
        self._row = Row(logits, None)
        self.rows = 0

    def decode(self, cells: Sequence[Cell]) -> list[Row] | None:
        rows = [self._row for cell in cells if cell.wanted]
        self.rows += len(rows)
        return rows

    def fork(self, source: int, target: int) -> None:
        pass

    def truncate(self, sequence: int, position: int = 0) -> bool:
        return True

    def save(self, sequence: int) -> bytes:
        return b""

    def load(self, sequence: int, state: bytes | memoryview) -> bool:
        return False


class Vocabulary:
    """No token ends a turn."""

    thinking = None

    def tokenize(self, text: str, *, continues: bool = False) -> list[int]:
        return [1]

    def is_control(self, token: int) -> bool:
        return False

    def is_end(self, token: int) -> bool:
        return False

    def piece(self, token: int) -> bytes:
        return b"x"


class Prompts:
    """Prompts of random tokens, in memory of their own as those of different requests are."""

    def __init__(self, count: int, length: int) -> None:
        self._random = np.random.default_rng(0)
        self._count, self._length = count, length

    def tokens(self, count: int) -> list[int]:
        return [int(token) for token in self._random.integers(1000, 49_000, count)]

    def unlike(self) -> list[list[int]]:
        return [self.tokens(self._length) for _ in range(self._count)]

    def alike(self) -> list[list[int]]:
        common = np.array(self.tokens(self._length - TAIL))
        return [[*map(int, common), *self.tokens(TAIL)] for _ in range(self._count)]


def ask(scheduler: Scheduler, prompts: Sequence[Sequence[int]], reply: int) -> list[Job]:
    preset, jobs = load_preset("article"), []
    for prompt in prompts:
        capacity = len(prompt) + reply
        task = Task(preset=preset, sampler="greedy", seed=0, n_predict=reply, stop=(), capacity=capacity)
        generation = generate(prompt, task, Vocabulary(), lambda _event: None)
        jobs.append(scheduler.add(generation, capacity, prompt))
    return jobs


def answer(decoder: Decoder, scheduler: Scheduler, prompts: Sequence[Sequence[int]], reply: int) -> tuple[float, float]:
    """Processor seconds of each prompt, and of each generated token where all generate."""
    jobs = ask(scheduler, prompts, reply)
    decoder.rows = 0
    start = time.process_time()
    while any(job.looks_for_prefix or job.slot is None or len(job.slot.pending) > 1 for job in jobs):
        assert scheduler.step()
    admitted = time.process_time()
    meanwhile, steps = decoder.rows, 0  # by those whose prompts were decoded before the last one's
    while not any(job.ended for job in jobs):
        scheduler.step()
        steps += 1
    ended = time.process_time()
    while scheduler.step():
        pass
    token = (ended - admitted) / (steps * len(jobs))
    return max(admitted - start - meanwhile * token, 0.0) / len(jobs), token


def measure(sequences: int, length: int) -> list[tuple[str, float, float]]:
    found = []
    prompts = Prompts(sequences, length)
    reply = sequences * (length // (N_BATCH - sequences) + 2) + STEPS  # the first still generates when the last begins
    room = sequences * (length + 2 * reply + TAIL)
    for name, asked in (("unlike", prompts.unlike()), ("alike", prompts.alike())):
        decoder = Decoder(room, sequences)
        scheduler = Scheduler(decoder)
        found.append((name, *answer(decoder, scheduler, asked, reply)))
        if name == "unlike":
            again = [[*prompt, *[20] * reply, *prompts.tokens(TAIL)] for prompt in asked]
            found.append(("the next turn", *answer(decoder, scheduler, again, reply)))
    return found


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=numbers, default=[1, 16, 64])
    parser.add_argument("--tokens", type=numbers, default=[1024, 8192, 32768])
    arguments = parser.parse_args()
    measure(1, 64)  # warms up
    print("| prompts | sequences | tokens each | a prompt | of it a token | a generated token |")
    print("|---|---:|---:|---:|---:|---:|")
    for sequences in arguments.sequences:
        for length in arguments.tokens:
            for name, prompt, token in measure(sequences, length):
                print(
                    f"| {name} | {sequences} | {length:,} | {1e3 * prompt:.2f} ms | {1e6 * prompt / length:.2f} µs "
                    f"| {1e6 * token:.0f} µs |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
