"""The JSONL trace: one object a line, in the order things happened. Written here, and read again."""

from __future__ import annotations

import codecs
import json
import logging
import math
from dataclasses import asdict
from enum import StrEnum
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_origin, get_type_hints

from ..errors import ConfigError
from ..types import (
    BranchEvent,
    CandidateEvent,
    ConfidenceEvent,
    CorrectionEvent,
    FallbackEvent,
    RejectedEvent,
    RewindEvent,
    TokenEvent,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ..types import Event, SideEvent

VERSION = 1
_FORMAT = "entropix-edge trace "  # and the version
_BEGINNINGS = (f'{{"format": "{_FORMAT}'.encode(), b'{"model": ')  # the second before formats had a version
_KINDS: dict[type[SideEvent], str] = {
    BranchEvent: "branch",
    RejectedEvent: "rejected",
    RewindEvent: "rewind",
    FallbackEvent: "fallback",
    CandidateEvent: "candidate",
    CorrectionEvent: "correction",
    ConfidenceEvent: "confidence",
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


def _json(record: dict[str, Any]) -> str:
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False)
    except ValueError:  # JSON has no infinity, which the logarithm of a probability of 0 is
        return json.dumps(finite(record), ensure_ascii=False, allow_nan=False)


def finite(value: Any) -> Any:
    """A record with its infinities as texts, as a trace has them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value


def check_replaceable(path: Path) -> None:
    """See that a trace may be written to a path: a new or empty file, an earlier trace, or no regular file.

    Raises:
        ConfigError: the file holds something else, perhaps the model.
        OSError: it cannot be read.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        begin = file.read(len(_BEGINNINGS[0]))
    if begin and not begin.startswith(_BEGINNINGS):
        raise ConfigError(f"{path} is not a trace: give an earlier one, an empty file, or a new path")


class TraceWriter:
    """Writes a trace to a file. A disk that fills ends the trace, not the reply.

    Args:
        path: of the file; an earlier trace there is replaced, anything else is left alone.
        header: facts for the first line (model, seed, settings), after the format and its version.

    Raises:
        ConfigError: the file holds something else.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        check_replaceable(path)
        self._path = path
        # json escapes what UTF-8 cannot say, half a surrogate pair from a file name, in the same form
        self._file = path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n", buffering=1)
        self.failed = False
        self._write({"format": f"{_FORMAT}{VERSION}", **header})

    def write(self, event: Event) -> None:
        """Write one event as one line."""
        self._write(as_record(event))

    def _write(self, record: dict[str, Any]) -> None:
        if self.failed:
            return
        try:
            self._file.write(_json(record) + "\n")
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


# --- reading ------------------------------------------------------------------------------------------


class Trace(NamedTuple):
    """What a trace holds.

    Attributes:
        version: of its format; 0 for files from before formats had one, whose candidates are branches.
        header: the facts of the first line.
        events: what happened, in order.
        cut: whether the last line was cut short, because its writer was killed or the disk was full.
    """

    version: int
    header: dict[str, Any]
    events: tuple[Event, ...]
    cut: bool = False

    @property
    def tokens(self) -> tuple[TokenEvent, ...]:
        """The events of the reply's tokens."""
        return tuple(event for event in self.events if isinstance(event, TokenEvent))


def read_trace(path: Path) -> Trace:
    """Read what a `TraceWriter` wrote.

    Raises:
        ConfigError: it is not a trace, one of a later format, or a line is damaged: which, and how.
        OSError: it cannot be read.
    """
    return parse_trace(path.read_bytes(), str(path))


def parse_trace(data: bytes, name: str) -> Trace:
    """Read what a `TraceWriter` wrote, from memory.

    Args:
        data: the content of a trace's file.
        name: what errors call it.

    Raises:
        ConfigError: as for `read_trace`.
    """
    *lines, rest = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not lines:
        raise ConfigError(f"{name} is not a trace: its first line must describe the run")
    version, header = _header(name, lines[0])
    events = []
    for number, line in enumerate(lines[1:], 2):
        try:
            events.append(_event(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{name}: line {number} is not a trace event: {_reason(error)}") from error
    try:
        events += [_event(json.loads(rest))] if rest else []
    except (ValueError, RecursionError):
        return Trace(version=version, header=header, events=tuple(events), cut=True)
    return Trace(version=version, header=header, events=tuple(events))


def _header(name: str, line: bytes) -> tuple[int, dict[str, Any]]:
    """The version and the facts of the first line."""
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or not header.keys() & {"format", "model"}:
        raise ConfigError(f"{name} is not a trace: its first line must describe the run")
    named = header.pop("format", f"{_FORMAT}0")
    number = named.removeprefix(_FORMAT) if isinstance(named, str) else ""
    if not number.isdecimal() or named == number:
        raise ConfigError(f"{name} is not a trace: its format is {named!r}")
    if int(number) > VERSION:
        raise ConfigError(f"{name} has the format {named!r}: this version of the program reads up to {VERSION}")
    return int(number), header


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "it is not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)


_EVENTS: dict[str | None, type] = {"end": TokenEvent, **{name: kind for kind, name in _KINDS.items()}}


def _event(record: Any) -> Event:
    """An event from its record; the inverse of `as_record`.

    Raises:
        ValueError: it is none: why.
    """
    if not isinstance(record, dict):
        raise ValueError("it is not an object")
    name = record.get("event", "end" if "origin" in record else None)
    if not isinstance(name, str | None) or name not in _EVENTS:
        raise ValueError("it has neither an origin nor an event" if name is None else f"event {name!r} is not known")
    event: Event = _object("", record, _EVENTS[name])
    return event


def _object(name: str, value: Any, kind: type) -> Any:
    """A tuple with named fields, or a dataclass, from the fields of a JSON object; others are left out."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {value!r}: it must be an object")
    hints = get_type_hints(kind)
    given = {field: _value(field, value[field], hint) for field, hint in hints.items() if field in value}
    optional = getattr(kind, "_field_defaults", {})
    missing = [field for field in hints if field not in given and field not in optional]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return kind(**given)


def _value(name: str, value: Any, hint: Any) -> Any:
    """A value of a type that events have, from JSON."""
    if isinstance(hint, UnionType):  # T | None
        kinds = get_args(hint)
        return None if value is None and NoneType in kinds else _value(name, value, kinds[0])
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{name} is {value!r}: it must be a list")
        return tuple(_value(name, each, get_args(hint)[0]) for each in value)
    if issubclass(hint, StrEnum):
        if value not in tuple(hint):
            raise ValueError(f"{name} is {value!r}: it must be one of {', '.join(hint)}")
        return hint(value)
    if hint in _SCALARS:
        return _scalar(name, value, hint)
    return _object(name, value, hint)


_SCALARS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def _scalar(name: str, value: Any, kind: type) -> Any:
    if kind is float and (type(value) is int or value in ("inf", "-inf", "nan")):
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError(f"{name} is too great: it must be a number up to 1.8e308") from error
    if type(value) is not kind:
        raise ValueError(f"{name} is {value!r}: it must be {_SCALARS[kind]}")
    return value
