"""The engine as the event loop sees it: who may come in, who is being answered, and whether it is open."""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from ..errors import EntropixError
from .errors import ApiError, busy, from_entropix, invalid, unavailable
from .metrics import Metrics
from .starting import Starter, first_wave
from .ticket import Ticket
from .worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from ..engine import Engine
    from .settings import Settings
    from .values import Ask
    from .worker import News, Work

    Value = TypeVar("Value")

State = Literal["loading", "ready", "closing"]
_PREPARING = 2  # threads that render templates and tokenise
_LONG = 2**17  # characters; megabytes take seconds, and nobody else should wait for that


class Service:
    """One engine for all requests. To be used in the event loop only, but for `opened`.

    Args:
        settings: how to serve.
        loop: the event loop.

    Attributes:
        state: whether requests are answered.
        metrics: what Prometheus may know.
        open_requests: how many are being read or answered.
        created: when the server was started, in seconds of Unix.
    """

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.state: State = "loading"
        self.metrics = Metrics()
        self.open_requests = 0
        self.created = int(time.time())
        self._loop = loop
        self._engine: Engine | None = None
        self._worker: Worker | None = None
        self._starter: Starter | None = None
        self._places = settings.parallel + settings.queue
        self._taken = 0
        self._tickets: set[Ticket] = set()
        self._threads = ThreadPoolExecutor(_PREPARING, "prompt")
        self._long_prompts = ThreadPoolExecutor(1, "long-prompt")

    # --- opening and closing --------------------------------------------------------------------------

    def opened(self, engine: Engine) -> Worker:
        """Take up an engine that is open; what decodes for it. From any thread.

        Raises:
            ConfigError: the defaults do not hold with this model.
        """
        starter = Starter(engine, self.settings.defaults(engine.preset), self.settings.ctx_size)
        worker = Worker(engine, self._deliver)
        self._loop.call_soon_threadsafe(self._begin, engine, starter, worker)
        return worker

    def _begin(self, engine: Engine, starter: Starter, worker: Worker) -> None:
        self._engine, self._starter, self._worker = engine, starter, worker
        cells = engine.context.n_ctx
        self.metrics.watch(lambda: engine.jobs, lambda: cells - engine.free[1], cells)
        if self.state == "loading":
            self.state = "ready"

    @property
    def engine(self) -> Engine:
        """The engine.

        Raises:
            ApiError: it is not open yet, or the server closes.
        """
        if self.state == "closing":
            raise unavailable("the server is closing", "closing")
        if self._engine is None:
            raise unavailable("the model is being loaded", "loading")
        return self._engine

    def check_open(self) -> None:
        """Refuse a request that comes too early or too late.

        Raises:
            ApiError: the engine is not open.
        """
        assert self.engine

    def cancel_all(self) -> None:
        """Let what is being generated end where it is."""
        for ticket in self._tickets:
            ticket.cancel()

    def close(self) -> None:
        """Prepare no more prompts."""
        for threads in (self._threads, self._long_prompts):
            threads.shutdown(wait=True, cancel_futures=True)

    # --- requests -------------------------------------------------------------------------------------

    async def prepare(self, length: int, function: Callable[..., Value], *arguments: object) -> Value:
        """What a function gives that is not for the event loop: one that renders or tokenises.

        Args:
            length: of what it works on, in characters.
            function: called in another thread.
            arguments: for it.

        Raises:
            ApiError: for an error of the engine's.
        """
        threads = self._long_prompts if length > _LONG else self._threads
        try:
            return await self._loop.run_in_executor(threads, function, *arguments)
        except EntropixError as error:
            raise from_entropix(error) from error

    async def begin(self, ask: Ask, begun: float) -> Ticket:
        """Begin to answer a request.

        Args:
            ask: what it asks for.
            begun: when it came, in seconds of `time.perf_counter`.

        Raises:
            ApiError: it cannot be answered, or there is no place for it now.
        """
        self._check(ask)
        places = len(ask.prompts) * ask.n * min(first_wave(ask.candidates), self.settings.parallel)
        if self._taken + places > self._places:
            raise busy(self._taken)
        self._taken += places
        assert self._starter
        assert self._worker
        try:
            sources = await self.prepare(ask.length, self._starter.start, ask)
        except BaseException:
            self._taken -= places
            raise
        ticket = Ticket(sources, begun, lambda: self._end(ticket, places, timer))
        timer = self._loop.call_later(self.settings.timeout, ticket.fail, self._expired())
        self._tickets.add(ticket)
        self._worker.add(ticket)
        return ticket

    def _check(self, ask: Ask) -> None:
        self.check_open()
        settings = self.settings
        if settings.strict_model and ask.model not in (None, settings.alias):
            message = f"the model {ask.model!r} is not served here: it must be {settings.alias!r}"
            raise ApiError(404, message, "model_not_found", param="model")
        replies = len(ask.prompts) * ask.n
        if replies > settings.parallel:
            message = f"{replies} replies are asked for at once: they must be at most {settings.parallel}"
            raise invalid(message, "n" if ask.n > 1 else ask.param)

    def _expired(self) -> ApiError:
        message = f"the request took more than {self.settings.timeout:g} seconds"
        return unavailable(message, "request_timeout", retry=False)

    def _end(self, ticket: Ticket, places: int, timer: asyncio.TimerHandle) -> None:
        """All that a request asked for was generated, or will never be."""
        self._taken -= places
        self._tickets.discard(ticket)
        timer.cancel()
        for source in ticket.sources:
            self.metrics.ended(source.prompt_tokens, source.cached_tokens, source.decoded_tokens)

    def _deliver(self, told: list[tuple[Work, News]]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody reads
            self._loop.call_soon_threadsafe(self._hand_out, told)

    def _hand_out(self, told: list[tuple[Work, News]]) -> None:
        now = time.perf_counter()
        for work, news in told:
            assert isinstance(work, Ticket)
            if news.events:
                self.metrics.events(news.events, self._seconds(work, news.number, now))
            work.push(news)

    def _seconds(self, ticket: Ticket, number: int, now: float) -> float:
        """Since a reply's last token; 0 for its first."""
        last = ticket.last_seen.get(number)
        ticket.last_seen[number] = now
        if last is None:
            self.metrics.first_token(now - ticket.begun)
            return 0.0
        return now - last
