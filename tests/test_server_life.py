"""Clients that come and go, queues, time, and the server's own beginning and end."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import ENDLESS, HELLO, Served, endless_model, error_of, events, serving, settings, until

from entropix_edge import ConfigError, Engine, EngineConfig, ModelNotFoundError
from entropix_edge.server import Server

LONG = {"messages": HELLO, **ENDLESS}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return endless_model(tmp_path_factory.mktemp("endless") / "endless.gguf")


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[Served]:
    with serving(model, EngineConfig(threads=1, attention="off"), ctx_size=16384, parallel=2, queue=2) as found:
        yield found


@pytest.fixture(autouse=True)
def everything_is_given_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test nothing runs or waits, and no cell is held."""
    yield
    if "served" in request.fixturenames:
        served: Served = request.getfixturevalue("served")
        until(lambda: served.engine.jobs == (0, 0))
        assert served.engine.free[1] == served.engine.context.n_ctx


def running(served: Served, count: int, waiting: int = 0) -> None:
    until(lambda: served.engine.jobs == (count, waiting))


def left_open(served: Served, body: dict[str, Any]) -> socket.socket:
    """A connection on which a request was sent, and whose answer nobody reads."""
    host, port = served.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection


# --- clients that go --------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_who_goes_away_is_not_answered_any_more(served: Served, stream: bool) -> None:
    with left_open(served, {**LONG, "stream": stream}):
        running(served, 1)
    running(served, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_who_goes_away_while_waiting_never_has_a_turn(served: Served, stream: bool) -> None:
    with left_open(served, LONG), left_open(served, LONG):
        running(served, 2)
        with left_open(served, {**LONG, "stream": stream}):
            running(served, 2, 1)
        running(served, 2, 0)


def test_one_who_goes_disturbs_nobody(served: Served) -> None:
    usual = {"messages": HELLO, **ENDLESS, "max_tokens": 300}
    alone = served.post("/v1/chat/completions", **usual).json()["choices"]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.post, "/v1/chat/completions", **{**usual, "max_tokens": 2000})
        for _ in range(5):
            with left_open(served, {**LONG, "stream": True}):
                running(served, 2)
            running(served, 1)
        text = answer.result().json()["choices"][0]["message"]["content"]
    assert text.startswith(alone[0]["message"]["content"])


def test_who_goes_away_in_the_prompt_is_not_waited_for(served: Served) -> None:
    before = served.metric("entropix_decoded_tokens_total")
    long = [{"role": "user", "content": "x " * 7_900}]
    with left_open(served, {**LONG, "messages": long, "stream": True}):
        running(served, 1)
    running(served, 0)
    assert served.metric("entropix_decoded_tokens_total") == before, "not a token of the reply was made"


def test_a_slow_reader_is_given_up(model: Path) -> None:
    with serving(model, EngineConfig(threads=1, attention="off"), ctx_size=16384, parallel=2, stall=0.3) as served:
        with left_open(served, {**LONG, "stream": True, "logprobs": True, "top_logprobs": 20}):
            running(served, 1)
            until(lambda: served.engine.jobs == (0, 0), 30)
            until(lambda: served.metric("entropix_requests_total") > 0)
        assert served.chat(max_tokens=1)


# --- the queue --------------------------------------------------------------------------------------


def test_a_full_queue_is_said_at_once(served: Served) -> None:
    held = [left_open(served, {**LONG, "stream": True}) for _ in range(4)]
    try:
        running(served, 2, 2)
        response = served.post("/v1/chat/completions", **LONG)
        error = error_of(response, 429)
        assert error["code"] == "queue_full"
        assert int(response.headers["retry-after"]) >= 1
        held.pop().close()
        running(served, 2, 1)
    finally:
        for connection in held:
            connection.close()
    running(served, 0)
    assert served.chat(max_tokens=1)


def test_those_who_wait_are_answered_in_turn(served: Served) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: served.chat(temperature=0, max_tokens=50)["choices"], range(4)))
    assert all(answer == answers[0] for answer in answers)


def test_a_stream_says_that_it_lives(model: Path) -> None:
    config = EngineConfig(threads=1, attention="off")
    with serving(model, config, ctx_size=16384, parallel=1, ping=0.05) as served, left_open(served, LONG):
        running(served, 1)
        with served.http.stream("POST", "/v1/chat/completions", json={"messages": HELLO, "stream": True}) as response:
            lines = response.iter_lines()
            first = [next(lines) for _ in range(4)]
    assert first[0].startswith("data: "), "the role comes first"
    assert ": ping" in first


def test_a_long_prompt_does_not_stall_the_others(served: Served) -> None:
    """While 8,000 tokens of prompt are read, another reply goes on."""
    tokens = served.post("/tokenize", content="y " * 4_000).json()["tokens"]
    with served.http.stream("POST", "/v1/chat/completions", json={**LONG, "stream": True}) as response:
        came = events(response)
        for _ in range(20):
            next(came)
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(served.post, "/v1/completions", prompt=tokens, temperature=0, max_tokens=1)
            during = 0
            while not other.done():
                next(came)
                during += 1
    assert during >= len(tokens) / 64 / 2, "a token for each part of the prompt"


# --- the cache --------------------------------------------------------------------------------------


def test_a_second_turn_decodes_only_what_is_new(served: Served) -> None:
    """Another conversation lies between."""
    first = served.chat(temperature=0, max_tokens=30)
    said = first["choices"][0]["message"]["content"]
    served.chat([{"role": "user", "content": "something else"}], temperature=0, max_tokens=30)
    turns = [*HELLO, {"role": "assistant", "content": said}, {"role": "user", "content": "and then?"}]
    usage = served.chat(turns, temperature=0, max_tokens=5)["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= first["usage"]["prompt_tokens"]


def test_a_shared_system_prompt_is_decoded_once(served: Served) -> None:
    system = {"role": "system", "content": "s" * 500}
    asked = [[system, {"role": "user", "content": f"question {number}"}] for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        usages = list(pool.map(lambda messages: served.chat(messages, temperature=0, max_tokens=5)["usage"], asked))
    cached = sorted(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    assert cached[1] >= 500, "all but one found it there"


# --- time -------------------------------------------------------------------------------------------


def test_a_request_may_only_take_so_long(model: Path) -> None:
    config = EngineConfig(threads=1, attention="off")
    with serving(model, config, ctx_size=16384, parallel=2, timeout=0.3) as served:
        response = served.post("/v1/chat/completions", **LONG)
        assert error_of(response, 503)["code"] == "request_timeout"
        assert response.headers["x-should-retry"] == "false"
        *chunks, last = served.stream(**ENDLESS)
        assert last["error"]["code"] == "request_timeout", "no [DONE] after it"
        assert len(chunks) > 5
        running(served, 0)


# --- metrics and the log ----------------------------------------------------------------------------


def test_metrics_count_what_happened(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    names = ["prompt_tokens_total", "generated_tokens_total", "decoded_tokens_total", "token_entropy_bits_count"]
    before = {name: served.metric(f"entropix_{name}") for name in names}
    caplog.set_level("INFO", logger="entropix_edge.requests")
    served.chat([{"role": "user", "content": "secret"}], temperature=0, max_tokens=20)
    until(lambda: "chat/completions" in caplog.text)
    after = {name: served.metric(f"entropix_{name}") - before[name] for name in names}
    assert after["generated_tokens_total"] == after["token_entropy_bits_count"] == 20
    assert after["decoded_tokens_total"] >= 19
    (line,) = [record.getMessage() for record in caplog.records if "chat/completions" in record.getMessage()]
    assert line.startswith("POST /v1/chat/completions 200 in ")
    assert "20 tokens, length" in line
    assert "secret" not in caplog.text
    assert served.metric("entropix_cells") == 2 * 16384
    assert 'entropix_requests_total{code="200",endpoint="/chat/completions"}' in served.http.get("/metrics").text


# --- beginning and end ------------------------------------------------------------------------------


def test_what_runs_is_finished_before_the_server_ends(model: Path) -> None:
    config = EngineConfig(threads=1, attention="off")
    with serving(model, config, ctx_size=16384, parallel=2, drain=20) as served:
        asked = {**LONG, "max_tokens": 1500}
        with ThreadPoolExecutor(2) as pool, httpx.Client(base_url=served.url) as open_connection:
            open_connection.get("/health")
            whole = pool.submit(served.post, "/v1/chat/completions", **asked)
            stream = pool.submit(served.stream, **ENDLESS | {"max_tokens": 1500})
            running(served, 2)
            served.server.stop()
            until(lambda: open_connection.get("/health").status_code == 503)
            response = open_connection.post("/v1/chat/completions", json=asked)
            assert error_of(response, 503)["code"] == "closing"
            assert response.headers["retry-after"]
            assert whole.result().json()["usage"]["completion_tokens"] == 1500
            assert stream.result()[-1] == "[DONE]"


def test_what_takes_too_long_is_ended_with_a_last_chunk(model: Path) -> None:
    config = EngineConfig(threads=1, attention="off")
    with serving(model, config, ctx_size=16384, parallel=2, drain=0.2) as served, ThreadPoolExecutor(2) as pool:
        stream = pool.submit(served.stream, **ENDLESS)
        whole = pool.submit(served.chat, **ENDLESS)
        running(served, 2)
        served.server.stop()
        *chunks, last, done = stream.result()
        assert done == "[DONE]"
        assert last["choices"][0]["finish_reason"] == "length"
        assert last["choices"][0]["entropix"]["summary"]["finish_reason"] == "cancelled"
        assert len(chunks) > 5
        assert whole.result()["choices"][0]["finish_reason"] == "length"


def test_while_the_model_is_loaded_the_server_says_so(model: Path) -> None:
    may_open = threading.Event()
    urls: list[str] = []
    config = EngineConfig(threads=1, attention="off", ctx_size=1024, sequences=4)

    def open_engine(cancelled: Any) -> Engine:
        assert may_open.wait(30)
        return Engine.open(model, config, cancelled=cancelled)

    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    server = Server(open_engine, settings(port=port), urls.append)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
            until(lambda: _answers(http))
            for response in (http.get("/health"), http.post("/v1/chat/completions", json={"messages": HELLO})):
                assert error_of(response, 503)["code"] == "loading"
                assert response.headers["retry-after"]
            assert not urls
            may_open.set()
            until(lambda: http.get("/health").status_code == 200)
            assert urls == [f"http://127.0.0.1:{port}"]
    finally:
        may_open.set()
        server.stop()
        thread.join(20)
    assert not thread.is_alive()


def _answers(http: httpx.Client) -> bool:
    try:
        http.get("/health")
    except httpx.ConnectError:
        return False
    return True


def test_a_model_that_does_not_open_ends_the_server(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError), serving(tmp_path / "none.gguf"):
        pass


def test_an_address_in_use_is_said(served: Served) -> None:
    port = int(served.url.rsplit(":", 1)[1])
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
        Server(lambda _cancelled: served.engine, settings(port=port)).run()


def test_a_decode_that_fails_is_an_error_and_not_the_end(model: Path) -> None:
    config = EngineConfig(threads=1, attention="off")
    with serving(model, config, ctx_size=2048, parallel=2) as served:
        step = served.engine.step

        def failing() -> bool:
            served.engine.step = step  # type: ignore[method-assign]
            raise RuntimeError("no such luck")

        served.engine.step = failing  # type: ignore[method-assign, assignment]
        response = served.post("/v1/chat/completions", messages=HELLO)
        assert error_of(response, 500)["code"] == "internal_error"
        assert "luck" not in response.text
        assert served.chat(max_tokens=2)


def test_a_huge_prompt_keeps_nobody_waiting(served: Served) -> None:
    messages = [{"role": "user", "content": "z" * 1_000_000}]
    with ThreadPoolExecutor(2) as pool:
        huge = [pool.submit(served.post, "/v1/chat/completions", messages=messages) for _ in range(2)]
        answered = 0
        while not all(each.done() for each in huge):
            served.chat(temperature=0, max_tokens=1)
            answered += 1
        assert all(error_of(each.result(), 400)["code"] == "context_length_exceeded" for each in huge)
    assert answered > 5
