"""What `plots` draws beside traces, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Accuracy(NamedTuple):
    """What one policy came to.

    Attributes:
        policy: its name.
        cost: mean decoded tokens of an answer.
        share: of right answers, from 0 to 1.
        low: end of its 95 % interval.
        high: the other end.
        problems: on how many it rests.
    """

    policy: str
    cost: float
    share: float
    low: float
    high: float
    problems: int


class Judged(NamedTuple):
    """One finished reply: how sure the model was, from 0 to 1, and whether it is right."""

    confidence: float
    right: bool


class Quantiles(NamedTuple):
    """What a model's tokens are like.

    Attributes:
        percents: shares of the tokens, in percent.
        deciles: for each quantity with its unit, what so many lie below.
        thresholds: of the fitted preset, such as `argmax.entropy_below`.
    """

    percents: Sequence[int]
    deciles: Mapping[str, Sequence[float]]
    thresholds: Mapping[str, float]


def reliability(judged: Sequence[Judged], bins: int = 10) -> list[tuple[float, float, int]]:
    """How often replies of the same confidence are right: mean confidence, share of right ones, and how many, by bin.

    Bins have equally many replies, so that each says as much.
    """
    ordered = sorted(judged)
    bins = min(bins, max(1, len(ordered) // 5))
    found = []
    for number in range(bins):
        group = ordered[number * len(ordered) // bins : (number + 1) * len(ordered) // bins]
        found.append((_mean([each.confidence for each in group]), _mean([each.right for each in group]), len(group)))
    return found


def risk_coverage(judged: Sequence[Judged]) -> list[tuple[float, float]]:
    """The share of wrong replies among the surest, as more are answered: coverage and risk, the surest first.

    Replies of one confidence come in together.
    """
    ordered = sorted(judged, key=lambda each: -each.confidence)
    found, wrong = [], 0
    for number, each in enumerate(ordered, 1):
        wrong += not each.right
        if number == len(ordered) or ordered[number].confidence != each.confidence:
            found.append((number / len(ordered), wrong / number))
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
