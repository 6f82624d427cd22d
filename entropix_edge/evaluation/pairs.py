"""Two policies on the same problems, reply against reply."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .statistics import Interval, mean_interval, paired_difference, sign_test

if TYPE_CHECKING:
    from .replay import Pool

COLUMNS = ("policy", "problems", "accuracy, %", "over", "won", "lost", "p", "decoded", "× decoded")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRow:
    """What one policy's first replies came to beside another's.

    Attributes:
        policy: its name.
        problems: that both answered.
        accuracy: with a bootstrap over problems.
        over: how much higher than the other's, with a paired bootstrap; None beside itself.
        won: problems that it answers right and the other wrong.
        lost: the reverse.
        chance: how likely a difference of won and lost as great as this is where neither policy is better; None beside
            itself.
        decoded_tokens: a problem.
        cost: in decoded tokens, of the other's.
    """

    policy: str
    problems: int
    accuracy: Interval
    over: Interval | None
    won: int
    lost: int
    chance: float | None
    decoded_tokens: float
    cost: float

    def cells(self) -> tuple[str, ...]:
        """As texts, in the order of `COLUMNS`."""
        return (
            self.policy,
            str(self.problems),
            self.accuracy.in_percent(),
            self.over.difference_in_percent() if self.over else "",
            str(self.won) if self.over else "",
            str(self.lost) if self.over else "",
            "" if self.chance is None else f"{self.chance:.2g}",
            f"{self.decoded_tokens:.0f}",
            f"{self.cost:.3f}",
        )

    def as_record(self) -> dict[str, Any]:
        """Ready for JSON; intervals as value, low, high."""
        return asdict(self)


def pair(pool: Pool, other: Pool) -> PairedRow | None:
    """A policy beside another, or beside itself, on the problems that both have; None where there are none."""
    problems = sorted(pool.problems.keys() & other.problems.keys())
    if not problems:
        return None
    ours, theirs = ([each.problems[problem][0] for problem in problems] for each in (pool, other))
    right, baseline = (np.array([sample.right for sample in samples]) for samples in (ours, theirs))
    decoded, spent = (float(np.mean([sample.decoded_tokens for sample in samples])) for samples in (ours, theirs))
    won, lost = int((right & ~baseline).sum()), int((~right & baseline).sum())
    return PairedRow(
        policy=pool.policy,
        problems=len(problems),
        accuracy=mean_interval(right),
        over=None if pool is other else paired_difference(right, baseline),
        won=won,
        lost=lost,
        chance=None if pool is other else sign_test(won, lost),
        decoded_tokens=decoded,
        cost=decoded / spent,
    )
