"""A reply as commands show it: while it is waited for, and as one JSON object."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..types import CandidateEvent
from .console import console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..engine import Engine, Reply
    from ..types import Event


def said_to_wait(events: Iterator[Event], candidates: int | None) -> Iterator[Event]:
    """A stream's events; while several candidates are generated there are none, and that is said."""
    if candidates:
        with console().status(f"Generating up to {candidates} candidates"):
            first = next(events, None)
        if first is not None:
            yield first
    yield from events


def reply_record(engine: Engine, reply: Reply, *, startup_seconds: float, alternatives: bool) -> dict[str, Any]:
    """A reply's text, how it ended and its statistics; with alternatives, every token too.

    Args:
        engine: that generated it.
        reply: the whole of it.
        startup_seconds: before the prompt: reading the model.
        alternatives: whether its events name them.
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
        record["tokens"] = [as_record(event) for event in reply.events]
    if candidates := [event for event in reply.side_events if isinstance(event, CandidateEvent)]:
        record["candidates"] = list(map(dataclasses.asdict, candidates))
    return record
