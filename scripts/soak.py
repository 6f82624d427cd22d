"""Many clients at once on one server, for long: some go away, some send garbage, some read slowly.

Every text that is finished must be the one that its request gives alone; at the end nothing may be left of anyone, and
the server's memory must be level.

Usage: .venv/bin/python scripts/soak.py [--seconds 1800] [--clients 64]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from serving import endless_model, serving

from entropix_edge import EngineConfig

CTX_SIZE, PARALLEL, QUEUE = 1024, 8, 40
GARBAGE = [b"", b"{", b"\xff\xff", b'{"messages": 1}', b'{"messages": []}', b'{"prompt": [1, "x"]}', b"[" * 5000]
SYSTEMS = ["", "Be brief. " * 12, "You are a pirate who speaks of the sea. " * 6]
SAMPLING: list[dict[str, Any]] = [{"temperature": 0, "entropix": {"sampler": "greedy"}}, {"temperature": 0.8}]


@dataclass
class Report:
    """What came of it."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)  # seconds, MiB


class Clients:
    """So many clients of a server.

    Args:
        url: of the server.
        requests: what they ask.
        seed: of all that is left to chance.
    """

    def __init__(self, url: str, requests: list[dict[str, Any]], seed: int = 440) -> None:
        self.report = Report()
        self._address = urlsplit(url)
        self._requests = requests
        self._expected: dict[int, str] = {}
        self._random = random.Random(seed)

    async def run(self, seconds: float, clients: int) -> None:
        """Let them come and go for so long."""
        for number, request in enumerate(self._requests):
            self._expected[number] = await self._ask(request)
        end = time.monotonic() + seconds
        await asyncio.gather(*(self._client(end) for _ in range(clients)))

    async def _client(self, end: float) -> None:
        while time.monotonic() < end:
            acts = [self._whole, self._stream, self._leaves, self._garbage, self._slow]
            act = self._random.choices(acts, weights=[25, 25, 35, 10, 5])[0]
            outcome = await act()
            self.report.counts[outcome] += 1
            if outcome == "busy":
                await asyncio.sleep(self._random.uniform(0.05, 0.3))

    # --- what a client may do -------------------------------------------------------------------------

    async def _whole(self) -> str:
        number = self._random.randrange(len(self._requests))
        return self._judge(number, await self._ask(self._requests[number]))

    async def _stream(self) -> str:
        number = self._random.randrange(len(self._requests))
        return self._judge(number, await self._ask({**self._requests[number], "stream": True}))

    async def _slow(self) -> str:
        number = self._random.randrange(len(self._requests))
        return self._judge(number, await self._ask({**self._requests[number], "stream": True}, pause=0.02))

    async def _leaves(self) -> str:
        request = {**self._random.choice(self._requests), "stream": self._random.random() < 0.7}
        _reader, writer = await self._send(json.dumps(request).encode())
        await asyncio.sleep(self._random.choice([0, self._random.expovariate(20), self._random.uniform(0, 0.5)]))
        writer.transport.abort()
        return "left"

    async def _garbage(self) -> str:
        reader, writer = await self._send(self._random.choice(GARBAGE))
        answer = await reader.read()
        writer.close()
        if b" 400 " not in answer[:20] or b'{"error"' not in answer:
            self.report.wrong.append(f"garbage was answered with {answer[:200]!r}")
        return "garbage"

    # --- HTTP -----------------------------------------------------------------------------------------

    async def _send(self, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        head = f"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: {len(body)}\r\n\r\n"  # 1.0: not in chunks
        writer.write(head.encode() + body)
        return reader, writer

    async def _ask(self, request: dict[str, Any], pause: float = 0.0) -> str:
        """The text of an answer; empty where there was no place."""
        reader, writer = await self._send(json.dumps(request).encode())
        answer = b""
        while part := await reader.read(2048 if pause else 2**16):
            answer += part
            if pause:
                await asyncio.sleep(pause)
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 429 " in head[:20]:
            return ""
        if b" 200 " not in head[:20]:
            self.report.wrong.append(f"{head[:60]!r} {body[:300]!r}")
            return ""
        if not request.get("stream"):
            return str(json.loads(body)["choices"][0]["message"]["content"])
        lines = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
        if lines[-1:] != ["[DONE]"]:
            self.report.wrong.append(f"a stream ended with {lines[-1:]}")
            return ""
        choices = [json.loads(line)["choices"][0] for line in lines[:-1]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    def _judge(self, number: int, text: str) -> str:
        if not text:
            return "busy"
        if text != self._expected[number]:
            self.report.wrong.append(f"request {number}: {text!r}, alone {self._expected[number]!r}")
        return "finished"


def requests(count: int = 36) -> list[dict[str, Any]]:
    """What clients ask: several system prompts, lengths and ways to sample, each with its seed."""
    found = []
    for number in range(count):
        system = SYSTEMS[number % len(SYSTEMS)]
        messages = [{"role": "system", "content": system}] * bool(system)
        messages.append({"role": "user", "content": f"question {number} " * (1 + number % 5)})
        limit = 10 + 13 * (number % 9)
        found.append({"messages": messages, "seed": number, "max_tokens": limit, **SAMPLING[number % 2]})
    return found


def _serve(folder: str, connection: Any) -> None:
    """A server in a process of its own, until it is told to end."""
    model = endless_model(Path(folder) / "soak.gguf", CTX_SIZE)
    config = EngineConfig(threads=1, exact=True)
    with serving(model, config, ctx_size=CTX_SIZE, parallel=PARALLEL, queue=QUEUE) as served:
        connection.send(served.url)
        connection.recv()
        names = ("replies_running", "replies_waiting", "cells_used")
        connection.send({name: served.metric(f"entropix_{name}") for name in names})


def _resident(pid: int) -> float:
    """MiB of memory that a process has resident."""
    return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)])) / 1024


async def _watch(report: Report, pid: int) -> None:
    begun = time.monotonic()
    while True:
        report.memory.append((time.monotonic() - begun, _resident(pid)))
        await asyncio.sleep(5)


async def _soak(clients: Clients, pid: int, seconds: float, count: int) -> None:
    watching = asyncio.create_task(_watch(clients.report, pid))
    await clients.run(seconds, count)
    watching.cancel()


def growth(memory: list[tuple[float, float]]) -> float:
    """MiB by which memory grew from the second quarter to the last."""
    quarter = len(memory) // 4
    second, last = memory[quarter : 2 * quarter], memory[-quarter:]
    return sum(mib for _seconds, mib in last) / quarter - sum(mib for _seconds, mib in second) / quarter


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--clients", type=int, default=64)
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(folder, theirs))
        process.start()
        assert process.pid
        clients = Clients(ours.recv(), requests())
        asyncio.run(_soak(clients, process.pid, options.seconds, options.clients))
        time.sleep(2)
        ours.send("end")
        left = ours.recv()
        process.join()
    report = clients.report
    print(dict(report.counts), left)
    print(f"memory: {report.memory[0][1]:.0f} MiB at first, {report.memory[-1][1]:.0f} at the end")
    if len(report.memory) >= 8:
        print(f"from the second quarter to the last it grew by {growth(report.memory):+.1f} MiB")
    for wrong in report.wrong[:20]:
        print("WRONG", wrong)
    return 1 if report.wrong or any(left.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
