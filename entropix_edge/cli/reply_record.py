"""A reply as one JSON object."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..types import CandidateEvent, TokenEvent

if TYPE_CHECKING:
    from ..engine import Engine, Reply
    from ..types import Event


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
