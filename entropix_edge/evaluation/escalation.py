"""A small model that asks a larger one where it is least sure: accuracy against cost, from recordings of both."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigError
from .replay import sureness
from .statistics import Interval, mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .replay import Pool

COLUMNS = ("asked again, %", "below", "problems", "accuracy, %", "over random", "decoded", "seconds")
SHARES = tuple(tenth / 10 for tenth in range(11))


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationRow:
    """What came of asking the larger model for a share of the problems.

    Attributes:
        share: of the problems, those of which the small model was least sure.
        below: the sureness below which they lie, in the feature's unit; None where none or all are asked again.
        problems: how many both models answered.
        accuracy: with a bootstrap over problems.
        gain: over as many problems chosen at random.
        decoded_tokens: a problem, of both models.
        seconds: a problem, of both models, as recorded.
    """

    share: float
    below: float | None
    problems: int
    accuracy: Interval
    gain: Interval
    decoded_tokens: float
    seconds: float

    def cells(self) -> tuple[str, ...]:
        """As texts, in the order of `COLUMNS`."""
        return (
            f"{100 * self.share:.0f}",
            "" if self.below is None else f"{self.below:.4g}",
            str(self.problems),
            self.accuracy.in_percent(),
            self.gain.difference_in_percent(),
            f"{self.decoded_tokens:.0f}",
            f"{self.seconds:.1f}",
        )

    def as_record(self) -> dict[str, Any]:
        """Ready for JSON; intervals as value, low, high."""
        return asdict(self)


def escalate(small: Pool, large: Pool, feature: str, shares: Sequence[float] = SHARES) -> list[EscalationRow]:
    """A row for each share of the problems that the larger model is asked.

    The first reply of each policy counts; the small model always answers first, so its cost is in every row.

    Args:
        small: the replies that come first.
        large: those that take their place.
        feature: what tells how sure the small model was, a name in `SIGNS`.
        shares: from 0 to 1.

    Raises:
        ConfigError: the two have no problem in common.
    """
    problems = sorted(small.problems.keys() & large.problems.keys())
    if not problems:
        raise ConfigError("the two recordings have no problem in common: record both models on the same ones")
    ours = [small.problems[problem][0] for problem in problems]
    theirs = [large.problems[problem][0] for problem in problems]
    sure = np.array([sureness(sample, feature) for sample in ours])
    order = np.argsort(sure, kind="stable")
    columns = [
        np.array([[getattr(sample, name) for sample in samples] for samples in (ours, theirs)], np.float64)
        for name in ("right", "decoded_tokens", "seconds")
    ]
    right, decoded, seconds = columns
    rows = []
    for share in shares:
        count = round(share * len(problems))
        asked = np.zeros(len(problems), np.bool_)
        asked[order[:count]] = True
        reached = np.where(asked, right[1], right[0])
        actual = count / len(problems)
        rows.append(
            EscalationRow(
                share=share,
                below=float(sure[order[count]]) if 0 < count < len(problems) else None,
                problems=len(problems),
                accuracy=mean_interval(reached),
                gain=mean_interval(reached - (1 - actual) * right[0] - actual * right[1]),
                decoded_tokens=float((decoded[0] + asked * decoded[1]).mean()),
                seconds=float((seconds[0] + asked * seconds[1]).mean()),
            )
        )
    return rows
