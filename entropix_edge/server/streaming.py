"""Answers that watch their client: whole ones and streams of server-sent events.

A few lines of our own instead of sse-starlette: it ends every stream at once when the process is asked to end, where
replies are to be finished, and replaces uvicorn's handler of signals for the whole process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import Response

from .errors import ApiError
from .ticket import GoneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from .replies import Answer
    from .settings import Settings
    from .ticket import Ticket

_PING = b": ping\n\n"


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
        except GoneError as gone:
            scope["outcome"] = str(gone)
            scope["state"]["abort"]()  # with what it has not read
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
    """

    def __init__(self, ping: Callable[[], None], stalled: Callable[[], None], settings: Settings) -> None:
        self._loop = asyncio.get_running_loop()
        self._ping = ping
        self._stalled = stalled
        self._settings = settings
        self._shortest = min(settings.ping, settings.stall)
        self._since = self._loop.time()
        self._sending = False
        self._timer = self._loop.call_later(self._shortest, self._look)

    def begin(self) -> None:
        """A piece is being sent."""
        self._since, self._sending = self._loop.time(), True

    def end(self) -> None:
        """It is sent."""
        self._since, self._sending = self._loop.time(), False

    def close(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        due = self._since + (self._settings.stall if self._sending else self._settings.ping)
        if now >= due:
            (self._stalled if self._sending else self._ping)()
            due = now + self._shortest
        self._timer = self._loop.call_at(min(due, now + self._shortest), self._look)


class EventStream(_Watched):
    """An answer that is sent as it is generated.

    What fails before the first token, or the first ping, is an ordinary error. After that it is an event of the stream
    with an `error`, which ends it.
    """

    media_type = "text/event-stream"

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        def stalled() -> None:
            self._ticket.fail(GoneError("it does not read"))
            scope["state"]["abort"]()  # then `send` comes back

        self._pace = _Pace(self._ticket.nudge, stalled, self._settings)
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
        return b"".join([self._answer.take(news) for news in found]) if found else _PING

    async def _send(self, send: Send, piece: bytes) -> None:
        """Send a piece.

        Raises:
            GoneError: the client did not read for too long, or has gone.
        """
        self._pace.begin()
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        self._pace.end()
