"""What evaluations and calibrations found, as figures. All are drawn within `render.canvas.drawing`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..confidence import QUANTILES, read_fits
from ..config import DEFAULT_PRESET
from ..encoding import decode_text
from ..errors import ConfigError, ModelError
from ..render import charts
from ..render.canvas import new_axes, new_figure
from ..storage import LogFormat, read_log
from ..strategy import load_preset, read_fitted, thresholds
from ..text import check_extractor
from .calibration import DECILES, deciles, fit, is_record, read_deciles, read_record
from .comparison import compare
from .escalation import escalate
from .fitting import bins, left_out, risk_coverage
from .judged import judged_answers
from .replay import SUBSETS, ballot, check_feature, pools, rule, tally
from .results import read_results
from .samples import read_samples
from .statistics import paired_difference, wilson
from .summary import summarise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ..render.canvas import Axes, Figure
    from .replay import Pool
    from .samples import Sample

_ANY = LogFormat("results file or a recording", dict, dict)


def accuracy(paths: Sequence[Path]) -> Figure:
    """Accuracy against decoded tokens: a point a policy of results, one a stopping rule of recordings.

    Raises:
        ConfigError: a file holds something else, or no answer.
        OSError: it cannot be read.
    """
    points: list[charts.Point] = []
    recorded = [path for path in paths if _is_recording(path)]
    if recorded:
        rows = compare(pools(_samples(recorded)), (), [ballot("equal")], subsets=SUBSETS)
        points += [charts.Point(row.policy, _rule(row.rule), row.decoded_tokens, row.accuracy) for row in rows]
    for path in paths:
        if path not in recorded:
            results = read_results(path)[1]
            if not results:
                raise ConfigError(f"{path} has no answer: there is nothing to draw")
            points += [charts.Point(row.policy, "", row.decoded_tokens, row.accuracy) for row in summarise(results)]
    figure, axes = new_axes(7.6, 4.4)
    charts.accuracy(axes, points)
    return figure


def gains(paths: Sequence[Path], baseline: str) -> Figure:
    """What each policy gains over one of them, on the problems that both answered, against what it costs beside it.

    Args:
        paths: of results and recordings of one model.
        baseline: the policy that gains are over.

    Raises:
        ConfigError: a file holds something else, or no answer of that policy.
        OSError: it cannot be read.
    """
    figure, axes = new_axes(7.6, 4.4)
    charts.gains(axes, gain_points(paths, baseline), baseline)
    return figure


def gain_points(paths: Sequence[Path], baseline: str) -> list[charts.Point]:
    """The points of `gains`."""
    found = _answers(paths)
    if (baseline, "") not in found:
        known = ", ".join(dict.fromkeys(policy for policy, _label in found))
        raise ConfigError(f"no answer of policy {baseline!r} is in these files: there are those of {known or 'nobody'}")
    others = found.pop((baseline, ""))
    points = []
    for (policy, label), own in found.items():
        both = sorted(own.keys() & others.keys())
        if both:
            ours, theirs = (np.array([each[problem] for problem in both]) for each in (own, others))
            cost = float(ours[:, 1].sum() / theirs[:, 1].sum())
            gained = paired_difference(ours[:, 0], theirs[:, 0])
            points.append(charts.Point(f"{policy} ({len(both)})", label, cost, gained))
    return points


_Answers = dict[str, tuple[float, float]]
"""By problem: whether, or how often, it was answered right, and the tokens that were decoded for that."""


def _answers(paths: Sequence[Path]) -> dict[tuple[str, str], _Answers]:
    """The answers of each policy and number of candidates, and of votes that stop when one answer is two ahead."""
    found: dict[tuple[str, str], _Answers] = {}
    recorded = [path for path in paths if _is_recording(path)]
    for path in paths:
        if path not in recorded:
            for result in read_results(path)[1]:
                own = found.setdefault((result.policy, ""), {})
                own.setdefault(result.problem, (float(result.right), float(result.decoded_tokens)))
    for pool in pools(_samples(recorded)) if recorded else ():
        rules = [("fixed:1", pool.policy, "")]
        if pool.most > 1:
            rules = [(f"fixed:{count}", pool.policy, str(count)) for count in range(1, pool.most + 1)]
            rules.append((f"ahead:{pool.most}", f"{pool.policy}, two ahead", ""))
        for name, policy, label in rules:
            counted = tally(pool, rule(name), ballot("equal"))
            own = found.setdefault((policy, label), {})
            for problem, right, decoded in zip(counted.problems, counted.right, counted.decoded, strict=True):
                own.setdefault(problem, (float(right), float(decoded)))
    return found


def _is_recording(path: Path) -> bool:
    """Whether it is a recording or a summary of one, and not a file of results."""
    settings, records = read_log(path, _ANY)
    return "summary_of" in settings or any("result" in record for record in records[:1])


def _rule(name: str) -> str:
    return name.removeprefix("fixed:")


def _samples(paths: Sequence[Path]) -> list[Sample]:
    for path in paths:
        if not _is_recording(path):
            raise ConfigError(f"{path} has no candidates: give a recording, or a summary of one")
    samples = [sample for path in paths for sample in read_samples(path)]
    if not samples:
        raise ConfigError(f"{paths[0]} has no answer: there is nothing to draw")
    return samples


# --- confidence ---------------------------------------------------------------------------------------


def reliability(paths: Sequence[Path], policy: str | None = None, extractor: str | None = None) -> Figure:
    """How often answers are right that are given some probability, by fits that they were left out of.

    Args:
        paths: of recordings of one model.
        policy: whose answers; None for the only one.
        extractor: that found them, where the recording does not say.

    Raises:
        ConfigError: a file holds something else, or too few answers.
        OSError: it cannot be read.
    """
    figure, axes = new_axes(4.6, 4.2)
    draw_reliability(axes, *_probabilities(paths, policy, extractor))
    return figure


def coverage(paths: Sequence[Path], policy: str | None = None, extractor: str | None = None) -> Figure:
    """How many answers are right when only the surest are given, with intervals. Arguments as of `reliability`."""
    figure, axes = new_axes(4.6, 4.2)
    draw_coverage(axes, *_probabilities(paths, policy, extractor))
    return figure


def draw_reliability(axes: Axes, probabilities: npt.ArrayLike, right: npt.ArrayLike) -> None:
    """Draw how often answers are right that were given some probability, with Wilson's intervals."""
    rows = bins(probabilities, right)
    charts.reliability(axes, rows, [wilson(share * count, int(count)) for _mean, share, count in rows])


def draw_coverage(axes: Axes, probabilities: npt.ArrayLike, right: npt.ArrayLike) -> None:
    """Draw how many answers are right when only the surest are given, with Wilson's intervals."""
    rows = risk_coverage(probabilities, right)
    intervals = [wilson(min(share * count, count), count) for count, share in enumerate(rows[:, 1].tolist(), 1)]
    charts.coverage(axes, rows, intervals)


def _probabilities(
    paths: Sequence[Path], policy: str | None, extractor: str | None
) -> tuple[npt.ArrayLike, npt.ArrayLike]:
    recorded = judged_answers(_samples(paths), policy)
    kind = recorded.source.get("extractor") or extractor
    if kind is None:
        raise ConfigError("the recording does not say of which kind its answers are: name the extractor")
    check_extractor(str(kind))
    return left_out(recorded.answers, str(kind))


def escalation(paths: Sequence[Path], larger: Path, policy: str | None, feature: str) -> Figure:
    """What asking a larger model for the least sure replies gives and costs.

    Args:
        paths: of recordings of the model that answers first.
        larger: of a recording of the other one on the same problems.
        policy: whose answers; None for the only one.
        feature: that tells how sure a reply is, a name in `SIGNS`.

    Raises:
        ConfigError: a file holds something else, or the two have no problem in common.
        OSError: it cannot be read.
    """
    first = _pool(pools(_samples(paths)), policy)
    second = _pool(pools(_samples([larger])), first.policy)
    rows = escalate(first, second, check_feature(feature))
    figure, axes = new_axes()
    charts.escalation(axes, [row.seconds for row in rows], [row.accuracy for row in rows])
    return figure


def _pool(found: Sequence[Pool], name: str | None) -> Pool:
    chosen = [pool for pool in found if name in (None, pool.policy)]
    if len(chosen) != 1:
        known = ", ".join(pool.policy for pool in found)
        raise ConfigError(f"policy is {name!r}: it must be one of those in the recording, {known}")
    return chosen[0]


# --- calibration --------------------------------------------------------------------------------------


def quantiles(path: Path) -> Figure:
    """The quantiles that a calibration found: of tokens with the thresholds, or of replies' mean entropies.

    Args:
        path: of a file that a calibration wrote, or of the record of one under way.

    Raises:
        ConfigError: the file holds none.
        OSError: it cannot be read.
    """
    if is_record(path):
        return _so_far(path)
    text = decode_text(path.read_bytes(), str(path))
    found = read_deciles(text)
    if not found:
        return _rank(path, text)
    try:
        limits = thresholds(read_fitted(text))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return _of_tokens(found, limits)


def _so_far(path: Path) -> Figure:
    """What was measured before a calibration was interrupted, with what would be fitted to that."""
    replies = read_record(path)
    observations = [each for reply in replies for each in reply]
    if not observations:
        raise ConfigError(f"{path} has no reply yet: there is nothing to draw")
    try:
        limits = thresholds(fit(observations, load_preset(DEFAULT_PRESET)))
    except ModelError:  # too few tokens
        limits = {}
    figure = _of_tokens(deciles(observations), limits)
    figure.suptitle(f"Not finished: {len(replies)} replies, {len(observations)} tokens so far")
    return figure


def _of_tokens(found: Mapping[str, Sequence[float]], limits: Mapping[str, float]) -> Figure:
    figure = new_figure(10, 4.4)
    for axes, quantity, unit in zip(figure.subplots(1, 2), ("entropy", "varentropy"), ("bits", "bits²"), strict=True):
        shown = {name: found[name] for name in (quantity, f"attention_{quantity}") if name in found}
        charts.quantiles(axes, DECILES, {name.replace("_", " "): row for name, row in shown.items()}, unit)
        own = {key: value for key, value in limits.items() if key.split(".")[1].startswith(f"{quantity}_")}
        charts.thresholds(axes, own)
    return figure


def _rank(path: Path, text: str) -> Figure:
    try:
        rank = read_fits(text).rank
    except ConfigError as error:
        raise ConfigError(f"{path} holds no quantiles of a calibration: {error}") from error
    if rank is None:
        raise ConfigError(f"{path} holds no quantiles of a calibration")
    figure, axes = new_axes()
    values = {f"the first {length} tokens": row for length, row in zip(rank.lengths, rank.bounds, strict=True)}
    charts.quantiles(axes, QUANTILES, values, "mean entropy of a reply, bits")
    return figure
