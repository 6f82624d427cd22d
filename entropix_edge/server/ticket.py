"""A request that is being answered: what the worker says of it, and who waits for that."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from ..errors import EntropixError
from .errors import from_entropix, internal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .worker import News, Source

MOST_UNREAD = 4096
"""Events of a request that its client may leave unread."""


class GoneError(Exception):
    """The client has closed its connection, or does not read."""


class Ticket:
    """A request under way. To be used in the event loop only.

    Args:
        sources: its replies.
        begun: when it came, in seconds of `time.perf_counter`.
        on_end: called once, when nothing more will be generated for it.

    Attributes:
        last_seen: when news of each reply came last.
        on_news: called when news has come, instead of letting go on who waits for it.
    """

    def __init__(self, sources: Sequence[Source], begun: float, on_end: Callable[[], None]) -> None:
        self.sources = sources
        self.begun = begun
        self.last_seen: dict[int, float] = {}
        self.on_news: Callable[[], None] = self.nudge
        self._on_end = on_end
        self._generating = len(sources)
        self._news: deque[News] = deque()
        self._unread = 0
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def push(self, news: News) -> None:
        """Take up what a decode brought."""
        if news.ended:
            self._generating -= 1
            if not self._generating:
                self._on_end()
        if self._failure:
            return
        if news.error:
            known = isinstance(news.error, EntropixError)
            self.fail(from_entropix(news.error) if known else internal())  # type: ignore[arg-type]
            return
        self._unread += len(news.events)
        if self._unread > MOST_UNREAD:
            self.fail(GoneError("it does not read"))
            return
        self._news.append(news)
        self.on_news()

    async def news(self) -> list[News]:
        """What has come since the last time; waits for something to come, or for a nudge.

        Raises:
            ApiError: the request has failed.
            GoneError: nobody reads the answer.
        """
        if not self._news and self._failure is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.taken()

    def taken(self) -> list[News]:
        """What has come since the last time; waits for nothing. Errors as for `news`."""
        if self._failure:
            raise self._failure
        found = list(self._news)
        self._news.clear()
        self._unread = 0
        return found

    def nudge(self) -> None:
        """Let who waits for news go on, with or without any."""
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def fail(self, failure: Exception) -> None:
        """End it; who waits for news is given the failure."""
        if self._failure is None:
            self._failure = failure
            self._news.clear()
            self.nudge()
            self.close()

    def cancel(self) -> None:
        """Let each of its replies end before the next decode, with a last event."""
        for source in self.sources:
            source.cancel()

    def close(self) -> None:
        """Stop generating what is left of it."""
        for source in self.sources:
            source.close()
