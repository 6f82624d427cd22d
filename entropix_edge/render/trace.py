"""The JSONL trace: one object a line, in the order things happened."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..types import BranchEvent, CandidateEvent, FallbackEvent, RejectedEvent, RewindEvent, TokenEvent

if TYPE_CHECKING:
    from pathlib import Path

    from ..types import Event

_KINDS = {
    BranchEvent: "branch",
    RejectedEvent: "rejected",
    RewindEvent: "rewind",
    FallbackEvent: "fallback",
    CandidateEvent: "candidate",
}

logger = logging.getLogger("entropix_edge")


def as_record(event: Event) -> dict[str, Any]:
    """An event's fields under their own names, ready for JSON.

    `metrics` and `metrics.attention` are nested objects. Tokens have `origin`; what is no token has `event`.
    """
    if not isinstance(event, TokenEvent):
        return {"event": _KINDS[type(event)], **asdict(event)}
    record = event._asdict()
    del record["alternatives"]
    if event.alternatives:
        record["alternatives"] = [alternative._asdict() for alternative in event.alternatives]
    if event.metrics:
        attention = event.metrics.attention
        record["metrics"] = event.metrics._asdict() | {"attention": attention._asdict() if attention else None}
    if event.token_id is None:
        del record["origin"]
        return {"event": "end", **record}
    return record


class TraceWriter:
    """Writes a trace to a file. A disk that fills ends the trace, not the reply.

    Args:
        path: of the file; what it held is replaced.
        header: facts for the first line (model, seed, settings).

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self._path = path
        # json escapes what UTF-8 cannot say, half a surrogate pair from a file name, in the same form
        self._file = path.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
        self.failed = False
        self._write(header)

    def write(self, event: Event) -> None:
        """Write one event as one line."""
        self._write(as_record(event))

    def _write(self, record: dict[str, Any]) -> None:
        if self.failed:
            return
        try:
            self._file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.failed = True
        logger.error("the trace ends here: %s: %s; the reply goes on", self._path, error.strerror)

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError as error:
            if not self.failed:
                self._give_up(error)
