"""Two policies on the same problems, answer against answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .statistics import Interval, mean_interval, paired_difference, sign_test

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .replay import Ballot, Pool, Rule
    from .samples import Sample

COLUMNS = ("policy", "problems", "accuracy, %", "over", "won", "lost", "p", "decoded", "× decoded")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRow:
    """What one policy's answers came to beside another's.

    Attributes:
        policy: its name, and the rule where its candidates voted.
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


def pair(pool: Pool, other: Pool, vote: tuple[Rule, Ballot] | None = None) -> PairedRow | None:
    """A policy beside another, or beside itself, on the problems that both have; None where there are none.

    Args:
        pool: the policy's candidates.
        other: those of the other, whose first replies are its answers.
        vote: let the policy's candidates vote, in the order in which they were begun, where there are enough for the
            rule; None for its first replies.
    """
    enough = vote[0].most if vote else 1
    problems = sorted(
        name for name in pool.problems.keys() & other.problems.keys() if len(pool.problems[name]) >= enough
    )
    if not problems:
        return None
    ours = [_answer(pool.problems[problem], vote) for problem in problems]
    theirs = [_answer(other.problems[problem], None) for problem in problems]
    right, baseline = (np.array([answer[0] for answer in answers]) for answers in (ours, theirs))
    decoded, spent = (float(np.mean([answer[1] for answer in answers])) for answers in (ours, theirs))
    won, lost = int((right & ~baseline).sum()), int((~right & baseline).sum())
    itself = pool is other and vote is None
    return PairedRow(
        policy=f"{pool.policy}, {vote[0].name}" if vote else pool.policy,
        problems=len(problems),
        accuracy=mean_interval(right),
        over=None if itself else paired_difference(right, baseline),
        won=won,
        lost=lost,
        chance=None if itself else sign_test(won, lost),
        decoded_tokens=decoded,
        cost=decoded / spent,
    )


def _answer(samples: Sequence[Sample], vote: tuple[Rule, Ballot] | None) -> tuple[bool, int]:
    """Whether it is right, and the tokens that were decoded for it."""
    if vote is None:
        return samples[0].right, samples[0].decoded_tokens
    rule, count = vote
    used = samples[: rule.used(samples)]
    return count.winner(used).right, sum(sample.decoded_tokens for sample in used)
