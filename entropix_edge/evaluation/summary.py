"""Results to rows: accuracy, how sure it is, and what it cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .statistics import Interval, paired_difference, wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .results import Result

BASELINE = "greedy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one policy came to, beside another, the baseline.

    Attributes:
        policy: its name.
        problems: how many, each counted once.
        seeds: most seeds of a problem.
        accuracy: mean over problems, with Wilson's interval over the problems.
        gain: over the baseline on the problems that both answered, with a paired bootstrap; None without such.
        written_tokens: mean of an answer.
        decoded_tokens: mean of an answer, candidates, branches and rejected draws included.
        cost: decoded tokens against the baseline's, on the problems that both answered; None without such.
        cut: answers that the length limit ended.
        failed: problems without a reply.
        seconds: wall time.
    """

    policy: str
    problems: int
    seeds: int
    accuracy: Interval
    gain: Interval | None
    written_tokens: float
    decoded_tokens: float
    cost: float | None
    cut: int
    failed: int
    seconds: float

    def cells(self) -> tuple[str, ...]:
        """As texts, in the order of `columns`."""
        return (
            self.policy,
            str(self.problems),
            "{:.1f} ({:.0f} to {:.0f})".format(*(100 * value for value in self.accuracy)),
            "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * value for value in self.gain)) if self.gain else "",
            f"{self.written_tokens:.0f}",
            f"{self.decoded_tokens:.0f}",
            f"{self.cost:.2f}" if self.cost else "",
            str(self.cut),
            f"{self.seconds:.0f}",
        )

    def as_record(self) -> dict[str, Any]:
        """Ready for JSON; intervals as value, low, high."""
        return asdict(self)


def columns(baseline: str = BASELINE) -> tuple[str, ...]:
    """The headings of the rows' cells."""
    gain, cost = f"over {baseline}", f"× {baseline}"
    return ("policy", "problems", "accuracy, %", gain, "written", "decoded", cost, "cut", "seconds")


def summarise(results: Sequence[Result], baseline: str = BASELINE) -> list[Row]:
    """One row a policy, in the order in which they were run, each beside the policy that is named."""
    policies = list(dict.fromkeys(result.policy for result in results))
    by_policy = {name: [result for result in results if result.policy == name] for name in policies}
    beside = by_policy.get(baseline, [])
    return [_row(name, own, [] if name == baseline else beside) for name, own in by_policy.items()]


def _row(name: str, own: list[Result], baseline: list[Result]) -> Row:
    ours, theirs = _per_problem(own, "right"), _per_problem(baseline, "right")
    both = [problem for problem in ours if problem in theirs]
    our_cost, their_cost = (_per_problem(each, "decoded_tokens") for each in (own, baseline))
    spent = sum(their_cost[problem] for problem in both)
    return Row(
        policy=name,
        problems=len(ours),
        seeds=len({result.seed for result in own}),
        accuracy=wilson(sum(ours.values()), len(ours)),
        gain=paired_difference([ours[p] for p in both], [theirs[p] for p in both]) if both else None,
        written_tokens=_mean([result.written_tokens for result in own]),
        decoded_tokens=_mean([result.decoded_tokens for result in own]),
        cost=sum(our_cost[problem] for problem in both) / spent if spent else None,
        cut=sum(result.cut for result in own),
        failed=sum(result.error is not None for result in own),
        seconds=sum(result.seconds for result in own),
    )


def _per_problem(results: Sequence[Result], field: str) -> dict[str, float]:
    """The mean over seeds of one field, for each problem."""
    values: dict[str, list[float]] = {}
    for result in results:
        values.setdefault(result.problem, []).append(float(getattr(result, field)))
    return {problem: _mean(each) for problem, each in values.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def markdown(rows: Sequence[Row], baseline: str = BASELINE) -> str:
    """The rows as a Markdown table."""
    return markdown_table(columns(baseline), [row.cells() for row in rows])


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table in Markdown; the columns after the first `left` hold numbers."""
    lines = [headings, ("---",) * left + ("---:",) * (len(headings) - left), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
