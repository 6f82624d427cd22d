"""The results file: one JSON line a finished problem, so that a killed run goes on where it was."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from ..storage import Log, LogFormat, read_log

if TYPE_CHECKING:
    from collections.abc import Mapping
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
        decoded_tokens: all that were decoded beyond the prompt: candidates, branches and rejected draws too.
        cut: whether the length limit ended the reply.
        seconds: of the run, since the result before it; their sum is the wall time.
        candidates: answer, confidence and decoded tokens of each candidate, where there were several.
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
    candidates: tuple[tuple[str | None, float, int], ...] = ()
    error: str | None = None
    text: str | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """What it answers."""
        return self.policy, self.problem, self.seed


def open_results(path: Path, settings: Mapping[str, Any]) -> Log[Result]:
    """The results in a file, which take new ones; the file is made where there is none.

    Args:
        path: of the file.
        settings: what a result depends on; those in the file must be the same.

    Raises:
        ConfigError: the file holds something else, or results of other settings.
        OSError: it cannot be read or written.
    """
    return Log(path, _FORMAT, settings)


def read_results(path: Path) -> tuple[dict[str, Any], list[Result]]:
    """The settings and results of a file.

    Raises:
        ConfigError: the file holds something else.
        OSError: it cannot be read.
    """
    return read_log(path, _FORMAT)


def parse_result(record: dict[str, Any]) -> Result:
    """A result from its JSON; raises what `LogFormat.parse` may."""
    unknown = record.keys() - {field.name for field in fields(Result)}
    if len(unknown) == 1:  # the files of version 0.1 have another name for the candidates
        record["candidates"] = record.pop(unknown.pop())
    return Result(**record | {"candidates": tuple(map(tuple, record.get("candidates", ())))})


def form_result(result: Result) -> dict[str, Any]:
    """A result's fields, without those that have nothing to say."""
    return {name: value for name, value in asdict(result).items() if value not in (None, ()) or name == "found"}


_FORMAT = LogFormat("results file", parse_result, form_result)
