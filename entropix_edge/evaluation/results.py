"""The results file: one JSON line a finished problem, so that a killed run goes on where it was."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One problem answered by one policy with one seed.

    Attributes:
        problem: its id.
        policy: its name.
        seed: of the draws.
        right: whether the answer was right.
        found: the answer that was found, None where there was none.
        gold: the answer that is right.
        written_tokens: of the reply that was chosen.
        decoded_tokens: all that were decoded beyond the prompt: roads, branches and rejected draws too.
        cut: whether the length limit ended the reply.
        seconds: of the run, since the result before it; their sum is the wall time.
        roads: answer, confidence and decoded tokens of each road, where there were several.
        error: why there is no reply, None where there is one.
        text: the reply, where it was asked to be kept.
    """

    problem: str
    policy: str
    seed: int
    right: bool
    found: str | None
    gold: str
    written_tokens: int
    decoded_tokens: int
    cut: bool
    seconds: float
    roads: tuple[tuple[str | None, float, int], ...] = ()
    error: str | None = None
    text: str | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """What it answers."""
        return self.policy, self.problem, self.seed


class ResultFile:
    """Results on disk: what is there is read, what is new is appended.

    Args:
        path: of the file; made where there is none.
        settings: what a result depends on; those in the file must be the same.

    Raises:
        ConfigError: the file holds something else, or results of other settings.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.results: list[Result] = []
        whole = 0
        if path.exists() and path.stat().st_size:
            whole, self.results = _read(path, settings)
        self._file: TextIO = path.open("r+" if whole else "w", encoding="utf-8")
        self._file.seek(whole)
        self._file.truncate()  # a line that a kill cut short
        if not whole:
            self._write({"settings": settings})

    def add(self, result: Result) -> None:
        """Append one result, and hand it to the system at once."""
        self.results.append(result)
        self._write(
            {name: value for name, value in asdict(result).items() if value not in (None, ()) or name == "found"}
        )

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_results(path: Path) -> tuple[dict[str, Any], list[Result]]:
    """The settings and results of a file.

    Raises:
        ConfigError: the file holds something else.
        OSError: it cannot be read.
    """
    lines = _lines(path)
    return _settings(path, lines), [_result(path, line) for line in lines[1:]]


def _lines(path: Path) -> list[str]:
    """Its whole lines."""
    try:
        return path.read_bytes().rpartition(b"\n")[0].decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no results file: it is not UTF-8 text") from error


def _read(path: Path, settings: dict[str, Any]) -> tuple[int, list[Result]]:
    lines = _lines(path)
    found = _settings(path, lines)
    for name, value in settings.items():
        if found.get(name) != value:
            raise ConfigError(
                f"{path} holds results with {name} {found.get(name)!r}, and this run has {value!r}: "
                "give another --out, or the same settings"
            )
    return sum(len(line.encode()) + 1 for line in lines), [_result(path, line) for line in lines[1:]]


def _settings(path: Path, lines: list[str]) -> dict[str, Any]:
    try:
        record = json.loads(lines[0])
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
        raise ConfigError(f"{path} is no results file: its first line must hold the settings")
    settings: dict[str, Any] = record["settings"]
    return settings


def _result(path: Path, line: str) -> Result:
    try:
        record = json.loads(line)
        record["roads"] = tuple(tuple(road) for road in record.get("roads", ()))
        return Result(**record)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} holds a line that is no result: {line[:60]!r}") from error
