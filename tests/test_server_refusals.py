"""What the server refuses, and how it says so: always JSON, never a 500, and the others go on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import HELLO, Served, error_of, serving


@pytest.fixture(scope="module")
def served(tiny_model: Path) -> Iterator[Served]:
    with serving(tiny_model, max_body=50_000, body_timeout=0.5) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(tiny_model: Path) -> Iterator[Served]:
    with serving(
        tiny_model, api_keys=("sesame", "two"), cors_origins=("http://page.example",), strict_model=True
    ) as found:
        yield found


def address(served: Served) -> tuple[str, int]:
    host, port = served.url.removeprefix("http://").split(":")
    return host, int(port)


def sent(served: Served, data: bytes) -> bytes:
    """What comes back for raw bytes."""
    with socket.create_connection(address(served), timeout=10) as connection:
        connection.sendall(data)
        received = b""
        while part := connection.recv(65536):
            received += part
        return received


# --- values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, None),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, None),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_completion_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 1e9}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"n": 5}, "n"),
        ({"n": 0}, "n"),
        ({"seed": 2**64}, "seed"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"chat_template_kwargs": {"messages": []}}, None),
        ({"entropix": {"preset": "../secret.toml"}}, "entropix.preset"),
        ({"entropix": {"options": {"no.such": 1}}}, None),
        ({"entropix": {"options": {"pause.texts": "x" * 300}}}, "entropix.options.pause.texts"),
        ({"entropix": {"options": {"argmax.entropy_below": True}}}, "entropix.options.argmax.entropy_below"),
        ({"entropix": {"options": {"argmax.entropy_below": "much"}}}, None),
        ({"entropix": {"deliberate": 1}}, "entropix.deliberate"),
        ({"entropix": {"deliberate": 65}}, "entropix.deliberate"),
        ({"entropix": {"deliberate": 2}, "n": 2}, "entropix.deliberate"),
        ({"entropix": {"answer": "exact"}}, "entropix.answer"),
        ({"entropix": {"deliberate": 2, "answer": "regex:(a+)+$"}}, "entropix.answer"),
        ({"entropix": {"begin_tokens": [9999]}}, None),
        ({"entropix": {"begin_tokens": [-1]}}, "entropix.begin_tokens[0]"),
    ],
)
def test_a_wrong_value_is_named(served: Served, body: dict[str, Any], param: str | None) -> None:
    full = body if "messages" in body or not body else {"messages": HELLO, **body}
    for stream in (False, True):
        error = error_of(served.post("/v1/chat/completions", stream=stream, **full), 400)
        assert error["type"] == "invalid_request_error"
        if param:
            assert error["param"] == param


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frequency_penalty", 0.5),
        ("presence_penalty", -1),
        ("logit_bias", {"5": 10}),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "required"),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}),
        ("grammar", "root ::= [a]"),
        ("modalities", ["audio"]),
    ],
)
def test_what_is_not_built_is_refused(served: Served, name: str, value: Any) -> None:
    error = error_of(served.post("/v1/chat/completions", messages=HELLO, **{name: value}), 400)
    assert (error["code"], error["param"]) == ("unsupported_parameter", name)


@pytest.mark.parametrize(
    "value", [{"echo": True}, {"suffix": "x"}, {"best_of": 2}, {"prompt": ["a", 1]}, {"prompt": []}]
)
def test_a_completion_refuses_what_it_cannot(served: Served, value: dict[str, Any]) -> None:
    error_of(served.post("/v1/completions", **{"prompt": "x", **value}), 400)


def test_a_prompt_that_is_too_long_is_said_in_openais_words(served: Served) -> None:
    long = [{"role": "user", "content": "a" * 300}]
    for stream in (False, True):
        error = error_of(served.post("/v1/chat/completions", messages=long, stream=stream), 400)
        assert error["code"] == "context_length_exceeded"
        assert error["message"].startswith("This model's maximum context length is 256 tokens. However, your messages ")
    error = error_of(served.post("/v1/completions", prompt=[5] * 256), 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    assert served.complete([5] * 255)["usage"]["total_tokens"] <= 256


def test_a_template_that_refuses_is_the_requests_fault(tmp_path: Path) -> None:
    import tiny_gguf

    template = "{{ raise_exception('no such role') }}"
    with serving(tiny_gguf.write_llama(tmp_path / "strict.gguf", template=template)) as served:
        error_of(served.post("/v1/chat/completions", messages=HELLO), 400)
        assert served.complete("raw", max_tokens=2)


# --- what is no request -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"messages": [{"role": "user", "content": "\xff"}]}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1e400}',
        b'{"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"a": ' + b"[" * 20000,
        b'{"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"a": '
        + b"[" * 900
        + b"]" * 900
        + b"}}",
        b"[" * 20000,
    ],
)
def test_what_is_not_json_is_said_in_json(served: Served, body: bytes) -> None:
    response = served.http.post("/v1/chat/completions", content=body)
    if response.status_code != 200:
        error_of(response, 400)


@pytest.mark.parametrize("data", [b"garbage\r\n\r\n", b"\x16\x03\x01\x02\x00\x01" * 20 + b"\r\n\r\n"])
def test_what_is_not_http_is_answered_in_json(served: Served, data: bytes) -> None:
    head, _, body = sent(served, data).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "invalid_http"


@pytest.mark.parametrize("path", ["/v1", "/v1/chat", "/v1/models/", "/v1/chat/completions/", "/%00", "/../etc/passwd"])
def test_what_is_nowhere_is_not_found(served: Served, path: str) -> None:
    error_of(served.http.get(path), 404)


def test_a_wrong_method_is_named(served: Served) -> None:
    response = served.http.get("/v1/chat/completions")
    assert error_of(response, 405)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "POST"


def test_a_request_may_only_be_so_long(served: Served) -> None:
    big = json.dumps({"messages": [{"role": "user", "content": "x" * 60_000}]}).encode()
    assert error_of(served.http.post("/v1/chat/completions", content=big), 413)["code"] == "body_too_large"
    in_parts = served.http.post("/v1/chat/completions", content=iter([big[:30_000], big[30_000:]]))
    assert error_of(in_parts, 413)["code"] == "body_too_large"
    served.chat(max_tokens=1)


def test_a_request_that_does_not_come_is_not_waited_for(served: Served) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"
    answer = sent(served, head)
    assert b" 408 " in answer.splitlines()[0]
    assert b"request_timeout" in answer
    assert sent(served, b"POST /v1/chat") == b"", "a header that does not end"
    served.chat(max_tokens=1)


def test_half_open_connections_disturb_nobody(served: Served) -> None:
    connections = [socket.create_connection(address(served)) for _ in range(50)]
    try:
        for connection in connections[:25]:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n")
        served.chat(max_tokens=2)
    finally:
        for connection in connections:
            connection.close()


# --- who may call -----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8717", "127.0.0.1.evil.example", "[::1"])
def test_a_host_of_someone_elses_is_refused(served: Served, host: str) -> None:
    response = served.http.get("/v1/models", headers={"host": host})
    assert error_of(response, 403)["code"] == "host_not_allowed"


@pytest.mark.parametrize("host", ["localhost", "localhost:99", "127.0.0.1:1", "[::1]:80", "box.localhost"])
def test_this_machines_own_names_are_allowed(served: Served, host: str) -> None:
    assert served.http.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost.evil.example", "file://"])
def test_pages_of_others_are_refused(served: Served, origin: str) -> None:
    response = served.http.post("/v1/chat/completions", json={"messages": HELLO}, headers={"origin": origin})
    assert error_of(response, 403)["code"] == "origin_not_allowed"
    assert "access-control-allow-origin" not in response.headers
    preflight = {"origin": origin, "access-control-request-method": "POST"}
    error_of(served.http.options("/v1/chat/completions", headers=preflight), 403)


def test_pages_that_are_allowed_may_call(guarded: Served) -> None:
    origin = {"origin": "http://page.example"}
    asked = {
        **origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-stainless-lang",
    }
    preflight = guarded.http.options("/v1/chat/completions", headers={**asked, "authorization": ""})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "http://page.example"
    assert preflight.headers["access-control-allow-headers"] == "authorization,x-stainless-lang"
    assert "access-control-allow-credentials" not in preflight.headers
    response = guarded.http.get("/v1/models", headers=origin)
    assert response.headers["access-control-allow-origin"] == "http://page.example"
    assert "origin" in response.headers["vary"].lower()
    wrong = guarded.http.get("/v1/models", headers={**origin, "authorization": "Bearer no"})
    assert error_of(wrong, 401)["code"] == "invalid_api_key"
    assert wrong.headers["access-control-allow-origin"] == "http://page.example", "so that the page can read the error"


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "Basic sesame", "sesame", "Bearer sesame2"])
def test_a_key_is_asked_for(guarded: Served, given: str) -> None:
    response = guarded.http.get("/v1/models", headers={"authorization": given})
    assert error_of(response, 401)["type"] == "authentication_error"
    assert guarded.http.get("/health", headers={"authorization": given}).status_code == 200


@pytest.mark.parametrize("given", ["Bearer sesame", "bearer two"])
def test_each_key_opens(guarded: Served, given: str) -> None:
    assert guarded.http.get("/v1/models", headers={"authorization": given}).status_code == 200


def test_a_strict_server_knows_one_model(guarded: Served) -> None:
    asked = {"messages": HELLO, "max_tokens": 1}
    error = error_of(guarded.post("/v1/chat/completions", model="gpt-4", **asked), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert guarded.chat(model="tiny", max_tokens=1)
    assert guarded.chat(max_tokens=1)
