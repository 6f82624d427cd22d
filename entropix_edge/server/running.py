"""The server's life: it listens, opens the model, answers, and ends what runs before it closes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import ConfigError
from .app import make_app
from .errors import invalid
from .service import Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from ..engine import Engine
    from .settings import Settings
    from .worker import Worker

logger = logging.getLogger("entropix_edge")

_LAST_WORDS = 2.0  # seconds for last chunks to reach their clients


class Server:
    """Serves one model.

    Args:
        open_engine: opens it, in a thread of its own; given what says that it should stop.
        settings: how to serve.
        ready: called with the server's URL when requests are answered.
    """

    def __init__(
        self,
        open_engine: Callable[[Callable[[], bool]], Engine],
        settings: Settings,
        ready: Callable[[str], None] = lambda _url: None,
    ) -> None:
        self._open_engine = open_engine
        self._settings = settings
        self._ready = ready
        self._failure: BaseException | None = None
        self._aborted = False
        self._worker: Worker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._service: Service | None = None
        self._http: _Http | None = None
        self._draining: asyncio.Task[None] | None = None

    def run(self) -> None:
        """Serve until a signal, or `stop`.

        Raises:
            ConfigError: the address cannot be listened on.
            EntropixError: the model cannot be opened.
        """
        listening = _listen(self._settings.host, self._settings.port)
        asyncio.run(self._serve(listening))
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        """Finish what runs, then close; called again, close at once. From any thread or signal handler."""
        if self._loop:
            with contextlib.suppress(RuntimeError):  # it has closed
                self._loop.call_soon_threadsafe(self._stop)

    async def _serve(self, listening: socket.socket) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._service = service = Service(self._settings, loop)
        self._http = http = _Http(service, self._settings, self.stop)
        url = _url(listening)
        decoding = threading.Thread(target=self._decode, args=(service, url), name="decode")
        decoding.start()
        try:
            await http.serve([listening])
        finally:
            service.state = "closing"
            self._aborted = True
            if self._worker:
                self._worker.close()
            await loop.run_in_executor(None, decoding.join)
            service.close()

    def _decode(self, service: Service, url: str) -> None:
        """The life of the one thread that decodes."""
        try:
            with self._open_engine(lambda: self._aborted) as engine:
                self._worker = service.opened(engine)
                if self._aborted:
                    return
                self._ready(url)
                self._worker.run()
        except BaseException as error:
            if not self._aborted:
                self._failure = error
                self.stop()

    def _stop(self) -> None:
        assert self._service
        assert self._http
        if self._draining or self._service.state == "loading" or self._failure:
            self._http.force_exit = self._http.should_exit = True
        else:
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        """Let what runs finish, or end it where it is."""
        assert self._service
        assert self._http
        self._service.state = "closing"
        if not await self._idle(self._settings.drain):
            self._service.cancel_all()
            await self._idle(_LAST_WORDS)
        self._http.should_exit = True

    async def _idle(self, seconds: float) -> bool:
        """Whether within so many seconds no request is open."""
        assert self._service
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._service.open_requests:
                    await asyncio.sleep(0.05)
        return not self._service.open_requests


class _Http(uvicorn.Server):
    """uvicorn, whose signals are ours."""

    def __init__(self, service: Service, settings: Settings, stop: Callable[[], None]) -> None:
        protocol = type("Protocol", (_Protocol,), {"patience": settings.body_timeout})
        config = uvicorn.Config(
            make_app(service),
            loop="asyncio",
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self._stop = stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal asks the server to end."""
        self._stop()


class _Protocol(H11Protocol):
    """HTTP that does not wait for ever, and speaks JSON where a request is none.

    Attributes:
        patience: seconds in which a connection's first request must begin.
    """

    patience = 60.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.app_state = {**self.app_state, "connection": self}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.patience, self._check_begun)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, by whomever."""
        self._timer.cancel()
        super().connection_lost(exc)

    def _check_begun(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.abort()

    @property
    def has_room(self) -> bool:
        """Whether what is written now need not wait for the client to read."""
        return not self.flow.write_paused

    def write_piece(self, data: bytes) -> None:
        """Write a piece of the body of the answer in progress; h11 keeps no account of a body without a length."""
        if data and not self.transport.is_closing():
            chunked = self.scope["http_version"] == "1.1"
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)

    def abort(self) -> None:
        """Drop the connection with what its client has not read."""
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP."""
        body = invalid(msg, code="invalid_http").encode()
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address.

    Raises:
        ConfigError: it cannot.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_rest, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=512)
    except OSError as error:
        raise ConfigError(f"the server cannot listen on {host}:{port}: {error.strerror or error}") from error


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
