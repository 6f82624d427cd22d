"""Answers that watch their client: whole ones and streams of server-sent events.

A few lines of our own instead of sse-starlette: it ends every stream at once when the process is asked to end, where
replies are to be finished, and replaces uvicorn's handler of signals for the whole process.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from starlette.responses import Response

from .errors import ApiError
from .ticket import GoneError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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


class EventStream(_Watched):
    """An answer that is sent as it is generated.

    What fails before the first token, or the first ping, is an ordinary error. After that it is an event of the stream
    with an `error`, which ends it.
    """

    media_type = "text/event-stream"

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        pieces = self._pieces()
        first = await anext(pieces)
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send(send, self._answer.opening() + first)
        try:
            async for piece in pieces:
                if piece:
                    await self._send(send, piece)
        except ApiError as error:
            scope["outcome"] = error.code
            await self._send(send, b"data: " + error.encode() + b"\n\n")
        else:
            self._finished(scope)
            await self._send(send, self._answer.closing())
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pieces(self) -> AsyncIterator[bytes]:
        """What to send, a decode at a time; a ping where nothing came for long."""
        while not self._answer.finished:
            try:
                async with asyncio.timeout(self._settings.ping):
                    found = await self._ticket.news()
            except TimeoutError:
                yield _PING
            else:
                yield b"".join([self._answer.take(news) for news in found])

    async def _send(self, send: Send, piece: bytes) -> None:
        """Send a piece, unless the client does not read.

        Raises:
            GoneError: it did not for too long.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.stall):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            return
        raise GoneError("it does not read")
