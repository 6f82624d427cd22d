"""A reply as commands show it: while it is waited for, and as one JSON object."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..types import CandidateEvent, TokenEvent
from .console import console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..engine import Engine, Reply
    from ..types import Event


def said_to_wait(events: Iterator[Event], candidates: int | None, *, whole: bool = False) -> Iterator[Event]:
    """A stream's events; while nothing of them is shown, that is said.

    Args:
        events: of the reply; while several candidates are generated there are none.
        candidates: how many at most; None for a single reply.
        whole: nothing is shown before the reply is whole.
    """
    if whole:
        what = f"up to {candidates} candidates" if candidates else "a reply, to see how likely it is right"
        with console().status(f"Generating {what}"):
            yield from events
    elif candidates:
        with console().status(f"Generating up to {candidates} candidates"):
            first = next(events, None)
        if first is not None:
            yield first
    yield from events


def with_alternatives(event: Event, most: int) -> Event:
    """An event with so many alternatives at most: more may have been needed to tell how sure the reply is."""
    if isinstance(event, TokenEvent) and len(event.alternatives) > most:
        return event._replace(alternatives=event.alternatives[:most])
    return event


def reply_record(engine: Engine, reply: Reply, *, startup_seconds: float, alternatives: int) -> dict[str, Any]:
    """A reply's text, how it ended and its statistics; with alternatives, every token too.

    Args:
        engine: that generated it.
        reply: the whole of it.
        startup_seconds: before the prompt: reading the model.
        alternatives: how many are named at each token.
    """
    from ..render import Stats, as_record, confidence_record

    record: dict[str, Any] = {
        "model": str(engine.model.path.name),
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "seed": reply.seed,
        "confidence": confidence_record(reply.confidence, reply.events),
        "stats": Stats(reply, startup_seconds=startup_seconds).as_record(),
    }
    if alternatives:
        record["tokens"] = [as_record(with_alternatives(event, alternatives)) for event in reply.events]
    if candidates := [event for event in reply.side_events if isinstance(event, CandidateEvent)]:
        record["candidates"] = list(map(dataclasses.asdict, candidates))
    return record
