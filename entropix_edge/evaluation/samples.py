"""Summaries of recordings: a line a candidate, small enough to be committed, enough to count votes again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..storage import LogFormat, json_line, read_log, write_log
from .features import SIGNS, features
from .records import read_recording
from .results import parse_result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .records import Record
    from .results import Result

_FIGURES = 4  # significant, of a feature


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One candidate, without its tokens.

    Attributes:
        problem: its id.
        policy: what generated it.
        seed: of the problem's run.
        number: its place among that run's candidates.
        answer: the one that was found in it, None where there is none.
        right: whether the answer is right.
        finish: why it ended, None where it was given up.
        written_tokens: of its text.
        decoded_tokens: what it cost beyond the prompt.
        seconds: its share of the wall time.
        features: see `features.SIGNS`.
        source: what the recording it comes from depends on.
    """

    problem: str
    policy: str
    seed: int
    number: int
    answer: str | None
    right: bool
    finish: str | None
    written_tokens: int
    decoded_tokens: int
    seconds: float
    features: Mapping[str, float]
    source: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def votes(self) -> bool:
        """Whether it has a vote: it came to an end of its own, with an answer."""
        return self.answer is not None and self.finish == "stop"


def samples_of(record: Record, source: Mapping[str, Any]) -> list[Sample]:
    """The candidates of a record."""
    return [
        Sample(
            problem=record.result.problem,
            policy=record.result.policy,
            seed=record.result.seed,
            number=number,
            answer=candidate.answer,
            right=candidate.right,
            finish=candidate.finish,
            written_tokens=candidate.written_tokens,
            decoded_tokens=candidate.decoded_tokens,
            seconds=candidate.seconds,
            features=features(candidate),
            source=source,
        )
        for number, candidate in enumerate(record.candidates)
    ]


def read_samples(path: Path) -> list[Sample]:
    """The candidates of a recording, of a summary, or of the results of policies with several.

    Raises:
        ConfigError: the file holds something else.
        OSError: it cannot be read.
    """
    settings, lines = read_log(path, _LINES)
    try:
        if "summary_of" in settings:
            return [_sample(line, settings) for line in lines]
        if any("gold" in line for line in lines):
            return [sample for line in lines for sample in _samples_of_result(parse_result(line), settings)]
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ConfigError(f"{path} has a line that is not a candidate's: {error!r}") from error
    source, records = read_recording(path)
    return [sample for record in records for sample in samples_of(record, source)]


def write_summary(path: Path, samples: Sequence[Sample]) -> None:
    """Write the samples to a file, at once.

    Raises:
        OSError: it cannot be written.
    """
    sources: list[Mapping[str, Any]] = []
    for sample in samples:
        if sample.source not in sources:
            sources.append(sample.source)
    measured = [name for name in SIGNS if any(not math.isnan(sample.features[name]) for sample in samples)]
    head = {"settings": {"summary_of": sources, "features": measured}}
    write_log(path, [json_line(head), *(json_line(_form(sample, sources, measured)) for sample in samples)])


def _form(sample: Sample, sources: Sequence[Mapping[str, Any]], measured: Sequence[str]) -> dict[str, Any]:
    return {
        "source": sources.index(sample.source),
        "problem": sample.problem,
        "policy": sample.policy,
        "seed": sample.seed,
        "number": sample.number,
        "answer": sample.answer,
        "right": sample.right,
        "finish": sample.finish,
        "written_tokens": sample.written_tokens,
        "decoded_tokens": sample.decoded_tokens,
        "seconds": round(sample.seconds, 2),
        "features": [_plain(sample.features[name]) for name in measured],
    }


def _plain(value: float) -> float | None:
    """So many significant figures; None for what JSON cannot say."""
    return float(f"{value:.{_FIGURES}g}") if math.isfinite(value) else None


def _sample(line: dict[str, Any], settings: Mapping[str, Any]) -> Sample:
    values = dict(zip(settings["features"], line["features"], strict=True))
    known = {name: math.nan if values.get(name) is None else float(values[name]) for name in SIGNS}
    return Sample(**line | {"source": settings["summary_of"][line["source"]], "features": known})


def _samples_of_result(result: Result, source: Mapping[str, Any]) -> list[Sample]:
    """What a result keeps of its candidates: answers, confidence and costs; those without an answer have no vote."""
    samples = []
    for number, (answer, confidence, decoded) in enumerate(result.candidates):
        known = {"mean_entropy": -math.log2(confidence)} if confidence > 0 else {}
        samples.append(
            Sample(
                problem=result.problem,
                policy=result.policy,
                seed=result.seed,
                number=number,
                answer=answer,
                right=answer == result.gold,
                finish="stop" if answer is not None else None,
                written_tokens=decoded,
                decoded_tokens=decoded,
                seconds=math.nan,
                features=dict.fromkeys(SIGNS, math.nan) | known,
                source=source,
            )
        )
    return samples


def _line(line: dict[str, Any]) -> dict[str, Any]:
    return {} if "result" in line else dict(line)  # a recording's, which is read as that


_LINES = LogFormat("recording, a summary of one, or a results file", _line, dict)
