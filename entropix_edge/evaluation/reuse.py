"""A policy's recorded replies as those of the same policy with the check, where the check corrects nothing.

Until its first correction `greedy+check` is greedy, and `self-consistency:8+check` draws what `self-consistency:8`
draws. In a recording, whose replies do not depend on what is decoded beside them (`Run.record`), replies without one
are the same, bit for bit, so that only the others are to be decoded.
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
    from ..engine import Engine
    from .policies import Policy
    from .records import Candidate, Record
    from .run import Question

_OF_THE_POLICY = {"edge"}
"""Settings that may differ: a plain sampler goes by no thresholds."""


def can_reuse(policy: Policy) -> bool:
    """Whether it is another policy with the check, and otherwise the same: a plain sampler checks nothing by itself."""
    return policy.check is True and policy.sampler != "entropix"


def is_left_alone(candidate: Candidate, rule: CheckRule, vocabulary: Vocabulary) -> bool:
    """Whether the check would correct nothing in a recorded reply that was begun by the model.

    Args:
        candidate: one that was generated without the check.
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


def left_alone(path: Path, settings: Mapping[str, Any], asked: Iterable[Question], engine: Engine) -> Iterator[Record]:
    """Records for the questions that a recording without the check answers already.

    Args:
        path: of the recording.
        settings: of the one that takes them.
        asked: questions of policies that `can_reuse` another one's.
        engine: with the model that both are of.

    Raises:
        ConfigError: the recording is of other settings, or holds nothing of these policies without the check.
        OSError: it cannot be read.
    """
    found, records = read_recording(path)
    for key in sorted((settings.keys() | found.keys()) - _OF_THE_POLICY):
        if found.get(key) != settings.get(key):
            raise ConfigError(f"{path} was recorded with {key} {found.get(key)!r}: it must be {settings.get(key)!r}")
    known = {record.key: record for record in records if record.candidates}
    asked = list(asked)
    wanted = dict.fromkeys(question.policy.unchecked for question in asked)
    missing = [name for name in wanted if name not in {policy for policy, _problem, _seed in known}]
    if missing:
        raise ConfigError(f"{path} holds no reply of {' and '.join(missing)}")
    for question in asked:
        policy = question.policy
        record = known.get((policy.unchecked, question.problem.id, question.seed))
        rule = engine.fits.preset_of(policy.config()).check
        if record and all(is_left_alone(each, rule, engine.model.vocabulary) for each in record.candidates):
            yield replace(record, result=replace(record.result, policy=policy.name))
