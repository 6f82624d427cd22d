"""A reply: as it is generated, and whole."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ..types import ConfidenceEvent, TokenEvent

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator

    from ..decoding import Job
    from ..types import Event, FinishReason, SideEvent

    Judge = Callable[[list[Event]], ConfidenceEvent | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One finished reply.

    Attributes:
        text: what the model said.
        events: the token events that made it.
        side_events: what else happened: branches, rejected draws, rewinds, strategies that could not act, candidates,
            how sure of it one may be.
        finish_reason: why it ended.
        seed: that repeats it.
        prompt_tokens: how many tokens the prompt was.
        cached_tokens: how many of them were in the cache already, from an earlier prompt that begins alike.
        decoded_tokens: how many were decoded beyond the prompt, branches that were not kept included.
        prompt_seconds: from the first decode to the first token.
        generation_seconds: from the first token to the last.
    """

    text: str
    events: tuple[TokenEvent, ...]
    side_events: tuple[SideEvent, ...]
    finish_reason: FinishReason | None
    seed: int
    prompt_tokens: int
    cached_tokens: int
    decoded_tokens: int
    prompt_seconds: float
    generation_seconds: float

    @property
    def confidence(self) -> ConfidenceEvent | None:
        """How sure of it one may be; None where that is not known, or the reply was cut or cancelled."""
        return next((event for event in self.side_events if isinstance(event, ConfidenceEvent)), None)


class ReplyStream:
    """A reply as it is generated: an iterator of token events. Closing it early ends the generation.

    What else happened (branches, rejected draws, rewinds) comes between them from `everything`. Where the generation
    failed, every read after its events raises the error.

    Args:
        step: decodes once for all replies, unless the condition that it is given holds when its turn comes.
        drop: ends a job without a last event.
        job: the generation.
        emitted: the generation appends its events to it.
        seed: of its draws.
        prompt_tokens: how many tokens the prompt is.
        begin_tokens: what the reply began with.
        judge: given all events when the last is there, says how sure of the reply one may be.
    """

    def __init__(
        self,
        step: Callable[[Callable[[], object]], object],
        drop: Callable[[Job], None],
        job: Job,
        emitted: deque[Event],
        *,
        seed: int,
        prompt_tokens: int,
        begin_tokens: tuple[int, ...] = (),
        judge: Judge | None = None,
    ) -> None:
        self.seed = seed
        self.prompt_tokens = prompt_tokens
        self.begin_tokens = begin_tokens
        self._step = step
        self._drop = drop
        self._job = job
        self._emitted = emitted
        self._judge = judge
        self._events: list[Event] = []
        self._start_time = time.perf_counter()
        self._first_time = self._last_time = 0.0

    @property
    def ended(self) -> bool:
        """Whether nothing more will be generated; what was may still be unread."""
        return self._job.ended

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that were in the cache already; 0 until its turn has come."""
        return self._job.cached

    @property
    def decoded_tokens(self) -> int:
        """Tokens decoded so far beyond the prompt and what the reply began with."""
        job = self._job
        return max(job.decoded + job.cached - self.prompt_tokens - len(self.begin_tokens), 0)

    @property
    def is_forked(self) -> bool:
        """Whether branches of it are being grown."""
        return bool(self._job.branches)

    @property
    def text(self) -> str:
        """What was said in the events read so far."""
        return "".join(event.text for event in self._events if isinstance(event, TokenEvent))

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens of the events read so far."""
        tokens = (event.token_id for event in self._events if isinstance(event, TokenEvent))
        return tuple(token for token in tokens if token is not None)

    def waiting(self) -> Iterator[Event]:
        """The events that were emitted and not read yet; decodes nothing, and waits for nothing.

        Raises:
            EntropixError: the generation failed.
        """
        while self._emitted and (event := self._next()):
            yield event
        if self._job.error:
            raise self._job.error

    def __iter__(self) -> Iterator[TokenEvent]:
        return self

    def __next__(self) -> TokenEvent:
        while True:
            event = self._next()
            if event is None:
                raise StopIteration
            if isinstance(event, TokenEvent):
                return event

    def everything(self) -> Iterator[Event]:
        """All events, in the order things happened."""
        return iter(self._next, None)

    def _next(self) -> Event | None:
        emitted = self._emitted
        while not emitted:
            if not self._job.ended:
                self._step(emitted.__len__)
            elif not emitted:  # what another thread's decode brought came before the end
                if self._job.error:
                    raise self._job.error
                return None
        event = emitted.popleft()
        if not self._first_time:
            self._first_time = time.perf_counter()
        if isinstance(event, TokenEvent) and event.finish_reason:
            event = self._last(event)
        self._events.append(event)
        return event

    def _last(self, event: TokenEvent) -> Event:
        """Note that the reply is whole; what is known of it comes before its last event."""
        self._last_time = time.perf_counter()
        judge, self._judge = self._judge, None
        confidence = judge([*self._events, event]) if judge else None
        if confidence:
            self._emitted.appendleft(event)
        return confidence or event

    def cancel(self) -> None:
        """End the reply before the next decode; its last event has the finish reason `cancelled`."""
        self._job.cancel()

    def close(self) -> None:
        """End the generation at once and free its part of the context."""
        self._drop(self._job)

    def reply(self) -> Reply:
        """The whole reply, generating what is still missing.

        Raises:
            EntropixError: the generation failed.
        """
        for _event in self.everything():
            pass
        tokens = tuple(event for event in self._events if isinstance(event, TokenEvent))
        side_events = tuple(event for event in self._events if not isinstance(event, TokenEvent))
        last = self._last_time or time.perf_counter()
        first = self._first_time or last
        return Reply(
            text=self.text,
            events=tokens,
            side_events=side_events,
            finish_reason=tokens[-1].finish_reason if tokens else None,
            seed=self.seed,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            decoded_tokens=self.decoded_tokens,
            prompt_seconds=first - self._start_time,
            generation_seconds=last - first,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
