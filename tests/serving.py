"""A server on loopback in this process, with what tests ask of it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import tiny_gguf

from entropix_edge import Engine, EngineConfig, GenerationConfig
from entropix_edge.server import Server, Settings

HELLO = [{"role": "user", "content": "hello"}]


def settings(**changes: Any) -> Settings:
    """What most tests serve with."""
    usual = Settings(
        defaults=lambda load: GenerationConfig(preset=load("edge"), n_predict=1024),
        alias="tiny",
        ctx_size=256,
        port=0,
        drain=5.0,
    )
    return replace(usual, **changes)


@dataclass
class Served:
    """A server that answers."""

    url: str
    server: Server
    engine: Engine
    http: httpx.Client

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json=body)

    def chat(self, messages: Any = HELLO, **body: Any) -> Any:
        """A whole answer."""
        return self.good(self.post("/v1/chat/completions", messages=messages, **body))

    def complete(self, prompt: Any, **body: Any) -> Any:
        return self.good(self.post("/v1/completions", prompt=prompt, **body))

    def stream(self, path: str = "/v1/chat/completions", **body: Any) -> list[Any]:
        """The events of a stream; `[DONE]` as it is."""
        if path.endswith("chat/completions"):
            body = {"messages": HELLO, **body}
        with self.http.stream("POST", path, json={"stream": True, **body}) as response:
            assert response.status_code == 200, response.read()
            return list(events(response))

    @staticmethod
    def good(response: httpx.Response) -> Any:
        assert response.status_code == 200, response.text
        return response.json()

    def metric(self, name: str) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def events(response: httpx.Response) -> Iterator[Any]:
    """The data of server-sent events."""
    for line in response.iter_lines():
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield data if data == "[DONE]" else json.loads(data)
        else:
            assert line == "" or line.startswith(":")


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error of an answer, in OpenAI's form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert "\n" not in error["message"]
    return error


@contextlib.contextmanager
def serving(model: Path, config: EngineConfig | None = None, **changes: Any) -> Iterator[Served]:
    """A server for one test or for many."""
    asked = settings(**changes)
    config = config or EngineConfig(threads=1)
    config = replace(config, ctx_size=asked.ctx_size * asked.parallel, sequences=asked.parallel)
    ready = threading.Event()
    found: list[Any] = []
    failed: list[BaseException] = []

    def open_engine(cancelled: Any) -> Engine:
        engine = Engine.open(model, config, cancelled=cancelled)
        found.append(engine)
        return engine

    def announce(url: str) -> None:
        found.append(url)
        ready.set()

    server = Server(open_engine, asked, announce)

    def run() -> None:
        try:
            server.run()
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(60)
    if failed:
        raise failed[0]
    engine, url = found
    headers = {"authorization": f"Bearer {asked.api_keys[0]}"} if asked.api_keys else {}
    try:
        with httpx.Client(base_url=url, timeout=60, headers=headers) as http:
            yield Served(url, server, engine, http)
    finally:
        server.stop()
        server.stop()
        thread.join(30)
        assert not thread.is_alive()
    assert not failed


def endless_model(path: Path, n_ctx: int = 16384) -> Path:
    """A model that never ends its turn, where it takes the most probable token."""
    shape = tiny_gguf.Shape(n_ctx=n_ctx)
    weights = tiny_gguf.random_weights(shape)
    weights["output.weight"][:3] = 0
    return tiny_gguf.write_llama(path, shape, weights)


ENDLESS: dict[str, Any] = {"temperature": 0, "entropix": {"sampler": "greedy"}, "max_tokens": 15_000}
"""What a request must ask for, so that it goes on."""


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
