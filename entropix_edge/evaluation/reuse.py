"""Greedy's recorded replies as those of greedy with the check, where the check corrects nothing.

Until its first correction `greedy+check` is greedy. In a recording, whose replies do not depend on what is decoded
beside them (`Run.record`), a reply without one is greedy's own, bit for bit, so that only the others are to be decoded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..decoding import NumberWatch
from ..errors import ConfigError
from .records import read_recording

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from ..config import CheckRule
    from ..decoding import Vocabulary
    from .records import Candidate, Record
    from .run import Question

_OF_THE_POLICY = {"edge"}
"""Settings that may differ: greedy goes by no thresholds."""


def is_left_alone(candidate: Candidate, rule: CheckRule, vocabulary: Vocabulary) -> bool:
    """Whether the check would correct nothing in a recorded reply that was begun by the model.

    Args:
        candidate: greedy's.
        rule: which numbers are checked.
        vocabulary: of the model.
    """
    written: list[int] = []
    watch = NumberWatch(rule, vocabulary, written)
    for token, entropy in zip(candidate.tokens.id.tolist(), candidate.tokens.entropy.tolist(), strict=True):
        if watch.wrong_number(token):
            return False
        written.append(token)
        watch.see(entropy)
    return True


def left_alone(
    path: Path, settings: Mapping[str, Any], asked: Iterable[Question], rule: CheckRule, vocabulary: Vocabulary
) -> Iterator[Record]:
    """Records for the questions that greedy's recording answers already.

    Args:
        path: of a recording of `greedy`.
        settings: of the recording that takes them.
        asked: questions of one policy, greedy with the check.
        rule: of that policy.
        vocabulary: of the model.

    Raises:
        ConfigError: the recording is of other settings, or holds nothing of greedy.
        OSError: it cannot be read.
    """
    found, records = read_recording(path)
    for key in sorted((settings.keys() | found.keys()) - _OF_THE_POLICY):
        if found.get(key) != settings.get(key):
            raise ConfigError(f"{path} was recorded with {key} {found.get(key)!r}: it must be {settings.get(key)!r}")
    greedy = {(record.result.problem, record.result.seed): record for record in records if _is_greedy(record)}
    if not greedy:
        raise ConfigError(f"{path} holds no reply of greedy")
    for question in asked:
        record = greedy.get((question.problem.id, question.seed))
        if record and is_left_alone(record.candidates[0], rule, vocabulary):
            yield replace(record, result=replace(record.result, policy=question.policy.name))


def _is_greedy(record: Record) -> bool:
    return record.result.policy == "greedy" and len(record.candidates) == 1
