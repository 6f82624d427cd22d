"""Who may call: the name that the server was called by, the page that calls, and the key."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from ..addresses import is_loopback
from ..render.page import page_files
from .errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .service import Service

_OPEN_TO_ALL = frozenset({"/health", "/v1/health", *(f"/{name}" for name in page_files())})
_MOST_OPEN = 1024  # requests, whatever they are
_METHODS = "GET, POST, OPTIONS"
_A_DAY = "86400"


class Gate:
    """Lets in who may come in, and tells browsers so.

    A page of any site can make a browser call this machine's own addresses. On a loopback address `Host` must therefore
    name this machine (a name of someone else's that was pointed here does not), and `Origin`, where there is one, must
    be the server's own or an allowed one.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._settings = service.settings
        self._checks_host = is_loopback(self._settings.host)
        self._keys = [key.encode() for key in self._settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        headers = Headers(scope=scope)
        allowed = None
        try:
            self._check_host(headers)
            allowed = self._allowed_origin(headers)
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await _preflight(headers, allowed, send)
                return
            self._check_key(scope["path"], headers)
            if self._service.open_requests > _MOST_OPEN:
                raise ApiError(503, "too many requests are open", "too_many_open")
        except ApiError as error:
            await refuse(error, _allowing(send, allowed))
            return
        await self._app(scope, receive, _allowing(send, allowed))

    def _check_host(self, headers: Headers) -> None:
        given = headers.get("host", "")
        name = _host_name(given)
        if self._checks_host and given and not is_loopback(name) and name != self._settings.host:
            raise ApiError(
                403,
                f"the Host header is {given[:200]!r}: it must name this machine, as localhost does",
                "host_not_allowed",
            )

    def _allowed_origin(self, headers: Headers) -> str | None:
        """The origin of the page that calls, where there is one."""
        origin = headers.get("origin")
        if origin is None or urlsplit(origin).netloc == headers.get("host"):
            return origin
        if "*" in self._settings.cors_origins or origin in self._settings.cors_origins:
            return origin
        raise ApiError(
            403,
            f"pages of {origin[:200]!r} may not call this server: it can be started to allow them",
            "origin_not_allowed",
        )

    def _check_key(self, path: str, headers: Headers) -> None:
        if not self._keys or path in _OPEN_TO_ALL:
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = key.strip().encode()
        matches = [hmac.compare_digest(given, known) for known in self._keys]  # all, so that time tells nothing
        if scheme.lower() != "bearer" or not any(matches):
            message = "the API key is wrong" if key else "an API key is needed: send it as `Authorization: Bearer KEY`"
            raise ApiError(401, message, "invalid_api_key", headers={"www-authenticate": "Bearer"})


def _host_name(given: str) -> str:
    try:
        return urlsplit(f"//{given}").hostname or ""
    except ValueError:
        return given


async def refuse(error: ApiError, send: Send) -> None:
    """Send an error."""
    body = error.encode()
    headers = [(name.encode(), value.encode()) for name, value in error.headers.items()]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _preflight(headers: Headers, origin: str | None, send: Send) -> None:
    """Tell a browser what a page may send."""
    asked = headers.get("access-control-request-headers", "authorization, content-type")
    answer = [
        (b"access-control-allow-methods", _METHODS.encode()),
        (b"access-control-allow-headers", asked.encode("latin-1")),
        (b"access-control-max-age", _A_DAY.encode()),
        (b"content-length", b"0"),
    ]
    await _allowing(send, origin)({"type": "http.response.start", "status": 204, "headers": answer})
    await send({"type": "http.response.body", "body": b""})


def _allowing(send: Send, origin: str | None) -> Send:
    """A `send` that tells the browser which page may read the answer."""
    if origin is None:
        return send

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            headers["access-control-allow-origin"] = origin
            headers.add_vary_header("origin")
            message["headers"] = headers.raw
        await send(message)

    return sending
