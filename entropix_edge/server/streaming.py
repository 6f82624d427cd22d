"""Answers that watch their client: whole ones and streams of server-sent events.

A few lines of our own instead of sse-starlette: it ends every stream at once when the process is asked to end, where
replies are to be finished, and replaces uvicorn's handler of signals for the whole process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Protocol

from starlette.responses import Response

from .errors import ApiError, internal
from .ticket import GoneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from .replies import Answer
    from .settings import Settings
    from .ticket import Ticket

logger = logging.getLogger("entropix_edge")

_PING = b": ping\n\n"


class Connection(Protocol):
    """What a stream needs of the connection that it goes out on."""

    @property
    def has_room(self) -> bool:
        """Whether what is written now need not wait for the client to read."""

    def write_piece(self, data: bytes) -> None:
        """Write a piece of the body of the answer in progress, past the layers above."""

    def abort(self) -> None:
        """Drop the connection with what its client has not read."""


class _Watched(Response):
    """An answer to a client that may go away at any moment: then nothing more is generated for it."""

    def __init__(self, ticket: Ticket, answer: Answer, settings: Settings) -> None:
        super().__init__()
        self._ticket = ticket
        self._answer = answer
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = asyncio.create_task(self._watch(receive))
        try:
            await self._respond(scope, receive, send)
        except (GoneError, asyncio.CancelledError) as gone:  # who cancels is the event loop, at its end
            scope["outcome"] = str(gone) or "the server was ended"
            scope["state"]["connection"].abort()  # with what it has not read
            await asyncio.sleep(0)
        except ApiError as error:
            scope["outcome"] = error.code
            raise
        finally:
            watch.cancel()
            self._ticket.close()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._ticket.fail(GoneError("the client has gone"))

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError

    def _finished(self, scope: Scope) -> None:
        scope["answer"] = self._answer


class Whole(_Watched):
    """An answer that is sent when it is complete."""

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        while not self._answer.finished:
            for news in await self._ticket.news():
                self._answer.take(news)
        self._finished(scope)
        await Response(self._answer.whole(), media_type="application/json")(scope, receive, send)


class _Pace:
    """Watches how a stream comes on: one timer for all its pieces, where timeouts would be two a token.

    Args:
        ping: called where nothing was sent for so many seconds.
        stalled: called where the client did not read for so many seconds.
        settings: how many.

    Attributes:
        sending: whether a piece waits for its client to read.
    """

    def __init__(self, ping: Callable[[], None], stalled: Callable[[], None], settings: Settings) -> None:
        self._loop = asyncio.get_running_loop()
        self._ping = ping
        self._stalled = stalled
        self._settings = settings
        self._shortest = min(settings.ping, settings.stall)
        self._since = time.monotonic()
        self.sending = False
        self._timer = self._loop.call_later(self._shortest, self._look)

    def begin(self) -> None:
        """A piece is being sent."""
        self._since, self.sending = time.monotonic(), True

    def end(self) -> None:
        """It is sent."""
        self._since, self.sending = time.monotonic(), False

    def close(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def _look(self) -> None:
        now = time.monotonic()
        due = self._since + (self._settings.stall if self.sending else self._settings.ping)
        if now >= due:
            (self._stalled if self.sending else self._ping)()
            due = now + self._shortest
        self._timer = self._loop.call_later(min(due - now, self._shortest), self._look)


class EventStream(_Watched):
    """An answer that is sent as it is generated.

    What fails before the first token, or the first ping, is an ordinary error. After that it is an event of the stream
    with an `error`, which ends it.
    """

    media_type = "text/event-stream"

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        def stalled() -> None:
            self._ticket.fail(GoneError("it does not read"))
            scope["state"]["connection"].abort()  # then `send` comes back

        self._pace = _Pace(self._ticket.nudge, stalled, self._settings)
        self._connection: Connection = scope["state"]["connection"]
        try:
            await self._stream(scope, send)
        finally:
            self._pace.close()

    async def _stream(self, scope: Scope, send: Send) -> None:
        first = await self._piece()
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send(send, self._answer.opening() + first)
        self._ticket.on_news = self._pass_on
        try:
            while not self._answer.finished:
                if piece := await self._piece():
                    await self._send(send, piece)
        except ApiError as error:
            scope["outcome"] = error.code
            await self._send(send, b"data: " + error.encode() + b"\n\n")
        else:
            self._finished(scope)
            await self._send(send, self._answer.closing())
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _piece(self) -> bytes:
        """What has come since the last piece; a ping where nothing came for long."""
        found = await self._ticket.news()
        if found:
            return b"".join([self._answer.take(news) for news in found])
        return b"" if self._answer.finished else _PING

    def _pass_on(self) -> None:
        """Write what has come at once: the layers between here and the socket take half a millisecond a token.

        Where the client does not read as quickly, and at the end, `_stream` goes on.
        """
        if self._pace.sending or not self._connection.has_room:
            self._ticket.nudge()
            return
        try:
            self._connection.write_piece(b"".join([self._answer.take(news) for news in self._ticket.taken()]))
        except Exception:
            logger.exception("an answer could not be written")
            self._ticket.fail(internal())
        self._pace.end()
        if self._answer.finished:
            self._ticket.nudge()

    async def _send(self, send: Send, piece: bytes) -> None:
        """Send a piece.

        Raises:
            GoneError: the client did not read for too long, or has gone.
        """
        self._pace.begin()
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        self._pace.end()
