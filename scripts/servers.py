"""Measure servers side by side: tokens a second, time to the first token, the gap between tokens.

Each server answers the same requests, streamed, by so many clients at once. The servers take turns, one request of each
client at a time, so that whatever else the machine does falls on all; ratios are of a round's rates to the last
server's. A NAME=COMMAND is started, with `{port}` in it replaced, and stopped at the end.

Usage: .venv/bin/python scripts/servers.py --clients 1 --clients 4 --clients 8 --rounds 3 \
    "ours=.venv/bin/entropix-edge serve -m smollm2-135m -np 8 -t 2 --sampler greedy --attention off --port {port}" \
    "llama-server=llama-server -m models/SmolLM2-135M-Instruct.Q4_1.gguf -c 32768 -np 8 -t 2 -tb 2 -ngl 0 --port {port}"
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SYSTEM = "You are a helpful assistant. Answer in plain words, and say where you are not sure."
QUESTIONS = [
    "Why is the sky blue?",
    "What makes bread rise?",
    "How does a bicycle stay upright?",
    "Explain how a vaccine works.",
    "What is the difference between weather and climate?",
    "Tell me about the history of paper.",
    "How do birds find their way?",
    "What happens when water boils?",
]
TOKENS = 96
REQUESTS = 16


@dataclass
class Run:
    """One server with so many clients, over all rounds."""

    rates: list[float] = field(default_factory=list)  # tokens/s of all clients, one a round
    first: list[float] = field(default_factory=list)  # seconds to the first token
    gaps: list[float] = field(default_factory=list)  # seconds between tokens

    def row(self, name: str, clients: int, against: Run) -> str:
        gaps, first = statistics.quantiles(self.gaps, n=100), statistics.quantiles(self.first, n=100)
        ratios = [one / other for one, other in zip(self.rates, against.rates, strict=True)]
        return (
            f"| {name} | {clients} | {_spread(self.rates, 1)} | {'' if self is against else _spread(ratios, 3)} | "
            f"{1000 * first[49]:.0f} | {1000 * first[98]:.0f} | {1000 * gaps[49]:.1f} | {1000 * gaps[98]:.1f} |"
        )


def _spread(values: list[float], digits: int) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"


async def ask(port: int, question: str, run: Run) -> int:
    """One request; how many tokens came."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    body = json.dumps(
        {"messages": messages, "stream": True, "max_tokens": TOKENS, "temperature": 0, "seed": 1}
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
    )
    begun = last = time.perf_counter()
    writer.write(f"{head}content-type: application/json\r\n\r\n".encode() + body)
    tokens = 0
    async for line in reader:
        if b'"content":"' in line:
            now = time.perf_counter()
            (run.gaps if tokens else run.first).append(now - last if tokens else now - begun)
            tokens, last = tokens + 1, now
    writer.close()
    return tokens


async def wave(port: int, questions: list[str], run: Run) -> tuple[int, float]:
    """All questions at once; how many tokens came, in how many seconds."""
    begun = time.perf_counter()
    tokens = sum(await asyncio.gather(*(ask(port, question, run) for question in questions)))
    return tokens, time.perf_counter() - begun


def measure(ports: dict[str, int], clients: int, runs: dict[tuple[str, int], Run], asked: list[str]) -> None:
    """One round: every server answers all requests."""
    names = list(ports)
    tokens, seconds = dict.fromkeys(names, 0), dict.fromkeys(names, 0.0)
    for start in range(0, REQUESTS, clients):
        questions = [asked[number % len(asked)] for number in range(start, start + clients)]
        names = names[1:] + names[:1]
        for name in names:
            run = runs.setdefault((name, clients), Run())
            count, took = asyncio.run(wave(ports[name], questions, run))
            tokens[name] += count
            seconds[name] += took
    for name in ports:
        runs[name, clients].rates.append(tokens[name] / seconds[name])
    print(
        f"{clients} clients: {', '.join(f'{name} {runs[name, clients].rates[-1]:.1f}' for name in ports)}",
        file=sys.stderr,
    )


@contextlib.contextmanager
def started(command: str) -> Iterator[tuple[int, int]]:
    """A server that answers; its port and its process's id."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    process = subprocess.Popen(
        shlex.split(command.replace("{port}", str(port))), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _answers(port):
            if process.poll() is not None:
                sys.exit(f"it ended with {process.returncode}: {command}")
            time.sleep(0.2)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def busiest(pid: int, tokens: int) -> str:
    """How long the threads of a process ran, the three that ran longest, in microseconds a token; Linux only."""
    ran = []
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            ran.append(int(file.read_text().split()[0]) / 1000 / tokens)
    return ", ".join(f"{each:.0f}" for each in sorted(ran, reverse=True)[:3])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="+", metavar="NAME=COMMAND")
    parser.add_argument("--clients", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--questions", type=int, default=len(QUESTIONS), help="so many different ones")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are ended too
    runs: dict[tuple[str, int], Run] = {}
    warm: dict[tuple[str, int], Run] = {}
    with contextlib.ExitStack() as stack:
        servers = dict(server.split("=", 1) for server in options.servers)
        processes = {name: stack.enter_context(started(command)) for name, command in servers.items()}
        ports = {name: port for name, (port, _pid) in processes.items()}
        asked = QUESTIONS[: options.questions]
        measure(ports, 1, warm, asked)  # and the system prompt cached, for all
        for _ in range(options.rounds):
            for clients in options.clients or [1, 4, 8]:
                measure(ports, clients, runs, asked)
        for name, (_port, pid) in processes.items():
            all_runs = [*runs.items(), *warm.items()]  # their threads count from the beginning
            tokens = sum(len(run.gaps) + len(run.first) for (server, _clients), run in all_runs if server == name)
            print(f"{name}: its busiest threads ran for {busiest(pid, tokens)} µs a token", file=sys.stderr)
    last = list(ports)[-1]
    print(f"| server | clients | tokens/s | of {last}'s | first token, ms, median | p99 | gap, ms, median | p99 |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for (name, clients), run in sorted(runs.items(), key=lambda item: item[0][1]):
        print(run.row(name, clients, runs[last, clients]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
