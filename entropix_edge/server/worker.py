"""The one thread that decodes, for every request at once.

Requests come to it at any time and are taken up between two decodes. What a decode brought, or several quick ones,
leaves for the event loop in one go. Where there is nothing to do it sleeps.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import EntropixError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..engine import Engine
    from ..sessions import Deliberation
    from ..types import Event

logger = logging.getLogger("entropix_edge")

_FRAME = 1 / 60
"""Seconds in which what decodes bring leaves together, unless a reply begins or ends: no screen shows it more often,
and waking the event loop for each token takes 2 % of tokens of 8 ms."""


class Source(Protocol):
    """A reply under way: a `ReplyStream`, or a choice among several."""

    seed: int
    prompt_tokens: int

    @property
    def ended(self) -> bool:
        """Whether nothing more will be emitted; what was may still be unread."""

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that were not decoded again."""

    @property
    def decoded_tokens(self) -> int:
        """Tokens decoded so far beyond the prompt."""

    def waiting(self) -> Iterator[Event]:
        """The events that were emitted and not read yet."""

    def cancel(self) -> None:
        """End it before the next decode, with a last event."""

    def close(self) -> None:
        """End it before the next decode, and free its part of the context."""


class BestOf:
    """The best of several candidates as one reply, all of which comes when the choice is made."""

    def __init__(self, deliberation: Deliberation) -> None:
        self._deliberation = deliberation
        self.seed = deliberation.seed
        self.prompt_tokens = deliberation.prompt_tokens
        self.ended = False
        self.cancel = deliberation.cancel
        self.close = deliberation.close

    @property
    def cached_tokens(self) -> int:
        """As the first candidate found them."""
        return self._deliberation.cached_tokens

    @property
    def decoded_tokens(self) -> int:
        """For all candidates."""
        return self._deliberation.decoded_tokens

    def waiting(self) -> Iterator[Event]:
        """Nothing, until the choice is made."""
        if not self.ended and self._deliberation.advance():
            self.ended = True
            yield from self._deliberation.everything()


class News(NamedTuple):
    """What became of one reply of a request since the last news.

    Attributes:
        number: the reply's place among those of its request.
        events: in order.
        ended: whether nothing more will come.
        error: why it failed; then it has ended.
    """

    number: int
    events: list[Event]
    ended: bool
    error: Exception | None = None


class Work(Protocol):
    """A request's replies, and who is told of them."""

    sources: Sequence[Source]


class _Running(NamedTuple):
    """One reply of a request."""

    work: Work
    number: int
    source: Source


class Worker:
    """Decodes as long as anything is to be generated.

    Args:
        engine: no one else decodes with it.
        deliver: given what decodes brought, in this thread; must not wait.
    """

    def __init__(self, engine: Engine, deliver: Callable[[list[tuple[Work, News]]], None]) -> None:
        self._engine = engine
        self._deliver = deliver
        self._wake = threading.Condition()
        self._inbox: deque[_Running] = deque()
        self._closing = False
        self._running: list[_Running] = []
        self._held: dict[_Running, News] = {}  # to be delivered
        self._due = 0.0  # when, in seconds of `time.perf_counter`

    def add(self, work: Work) -> None:
        """Take up a request. From any thread."""
        with self._wake:
            self._inbox.extend(_Running(work, number, source) for number, source in enumerate(work.sources))
            self._wake.notify()

    def close(self) -> None:
        """Let `run` return after the decode in progress. From any thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def run(self) -> None:
        """Decode until `close`."""
        while self._wait():
            error = self._step()
            news = [self._read(running, error) for running in self._running]
            for running, one in zip(self._running, news, strict=True):
                self._hold(running, one)
            flowing = all(one.events and not one.ended for one in news)
            self._running = [running for running, one in zip(self._running, news, strict=True) if not one.ended]
            if not flowing or time.perf_counter() >= self._due:
                self._flush()
        self._flush()

    def _hold(self, running: _Running, news: News) -> None:
        if held := self._held.get(running):
            news = news._replace(events=held.events + news.events)
        if news.events or news.ended:
            self._held[running] = news

    def _flush(self) -> None:
        if self._held:
            self._deliver([(running.work, news) for running, news in self._held.items()])
            self._held.clear()
            self._due = time.perf_counter() + _FRAME

    def _wait(self) -> bool:
        """Wait for something to do; False where the server closes."""
        with self._wake:
            while not (self._running or self._inbox or self._closing):
                self._wake.wait()
            begun = bool(self._inbox)
            self._running += self._inbox
            self._inbox.clear()
        if begun:
            self._flush()  # a prompt takes longer than a token
        return not self._closing

    def _step(self) -> Exception | None:
        """One decode; the error with which it, and so every reply, failed."""
        try:
            self._engine.step()
        except Exception as error:
            logger.exception("decoding failed, and every reply with it")
            return error
        return None

    def _read(self, running: _Running, failure: Exception | None) -> News:
        ended = running.source.ended  # before its events, which come before its end
        events: list[Event] = []
        try:
            events.extend(running.source.waiting())
        except EntropixError as error:
            return News(running.number, events, ended=True, error=error)
        except Exception as error:
            logger.exception("reading a reply failed")
            return News(running.number, events, ended=True, error=error)
        return News(running.number, events, ended=ended or failure is not None, error=failure)
