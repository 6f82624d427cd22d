"""A reply: as it is generated, and whole."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ..types import TokenEvent

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator

    from ..decoding import Live
    from ..types import Event, FinishReason, SideEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One finished reply.

    Attributes:
        text: what the model said.
        events: the token events that made it.
        roads: what else happened: roads looked down, rejected draws, rewinds, strategies that could not act.
        finish_reason: why it ended.
        seed: that repeats it.
        prompt_tokens: how many tokens the prompt was.
        cached_tokens: how many of them were in the cache already, from an earlier prompt that begins alike.
        decoded_tokens: how many were decoded beyond the prompt, roads not taken included.
        prompt_seconds: from the first decode to the first token.
        generation_seconds: from the first token to the last.
    """

    text: str
    events: tuple[TokenEvent, ...]
    roads: tuple[SideEvent, ...]
    finish_reason: FinishReason | None
    seed: int
    prompt_tokens: int
    cached_tokens: int
    decoded_tokens: int
    prompt_seconds: float
    generation_seconds: float


class ReplyStream:
    """A reply as it is generated: an iterator of token events. Closing it early ends the generation.

    What else happened (roads not taken, rejected draws, rewinds) comes between them from `everything`. Where the
    generation failed, every read after its events raises the error.
    """

    def __init__(
        self,
        decode: Callable[[], None],
        drop: Callable[[Live], None],
        live: Live,
        coming: deque[Event],
        *,
        seed: int,
        prompt_tokens: int,
        begun: tuple[int, ...] = (),
    ) -> None:
        self.seed = seed
        self.prompt_tokens = prompt_tokens
        self.begun = begun
        self._decode = decode
        self._drop = drop
        self._live = live
        self._coming = coming  # the generation appends to it
        self._events: list[Event] = []
        self._start_time = self._last_time = time.perf_counter()
        self._first_time = 0.0

    @property
    def ended(self) -> bool:
        """Whether nothing more will be generated; what was may still be unread."""
        return self._live.ended

    @property
    def decoded_tokens(self) -> int:
        """Tokens decoded so far beyond the prompt and what the reply began with."""
        live = self._live
        return max(live.decoded + live.shared - self.prompt_tokens - len(self.begun), 0)

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
        """The events that have come and were not read yet; decodes nothing.

        Raises:
            EntropixError: the generation failed.
        """
        while self._coming:
            yield self._take()
        if self._live.error:
            raise self._live.error

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
        while not self._coming:
            if not self._live.ended:
                self._decode()
            elif not self._coming:  # what another thread's decode brought came before the end
                if self._live.error:
                    raise self._live.error
                return None
        return self._take()

    def _take(self) -> Event:
        event = self._coming.popleft()
        now = time.perf_counter()
        self._first_time = self._first_time or now
        self._last_time = now
        self._events.append(event)
        return event

    def cancel(self) -> None:
        """End the reply before the next decode; its last event has the finish reason `cancelled`."""
        self._live.cancel()

    def close(self) -> None:
        """End the generation at once and free its part of the context."""
        self._drop(self._live)

    def reply(self) -> Reply:
        """The whole reply, generating what is still missing.

        Raises:
            EntropixError: the generation failed.
        """
        for _event in self.everything():
            pass
        tokens = tuple(event for event in self._events if isinstance(event, TokenEvent))
        roads = tuple(event for event in self._events if not isinstance(event, TokenEvent))
        first = self._first_time or self._last_time
        return Reply(
            text=self.text,
            events=tokens,
            roads=roads,
            finish_reason=tokens[-1].finish_reason if tokens else None,
            seed=self.seed,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self._live.shared,
            decoded_tokens=self.decoded_tokens,
            prompt_seconds=first - self._start_time,
            generation_seconds=self._last_time - first,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
