"""A chat completion from an OpenAI-compatible server: one request, one answer."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import urllib.parse
from typing import TYPE_CHECKING, Any

from ..addresses import is_loopback
from ..errors import EntropixError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..text import Message

KEY = "OPENAI_API_KEY"

_PATIENCE = 300.0  # seconds without a byte
_MOST = 2**24  # bytes of an answer


class RemoteError(EntropixError):
    """A server could not be asked, or its answer is none."""


def complete(url: str, messages: Sequence[Message], *, max_tokens: int | None = None) -> str:
    """The server's answer.

    The key is sent over TLS, or to this machine, and nowhere else.

    Args:
        url: `http(s)://HOST/v1`, perhaps with `#` and the model's name; without, the first that the server has.
        messages: the conversation.
        max_tokens: of the answer.

    Raises:
        RemoteError: it cannot be reached, refuses, or answers with something else.
    """
    base, _, name = url.partition("#")
    body: dict[str, Any] = {"model": name or _first_model(base), "messages": list(messages)}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    answer = _request(base, "POST", "/chat/completions", body)
    try:
        text = answer["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        text = None
    if not isinstance(text, str) or not text:
        raise RemoteError(f"{base} answered without a text")
    return text


def _first_model(base: str) -> str:
    answer = _request(base, "GET", "/models")
    try:
        name = answer["data"][0]["id"]
    except (LookupError, TypeError):
        name = None
    if not isinstance(name, str) or not name:
        raise RemoteError(f"{base} lists no model: put its name after the URL, {base}#NAME")
    return name


def _request(base: str, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    parts = urllib.parse.urlsplit(base)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    key = os.environ.get(KEY)
    if key and (parts.scheme == "https" or is_loopback(parts.hostname or "")):
        headers["Authorization"] = f"Bearer {key}"
    try:
        with _connected(parts) as connection:
            sent = json.dumps(body).encode() if body is not None else None
            connection.request(method, f"{parts.path.rstrip('/')}{path}", sent, headers)
            response = connection.getresponse()
            data = response.read(_MOST)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise RemoteError(f"{base} cannot be asked: {error or type(error).__name__}") from error
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if response.status != 200:
        raise RemoteError(f"{base} answered {response.status} {response.reason}{_complaint(answer)}")
    if not isinstance(answer, dict):
        raise RemoteError(f"{base} answered with something else than a JSON object")
    return answer


@contextlib.contextmanager
def _connected(parts: urllib.parse.SplitResult) -> Iterator[http.client.HTTPConnection]:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_PATIENCE)
    try:
        yield connection
    finally:
        connection.close()


def _complaint(answer: Any) -> str:
    """What a server says was wrong, in OpenAI's form."""
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return f": {' '.join(message.split())[:200]}" if isinstance(message, str) else ""
