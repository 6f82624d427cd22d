"""What a generation has written: its tokens, their text, and the events that are not out yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..text import TextStream
from ..types import FinishReason, TokenEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..types import Alternative, Event, Metrics, Origin, SideEvent, Strategy
    from .protocols import Vocabulary


_new = tuple.__new__  # what a named tuple's own way to be made comes to, without a function of Python's


class Entry(NamedTuple):
    """A token to be written, and what is told of it. As in `TokenEvent`."""

    token: int
    logprob: float
    metrics: Metrics
    strategy: Strategy
    alternatives: tuple[Alternative, ...] = ()


class Transcript:
    """Writes tokens down and emits their events.

    Events of tokens that may still be taken back are held; `release` emits them in their order.

    Args:
        prompt: its tokens.
        begin_tokens: that the reply begins with; their text comes with the first event.
        vocabulary: of the model.
        stop: texts that end the reply.
        stop_tokens: tokens that end the reply as the model's own end does.
        n_predict: most tokens of the reply, −1 for no limit.
        capacity: cells that prompt and reply may fill together.
        emit: given every event, as soon as it cannot be taken back.

    Attributes:
        tokens: of the reply so far; all are in the KV cache but the last, until that is fed.
        finished: whether the last event was written.
        held: events that were not emitted yet, in their order.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        begin_tokens: Sequence[int],
        vocabulary: Vocabulary,
        *,
        stop: Sequence[str],
        stop_tokens: frozenset[int],
        n_predict: int,
        capacity: int,
        emit: Callable[[Event], None],
    ) -> None:
        self.tokens = list(begin_tokens)
        self.finished = False
        self._prompt_length = len(prompt)
        self._vocabulary = vocabulary
        self._n_predict = n_predict
        self._capacity = capacity
        most = capacity - len(prompt) + 1  # the last token is not fed
        self._most = most if n_predict < 0 else min(most, n_predict)
        self._emit = emit
        self._stream = TextStream(stop)
        self._stop_tokens = stop_tokens
        self._begun = "".join(self._stream.push(vocabulary.piece(token)) for token in begin_tokens)
        self.held: list[Event] = []

    @property
    def position(self) -> int:
        """The position in the sequence after the last token."""
        return self._prompt_length + len(self.tokens)

    @property
    def tokens_left(self) -> int:
        """How many tokens may still be written and fed."""
        left = self._capacity - self.position
        return left if self._n_predict < 0 else min(left, self._n_predict - len(self.tokens))

    # --- writing ------------------------------------------------------------------------------------

    def write(self, entry: Entry, origin: Origin, *, hold: bool) -> None:
        """Write a token down, and emit its event; with `hold`, or after what is held, it is held until `release`."""
        token, logprob, metrics, strategy, alternatives = entry
        index = len(self.tokens)
        vocabulary, stream, text = self._vocabulary, self._stream, self._begun
        stopped = vocabulary.is_end(token) or token in self._stop_tokens
        if not stopped:
            text += stream.push(vocabulary.piece(token))
            stopped = stream.stopped
        finish = None
        if stopped or index + 1 >= self._most:
            finish = self._finish_reason(stopped=stopped)
            text += stream.flush()
            self.finished = True
        self._begun = ""
        self.tokens.append(token)
        event = _new(TokenEvent, (index, token, text, logprob, metrics, strategy, origin, finish, alternatives))
        if hold or self.held:
            self.held.append(event)
        else:
            self._emit(event)

    def _finish_reason(self, *, stopped: bool) -> FinishReason:
        """Why the token that is being written is the last one."""
        if stopped:
            return FinishReason.STOP
        return FinishReason.LENGTH if 0 <= self._n_predict <= len(self.tokens) + 1 else FinishReason.CONTEXT

    def note(self, event: SideEvent) -> None:
        """Hold a side event, in its place among the tokens."""
        self.held.append(event)

    def emit(self, event: SideEvent) -> None:
        """Emit a side event at once, before what is held."""
        self._emit(event)

    def release(self) -> None:
        """Emit what is held: it can no longer be taken back."""
        for event in self.held:
            self._emit(event)
        self.held.clear()

    def finish(self, reason: FinishReason) -> None:
        """End the reply where no token carries the end."""
        self.finished = True
        self.release()
        self._emit(TokenEvent(len(self.tokens), None, self._begun + self._stream.flush(), finish_reason=reason))

    # --- taking back --------------------------------------------------------------------------------

    def text_state(self) -> TextStream:
        """The state of the text after the last token, to come back to."""
        return self._stream.copy()

    def rewind(self, index: int, text_state: TextStream) -> tuple[int, ...]:
        """Take back the tokens from an index on, none of which is out; what else is held is emitted.

        Args:
            index: the first token's place in the reply.
            text_state: what `text_state` gave before that token was written.

        Returns:
            The tokens that were taken back.
        """
        dropped = tuple(self.tokens[index:])
        del self.tokens[index:]
        self._stream = text_state
        self.held = [event for event in self.held if not (isinstance(event, TokenEvent) and event.index >= index)]
        self.release()
        return dropped

    def text_of(self, tokens: Sequence[int]) -> str:
        """Tokens as they would be written alone."""
        return b"".join(map(self._vocabulary.piece, tokens)).decode("utf-8", "replace")
