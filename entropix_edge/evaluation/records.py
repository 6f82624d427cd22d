"""Recordings: every reply and candidate with what was measured at each of its tokens, so that votes need no decoding.

One line a problem, each a gzip member of its own (see `storage.Log`); a column of numbers for each quantity rather than
an object for each token, and one number for a column that never changes. Some 4.5 KB a candidate, 7.5 with attention.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..config import MOST_ALTERNATIVES
from ..storage import Log, LogFormat, read_log
from ..types import BranchEvent, CorrectionEvent, FinishReason, RejectedEvent, RewindEvent
from .results import form_result, parse_result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ..engine import Reply
    from ..text import Found
    from ..types import TokenEvent
    from .results import Result

    Column = npt.NDArray[np.float32]

ALTERNATIVES = MOST_ALTERNATIVES
"""How many alternatives the replies to be recorded must name; a rank beyond is recorded as this number."""

_ORIGINS = {"sampled": "s", "forced": "f", "branch": "b"}
_DECIMALS = 4


class Tokens(NamedTuple):
    """A candidate's tokens: arrays of shape (tokens,).

    Attributes:
        id: in the model's vocabulary; int32.
        chars: how many characters each added to the text; int32.
        logprob: natural logarithm of its probability, at temperature 1.
        entropy: of the distribution that it was taken from, in bits.
        varentropy: of the same, in bits².
        best: logprob of the most probable token.
        gap: how far the second lies below the best, in nats.
        second: id of the second; int32.
        rank: how many tokens were more probable; 20 stands for 20 or more; int32.
        origin: one letter a token: sampled, forced or branch.
        attention_entropy: in bits, NaN where it was not measured. So are the others.
        attention_varentropy: in bits².
        agreement: see `AttentionMetrics`.
        interaction_strength: see `AttentionMetrics`.
    """

    id: npt.NDArray[np.int32]
    chars: npt.NDArray[np.int32]
    logprob: Column
    entropy: Column
    varentropy: Column
    best: Column
    gap: Column
    second: npt.NDArray[np.int32]
    rank: npt.NDArray[np.int32]
    origin: str
    attention_entropy: Column
    attention_varentropy: Column
    agreement: Column
    interaction_strength: Column


_WHOLE = {"id", "chars", "second", "rank"}
_ATTENTION = Tokens._fields[-4:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One whole reply.

    Attributes:
        seed: of its draws.
        finish: why it ended; None where it was given up.
        text: what it says.
        answer: the one that was found in it, None where there is none.
        span: where the answer stands in the text, None where there is none.
        right: whether the answer is right.
        decoded_tokens: what it cost beyond the prompt: rewound tokens and branches that were not kept too.
        rewound: tokens that were decoded and taken back.
        rejected: draws that were not taken.
        unkept: tokens of branches that were not kept.
        corrections: where each began, the expression, the number that stood there, and the one that stands there now;
            what they took back is among the rewound tokens.
        seconds: its share of the wall time: of each decode as much as it had tokens in it. Prompts are left out.
        tokens: what was measured.
    """

    seed: int
    finish: FinishReason | None
    text: str
    answer: str | None
    span: tuple[int, int] | None
    right: bool
    decoded_tokens: int
    rewound: int
    rejected: int
    unkept: int
    seconds: float
    tokens: Tokens
    corrections: tuple[tuple[int, str, str, str], ...] = ()

    @property
    def written_tokens(self) -> int:
        """Tokens of its text."""
        return len(self.tokens.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One problem answered once, with all the candidates for it.

    Attributes:
        result: what came of it.
        prompt_tokens: how many tokens the prompt was.
        candidates: in the order in which they were begun; a policy of one reply has one.
    """

    result: Result
    prompt_tokens: int = 0
    candidates: tuple[Candidate, ...] = ()

    @property
    def key(self) -> tuple[str, str, int]:
        """As `Result.key`."""
        return self.result.key


# --- made from replies ----------------------------------------------------------------------------


def candidate_of(reply: Reply, found: Found | None, *, right: bool, seconds: float) -> Candidate:
    """What is kept of a reply whose events name `ALTERNATIVES` alternatives.

    Args:
        reply: a finished one, or what there is of one that was given up.
        found: the answer in it.
        right: whether that is right.
        seconds: see `Candidate`.
    """
    side = reply.side_events
    return Candidate(
        seed=reply.seed,
        finish=reply.finish_reason,
        text=reply.text,
        answer=found.answer if found else None,
        span=(found.start, found.end) if found else None,
        right=right,
        decoded_tokens=reply.decoded_tokens,
        rewound=sum(len(event.token_ids) for event in side if isinstance(event, RewindEvent | CorrectionEvent)),
        rejected=sum(isinstance(event, RejectedEvent) for event in side),
        unkept=sum(len(event.token_ids) for event in side if isinstance(event, BranchEvent) and not event.kept),
        seconds=seconds,
        corrections=tuple(
            (event.index, event.expression, event.found, event.right)
            for event in side
            if isinstance(event, CorrectionEvent)
        ),
        tokens=_tokens([event for event in reply.events if event.token_id is not None]),
    )


def _tokens(events: Sequence[TokenEvent]) -> Tokens:
    seen = [event.metrics.attention if event.metrics else None for event in events]
    attention = [each or (np.nan,) * 4 for each in seen]
    alternatives = [event.alternatives for event in events]
    ranks = [
        next((rank for rank, each in enumerate(best) if each.token_id == event.token_id), ALTERNATIVES)
        for event, best in zip(events, alternatives, strict=True)
    ]
    return Tokens(
        id=_whole([event.token_id for event in events]),
        chars=_whole([len(event.text) for event in events]),
        logprob=_column([event.logprob for event in events]),
        entropy=_column([event.metrics.entropy if event.metrics else None for event in events]),
        varentropy=_column([event.metrics.varentropy if event.metrics else None for event in events]),
        best=_column([each[0].logprob for each in alternatives]),
        gap=_column([each[0].logprob - each[1].logprob if len(each) > 1 else np.inf for each in alternatives]),
        second=_whole([each[1].token_id if len(each) > 1 else -1 for each in alternatives]),
        rank=_whole(ranks),
        origin="".join(_ORIGINS[event.origin or "sampled"] for event in events),
        **{name: _column([each[place] for each in attention]) for place, name in enumerate(_ATTENTION)},
    )


def _column(values: Sequence[float | None]) -> Column:
    return np.array(values, np.float32)  # None becomes NaN


def _whole(values: Sequence[int | None]) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


# --- on disk --------------------------------------------------------------------------------------


def open_recording(path: Path, settings: Mapping[str, Any]) -> Log[Record]:
    """The recording in a file, which takes new records; the file is made where there is none.

    Args:
        path: of the file; gzipped where its name ends in `.gz`.
        settings: what a record depends on; those in the file must be the same.

    Raises:
        ConfigError: the file holds something else, or records of other settings.
        OSError: it cannot be read or written.
    """
    return Log(path, _FORMAT, settings)


def read_recording(path: Path) -> tuple[dict[str, Any], list[Record]]:
    """The settings and records of a file.

    Raises:
        ConfigError: the file holds something else.
        OSError: it cannot be read.
    """
    return read_log(path, _FORMAT)


def _form(record: Record) -> dict[str, Any]:
    return {
        "result": form_result(record.result),
        "prompt_tokens": record.prompt_tokens,
        "candidates": [_form_of(candidate) for candidate in record.candidates],
    }


def _form_of(candidate: Candidate) -> dict[str, Any]:
    plain = {each.name: getattr(candidate, each.name) for each in fields(candidate) if each.name != "tokens"}
    return plain | {"seconds": round(candidate.seconds, 4), "tokens": _form_of_tokens(candidate.tokens)}


def _form_of_tokens(tokens: Tokens) -> dict[str, Any]:
    """The columns, without those that were not measured; one value for one that never changes."""
    form: dict[str, Any] = {"count": len(tokens.id)}
    for name, column in tokens._asdict().items():
        if name == "origin":
            form[name] = column[:1] if len(set(column)) == 1 else column
        elif name not in _ATTENTION or not np.isnan(column).all():
            form[name] = _shortened(column.tolist() if name in _WHOLE else _rounded(column))
    return form


def _rounded(column: Column) -> list[float | None]:
    """Four decimals; None for what JSON cannot say."""
    return [round(value, _DECIMALS) + 0.0 if np.isfinite(value) else None for value in column.tolist()]


def _shortened(values: list[Any]) -> Any:
    return values[0] if values and values.count(values[0]) == len(values) else values


def _parse(record: dict[str, Any]) -> Record:
    candidates = tuple(map(_candidate, record["candidates"]))
    return Record(result=parse_result(record["result"]), prompt_tokens=record["prompt_tokens"], candidates=candidates)


def _candidate(form: dict[str, Any]) -> Candidate:
    changed = {
        "finish": FinishReason(form["finish"]) if form["finish"] else None,
        "span": tuple(form["span"]) if form["span"] else None,
        "tokens": _tokens_of(form["tokens"]),
        "corrections": tuple(map(tuple, form.get("corrections", ()))),
    }
    return Candidate(**form | changed)


def _tokens_of(form: dict[str, Any]) -> Tokens:
    count = form["count"]
    columns: dict[str, Any] = {}
    for name in Tokens._fields:
        value: Any = form.get(name)
        if name == "origin":
            columns[name] = value * count if len(value) == 1 else value
        else:
            kind = np.int32 if name in _WHOLE else np.float32
            columns[name] = np.array(value, kind) if isinstance(value, list) else np.full(count, value, kind)
        if len(columns[name]) != count:
            raise ValueError(f"{name} has {len(columns[name])} values for {count} tokens")
    return Tokens(**columns)


_FORMAT = LogFormat("recording", _parse, _form)
