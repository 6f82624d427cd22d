"""Replayed votes to rows: accuracy, cost, and what is gained at equal cost; what each feature tells."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..confidence import VOTE_SIGNS
from .features import SIGNS
from .fitting import voted
from .replay import Ballot, Pool, Rule, Tally, ballot, curve, rule, tally
from .statistics import Interval, auroc, gain_at_equal_cost, mean_interval
from .summary import markdown_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .fitting import Judged
    from .samples import Sample

COLUMNS = ("policy", "rule", "vote", "problems", "accuracy, %", "at equal tokens", "candidates", "decoded", "seconds")
FEATURE_COLUMNS = ("policy", "feature", "surer", "replies", "right, %", "AUROC")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRow:
    """What one rule and one count of votes came to.

    Attributes:
        policy: that gave the candidates.
        rule: when to stop.
        vote: how votes were counted.
        problems: how many.
        accuracy: mean over problems, with a bootstrap over them.
        gain: over fixed numbers of candidates at equal decoded tokens, on the problems that both have; None where
            the rule spends more or less than any of these, or is one of them.
        candidates: looked at, a problem.
        decoded_tokens: for them, a problem.
        seconds: on them, a problem; None where that is not known.
    """

    policy: str
    rule: str
    vote: str
    problems: int
    accuracy: Interval
    gain: Interval | None
    candidates: float
    decoded_tokens: float
    seconds: float | None

    def cells(self) -> tuple[str, ...]:
        """As texts, in the order of `COLUMNS`."""
        return (
            self.policy,
            self.rule,
            self.vote,
            str(self.problems),
            self.accuracy.in_percent(),
            self.gain.difference_in_percent() if self.gain else "",
            f"{self.candidates:.1f}",
            f"{self.decoded_tokens:.0f}",
            "" if self.seconds is None else f"{self.seconds:.1f}",
        )

    def as_record(self) -> dict[str, Any]:
        """Ready for JSON; intervals as value, low, high."""
        return asdict(self)


def default_rules(pool: Pool) -> list[Rule]:
    """Every fixed number of candidates, then the rules that stop by themselves."""
    most = pool.most
    names = [f"fixed:{count}" for count in range(1, most + 1)]
    return [rule(name) for name in (*names, *((f"posterior:{most}", f"ahead:{most}") if most > 2 else ()))]


def compare(
    found: Sequence[Pool],
    rules: Sequence[Rule],
    ballots: Sequence[Ballot],
    *,
    first: Pool | None = None,
    over: Pool | None = None,
    subsets: int,
) -> list[ReplayRow]:
    """A row for each pool, rule and ballot.

    Args:
        found: whose candidates are counted.
        rules: when to stop; none for the default ones of each pool. Those that need more candidates are left out.
        ballots: how to count; the first counts the votes of the curve that gains are over.
        first: see `tally`.
        over: the pool whose fixed numbers of candidates gains are over; None for each one's own.
        subsets: random orders a problem.
    """
    rows = []
    for pool in found:
        points = curve(over or pool, ballots[0], subsets=subsets)
        for count in ballots:
            for each in rules or default_rules(pool):
                counted = tally(pool, each, count, first=first, subsets=subsets)
                if counted.problems:
                    is_a_point = over in (None, pool) and first is None and count is ballots[0]
                    on_curve = is_a_point and each.name.startswith("fixed:")
                    rows.append(_row(counted, None if on_curve else gain(counted, points)))
    return rows


def gain(counted: Tally, points: Sequence[Tally]) -> Interval | None:
    """What a tally is better by than a curve at equal decoded tokens, on the problems that both have."""
    shared = sorted(set(counted.problems).intersection(*(point.problems for point in points)))
    if not shared:
        return None
    ours, theirs = counted.on(shared), [point.on(shared) for point in points]
    right, cost = ([getattr(point, name) for point in theirs] for name in ("right", "decoded"))
    return gain_at_equal_cost(ours.right, ours.decoded, right, cost)


def _row(counted: Tally, gained: Interval | None) -> ReplayRow:
    return ReplayRow(
        policy=counted.policy,
        rule=counted.rule,
        vote=counted.ballot,
        problems=len(counted.problems),
        accuracy=mean_interval(counted.right),
        gain=gained,
        candidates=float(counted.used.mean()),
        decoded_tokens=float(counted.decoded.mean()),
        seconds=None if np.isnan(counted.seconds).any() else float(counted.seconds.mean()),
    )


# --- features -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRow:
    """How well one feature of a reply tells right replies from wrong ones.

    Attributes:
        policy: that gave the replies.
        feature: its name.
        surer: "higher" or "lower": where the model is taken to be surer.
        replies: that have the feature.
        right: the share of them that is right.
        auroc: with a bootstrap over problems; below 0.5 where the surer replies are the wronger.
    """

    policy: str
    feature: str
    surer: str
    replies: int
    right: float
    auroc: Interval

    def cells(self) -> tuple[str, ...]:
        """As texts, in the order of `FEATURE_COLUMNS`."""
        area = "{:.3f} ({:.3f} to {:.3f})".format(*self.auroc)
        return self.policy, self.feature, self.surer, str(self.replies), f"{100 * self.right:.1f}", area

    def as_record(self) -> dict[str, Any]:
        """Ready for JSON; intervals as value, low, high."""
        return asdict(self)


def feature_rows(pool: Pool) -> list[FeatureRow]:
    """A row for each feature that the pool's candidates have, the most telling first; none where all are alike.

    Of several candidates, rows for what their equal votes say of the answer that wins, too.
    """
    samples = [sample for each in pool.problems.values() for sample in each if sample.finish]
    rows = [_feature_row(pool.policy, name, sign, samples) for name, sign in SIGNS.items()]
    if pool.most > 1:
        count = ballot("equal")
        votes = [voted(each, count.winner(each)) for each in pool.problems.values()]
        judged = [vote for vote in votes if vote]
        rows += [_feature_row(f"{pool.policy}, voted", name, sign, judged) for name, sign in VOTE_SIGNS.items()]
    return sorted(filter(None, rows), key=lambda row: -abs(row.auroc.value - 0.5))


def _feature_row(policy: str, name: str, sign: int, answers: Sequence[Sample | Judged]) -> FeatureRow | None:
    """What one feature tells; None where it was not measured, or all answers are right, or none."""
    having = [each for each in answers if np.isfinite(each.features[name])]
    right = [each.right for each in having]
    area = auroc([sign * each.features[name] for each in having], right, [each.problem for each in having])
    if area is None:
        return None
    return FeatureRow(
        policy=policy,
        feature=name,
        surer="higher" if sign > 0 else "lower",
        replies=len(having),
        right=float(np.mean(right)),
        auroc=area,
    )


class Row(Protocol):
    """A row of a report."""

    def cells(self) -> tuple[str, ...]:
        """As texts."""

    def as_record(self) -> dict[str, Any]:
        """Ready for JSON."""


def markdown(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """The rows as a Markdown table."""
    return markdown_table(columns, [row.cells() for row in rows], left=3)
