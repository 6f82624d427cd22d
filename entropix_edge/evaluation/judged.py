"""Answers that were judged, out of recordings: what a confidence is fitted to, and for whom the fit holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, NamedTuple

from ..confidence import policy_name
from ..errors import ConfigError
from ..strategy import load_fitted, load_preset
from .fitting import LEAST_PROBLEMS, Judged, fit_answers, judged, voted
from .policies import policy
from .replay import ballot, pools

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from ..confidence import Fit
    from ..config import Preset
    from .policies import Policy
    from .samples import Sample


class Recorded(NamedTuple):
    """The judged answers of one policy in some recordings.

    Attributes:
        answers: one a problem, of those that have one.
        source: what the recordings depend on.
        policy: that gave the answers.
        problems: how many were asked.
    """

    answers: list[Judged]
    source: Mapping[str, Any]
    policy: Policy
    problems: int


def judged_answers(samples: Sequence[Sample], name: str | None = None) -> Recorded:
    """The answers of one policy.

    Args:
        samples: of recordings of one model, whose other settings are the same.
        name: of the policy; None for the only one.

    Raises:
        ConfigError: there is no such policy, or several and none is named; or the settings differ.
    """
    found = {pool.policy: pool for pool in pools(samples)}
    if name is None and len(found) == 1:
        name = next(iter(found))
    if name is None or name not in found:
        which = f"those of policy {name!r} are not among them" if name else "name the policy whose answers are meant"
        raise ConfigError(f"these are answers of {', '.join(found) or 'nobody'}: {which}")
    problems = found[name].problems
    source = next(iter(problems.values()))[0].source
    for each in problems.values():
        for key in ("fingerprint", "edge", "template", "extractor", "n_predict"):
            if each[0].source.get(key) != source.get(key):
                raise ConfigError(f"these recordings differ in {key}: {source.get(key)!r}, {each[0].source.get(key)!r}")
    rule = policy(name)
    if rule.voting.candidates == 1:
        return Recorded([one for each in problems.values() for one in judged(each[:1])], source, rule, len(problems))
    count = ballot("confidence" if rule.voting.weighted else "equal")
    votes = [voted(each, count.winner(each)) for each in problems.values()]
    return Recorded([vote for vote in votes if vote], source, rule, len(problems))


def fit_recorded(
    recorded: Recorded, folder: Path | None, *, answer: str | None = None, least: int = LEAST_PROBLEMS
) -> Fit:
    """A fit to recorded answers.

    Args:
        recorded: the answers.
        folder: of the user's fitted presets, from which the policy may have its thresholds.
        answer: the extractor that found them, where the recording does not say.
        least: how many problems are enough.

    Raises:
        ConfigError: they are too few, or of an unknown kind, or the model's thresholds are other ones by now.
    """
    if recorded.problems < least:
        raise ConfigError(
            f"{recorded.problems} problems are too few to fit a confidence to: it must be {least} at least"
        )
    kind = recorded.source.get("extractor") or answer
    if kind is None:
        raise ConfigError("the recording does not say of which kind its answers are: name the extractor")
    if answer is not None and kind != answer:
        raise ConfigError(f"the recording's answers are of kind {kind!r}, not {answer!r}")
    preset = _preset(recorded, folder)
    name = policy_name(recorded.policy.sampler, recorded.policy.config().in_effect(preset))
    if recorded.policy.voting.candidates > 1:
        name = f"{name}, {recorded.policy.voting.name}"
    found = fit_answers(recorded.answers, answer=str(kind), policy=name)
    return replace(found, tasks=str(recorded.source.get("tasks") or ""))


def _preset(recorded: Recorded, folder: Path | None) -> Preset:
    """The table that the answers were given by.

    Raises:
        ConfigError: the model's thresholds are other ones by now.
    """
    named = recorded.policy.preset
    if not isinstance(named, str):
        return named
    preset = load_preset(named)
    if named != "edge":
        return preset
    preset = load_fitted(str(recorded.source.get("fingerprint")), folder) or preset
    known = recorded.source.get("edge")
    if known and known != hashlib.sha256(json.dumps(asdict(preset), sort_keys=True).encode()).hexdigest()[:12]:
        raise ConfigError("the answers were given with other thresholds than the model's present ones: record anew")
    return preset
