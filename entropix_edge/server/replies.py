"""What the engine emitted, as OpenAI's clients read it: whole, or piece by piece."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from ..render import as_record, finite
from ..types import FinishReason, TokenEvent
from . import schema
from .summary import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from msgspec import UnsetType

    from ..llama import Vocabulary
    from ..types import Event
    from .values import Ask
    from .worker import News, Source

_LEAST_LOGPROB = -9999.0  # OpenAI's word for "never"
_FINISHED = {FinishReason.STOP: "stop"}  # all else cut the reply: OpenAI's word for that is `length`
DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


def framed(message: msgspec.Struct) -> bytes:
    """A message of a stream, as server-sent events have it."""
    return b"data: " + _encode(message) + b"\n\n"


class Choice:
    """One reply of a request, as far as it has come.

    Attributes:
        index: its place in the answer.
        events: all so far, where the answer is sent whole.
        tokens: how many it has, the one that ends the model's turn not counted.
        length: how many characters.
        finish: why it ended, in OpenAI's words; None while it goes on.
        tally: for the summary; None where none is asked for.
    """

    def __init__(self, index: int, source: Source, *, keeps_tally: bool) -> None:
        self.index = index
        self.source = source
        self.events: list[Event] = []
        self.tokens = 0
        self.length = 0
        self.finish: str | None = None
        self.tally = Tally() if keeps_tally else None

    def note(self, event: TokenEvent, *, is_end: bool) -> None:
        """Count a token."""
        self.tokens += event.token_id is not None and not is_end
        if event.finish_reason:
            self.finish = _FINISHED.get(event.finish_reason, "length")

    def summary(self) -> dict[str, Any] | UnsetType:
        """What the whole reply was like."""
        return self.tally.summary(self.source) if self.tally else UNSET


class Answer:
    """The answer to one request.

    Args:
        ask: the request.
        sources: its replies.
        model: the name that the client knows it by.
        vocabulary: the model's.

    Attributes:
        choices: the replies as far as they have come.
    """

    prefix = ""

    def __init__(self, ask: Ask, sources: Sequence[Source], model: str, vocabulary: Vocabulary) -> None:
        self.id = f"{self.prefix}-{secrets.token_hex(12)}"
        self.created = int(time.time())
        self.model = model
        self.ask = ask
        extension = ask.extension
        self.choices = [
            Choice(index, source, keeps_tally=extension is not None) for index, source in enumerate(sources)
        ]
        self._vocabulary = vocabulary
        self._tokens = bool(extension and extension.tokens)
        self._branches = bool(extension and extension.branches)
        self._hides_attention = extension is not None and extension.attention is False
        self._told: list[dict[str, Any]] = []

    # --- taking up what happened ----------------------------------------------------------------------

    def take(self, news: News) -> bytes:
        """Note what became of one reply. The pieces for a stream; nothing where the answer is sent whole."""
        choice = self.choices[news.number]
        stream = self.ask.stream
        pieces = []
        waiting: list[Event] = []  # side events go with the token after them
        for event in news.events:
            if choice.tally:
                choice.tally.note(event)
            waiting.append(event)
            if isinstance(event, TokenEvent):
                choice.note(event, is_end=self._is_end(event))
                if stream:
                    pieces.append(self._piece(choice, waiting, event))
                    waiting.clear()
                    choice.length += len(event.text)
        if not stream:
            choice.events += news.events
        elif waiting and (report := self._report(waiting)) is not UNSET:
            pieces.append(self._chunk(choice, "", [], report))
        return b"".join(pieces)

    def _piece(self, choice: Choice, events: Sequence[Event], token: TokenEvent) -> bytes:
        """The chunks that a token makes, the last of them included where it ends the reply."""
        report = self._report(events)
        entries = [token] if self.ask.logprobs and self._is_entry(token) else []
        piece = b""
        if token.text or entries or report is not UNSET:
            piece = self._chunk(choice, token.text, entries, report)
        if choice.finish:
            summary = choice.summary()
            piece += self._last(choice, schema.Report(summary=summary) if summary is not UNSET else UNSET)
        return piece

    def _report(self, events: Iterable[Event]) -> schema.Report | UnsetType:
        records = self._records(events)
        return schema.Report(events=records) if records else UNSET

    def _records(self, events: Iterable[Event]) -> list[dict[str, Any]]:
        """The records of a trace that the client asked for."""
        records = []
        for event in events:
            if self._tokens if isinstance(event, TokenEvent) else self._branches:
                record = as_record(event)
                if self._hides_attention and record.get("metrics"):
                    record["metrics"]["attention"] = None
                records.append(finite(record))
        return records

    def _whole_report(self, choice: Choice) -> schema.Report | UnsetType:
        summary = choice.summary()
        if summary is UNSET:
            return UNSET
        records = self._records(choice.events)
        return schema.Report(events=records or UNSET, summary=summary)

    def _is_end(self, event: TokenEvent) -> bool:
        return event.token_id is not None and self._vocabulary.is_end(event.token_id)

    def _is_entry(self, event: TokenEvent) -> bool:
        """Whether a token has a place in the list of tokens: one that ends the model's turn has no text."""
        return event.token_id is not None and not self._is_end(event)

    # --- usage ----------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether every reply has come to its end."""
        return all(choice.finish for choice in self.choices)

    def usage(self) -> schema.Usage:
        """How many tokens the request took; a prompt counts once, however many replies it has."""
        firsts = self.choices[:: self.ask.n]
        prompt = sum(choice.source.prompt_tokens for choice in firsts) + len(self.ask.begin_tokens) * len(firsts)
        cached = sum(choice.source.cached_tokens for choice in firsts)
        generated = sum(choice.tokens for choice in self.choices)
        return schema.Usage(prompt, generated, prompt + generated, schema.CachedTokens(cached))

    # --- what each interface has of its own -----------------------------------------------------------

    def opening(self) -> bytes:
        """What a stream begins with."""
        return b""

    def closing(self) -> bytes:
        """What a stream ends with."""
        raise NotImplementedError

    def whole(self) -> bytes:
        """The whole answer."""
        raise NotImplementedError

    def _chunk(
        self, choice: Choice, text: str, entries: Sequence[TokenEvent], report: schema.Report | UnsetType
    ) -> bytes:
        raise NotImplementedError

    def _last(self, choice: Choice, report: schema.Report | UnsetType) -> bytes:
        raise NotImplementedError

    # --- tokens by name -------------------------------------------------------------------------------

    def _name(self, token: int) -> tuple[str, bytes]:
        """A token's text, or OpenAI's way to write bytes that are none."""
        piece = self._vocabulary.piece(token)
        try:
            return piece.decode(), piece
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece), piece


class ChatAnswer(Answer):
    """To `/v1/chat/completions`."""

    prefix = "chatcmpl"

    def opening(self) -> bytes:
        """The role of each message, which some clients wait for."""
        delta = schema.Delta(role="assistant", content=None)
        return b"".join(framed(self._struct([schema.ChunkChoice(each.index, delta)])) for each in self.choices)

    def closing(self) -> bytes:
        """The usage where it is asked for, and the end."""
        if not self.ask.include_usage:
            return DONE
        chunk = self._struct([])
        chunk.usage = self.usage()
        return framed(chunk) + DONE

    def whole(self) -> bytes:
        """The whole answer."""
        choices = []
        for choice in self.choices:
            tokens = [event for event in choice.events if isinstance(event, TokenEvent)]
            choices.append(
                schema.ChatChoice(
                    choice.index,
                    schema.AssistantMessage("".join(event.text for event in tokens)),
                    self._logprobs([event for event in tokens if self._is_entry(event)]) if self.ask.logprobs else None,
                    choice.finish or "length",
                    self._whole_report(choice),
                )
            )
        return _encode(schema.ChatCompletion(self.id, self.created, self.model, choices, self.usage()))

    def _struct(self, choices: list[schema.ChunkChoice]) -> schema.ChatChunk:
        return schema.ChatChunk(self.id, self.created, self.model, choices)

    def _chunk(
        self, choice: Choice, text: str, entries: Sequence[TokenEvent], report: schema.Report | UnsetType
    ) -> bytes:
        logprobs = self._logprobs(entries) if entries else None
        delta = schema.Delta(content=text)
        return framed(self._struct([schema.ChunkChoice(choice.index, delta, logprobs, entropix=report)]))

    def _last(self, choice: Choice, report: schema.Report | UnsetType) -> bytes:
        last = schema.ChunkChoice(choice.index, schema.Delta(), finish_reason=choice.finish, entropix=report)
        return framed(self._struct([last]))

    def _logprobs(self, tokens: Iterable[TokenEvent]) -> schema.ChatLogprobs:
        return schema.ChatLogprobs([self._token(event) for event in tokens])

    def _token(self, event: TokenEvent) -> schema.TokenLogprob:
        assert event.token_id is not None
        text, piece = self._name(event.token_id)
        return schema.TokenLogprob(
            text,
            _logprob(event.logprob),
            list(piece),
            [self._top(each.token_id, each.logprob) for each in event.alternatives[: self.ask.top_logprobs]],
        )

    def _top(self, token: int, logprob: float) -> schema.TopLogprob:
        text, piece = self._name(token)
        return schema.TopLogprob(text, _logprob(logprob), list(piece))


class TextAnswer(Answer):
    """To `/v1/completions`."""

    prefix = "cmpl"

    def closing(self) -> bytes:
        """The usage where it is asked for, and the end."""
        if not self.ask.include_usage:
            return DONE
        return framed(self._struct([], self.usage())) + DONE

    def whole(self) -> bytes:
        """The whole answer."""
        choices = []
        for choice in self.choices:
            tokens = [event for event in choice.events if isinstance(event, TokenEvent)]
            choices.append(
                schema.TextChoice(
                    choice.index,
                    "".join(event.text for event in tokens),
                    self._logprobs(tokens, 0) if self.ask.logprobs else None,
                    choice.finish or "length",
                    self._whole_report(choice),
                )
            )
        return _encode(self._struct(choices, self.usage()))

    def _struct(self, choices: list[schema.TextChoice], usage: schema.Usage | UnsetType = UNSET) -> schema.Completion:
        return schema.Completion(self.id, self.created, self.model, choices, usage=usage)

    def _chunk(
        self, choice: Choice, text: str, entries: Sequence[TokenEvent], report: schema.Report | UnsetType
    ) -> bytes:
        logprobs = self._logprobs(entries, choice.length) if entries else None
        return framed(self._struct([schema.TextChoice(choice.index, text, logprobs, None, report)]))

    def _last(self, choice: Choice, report: schema.Report | UnsetType) -> bytes:
        return framed(self._struct([schema.TextChoice(choice.index, "", None, choice.finish, report)]))

    def _logprobs(self, tokens: Iterable[TokenEvent], offset: int) -> schema.TextLogprobs:
        top = self.ask.top_logprobs
        found = schema.TextLogprobs([], [], [] if top else None, [])
        for event in tokens:
            if self._is_entry(event):
                assert event.token_id is not None
                text = self._name(event.token_id)[0]
                logprob = _logprob(event.logprob)
                found.tokens.append(text)
                found.token_logprobs.append(logprob)
                found.text_offset.append(offset)
                if found.top_logprobs is not None:
                    best = {self._name(each.token_id)[0]: _logprob(each.logprob) for each in event.alternatives[:top]}
                    found.top_logprobs.append(best | {text: logprob})
            offset += len(event.text)
        return found


def _logprob(logprob: float | None) -> float:
    return _LEAST_LOGPROB if logprob is None else max(logprob, _LEAST_LOGPROB)
