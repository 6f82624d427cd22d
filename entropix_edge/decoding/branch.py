"""Roads: where the model is torn, one child for each leading candidate, until each is sure again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..metrics import describe
from ..sampling import survivors
from ..types import BranchEvent, Feed, Metrics, Row, SamplerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ..config import BranchRule, BranchScore
    from ..metrics import Distribution
    from ..types import Logits, Request
    from .generation import Answer, Vocabulary

_SENTENCE_ENDS = (b".", b"!", b"?", b"\n", "。".encode(), "！".encode(), "？".encode())


@dataclass(eq=False, slots=True)
class Road:
    """One child: its tokens, and for each the distribution that it was taken from.

    Attributes:
        fed: how many of its tokens the cache holds: all, but for a token that ends the turn.
        entropies: after each token that was fed, in bits.
        row: what follows its last token; a copy where other children went on after it.
    """

    tokens: list[int] = field(default_factory=list)
    metrics: list[Metrics] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    fed: int = 0
    settled: int = 0
    row: Row | None = None
    arrived: bool = False

    def add(self, token: int, metrics: Metrics, logprob: float) -> None:
        """Go one token further."""
        self.tokens.append(token)
        self.metrics.append(metrics)
        self.logprobs.append(logprob)


def candidates(logits: Logits, distribution: Distribution, rule: BranchRule, vocabulary: Vocabulary) -> list[int]:
    """First tokens of roads, the most probable first: none that ends the turn, none under the least share."""
    leading, _shares = survivors(logits, distribution, SamplerSettings(1.0, rule.children, 1.0, rule.least_share))
    if vocabulary.is_end(distribution.best):
        return []
    return [token for token in leading.tolist() if not vocabulary.is_end(token)]


def walk(
    roads: Sequence[Road], rule: BranchRule, horizon: int, sure: float, vocabulary: Vocabulary, position: int
) -> Generator[Request, Answer, None]:
    """Go down all roads together, greedily, until each has arrived.

    A road arrives when the model has been sure (entropy under `sure` bits) for `rule.settled` tokens, at a
    sentence's end, at the end of the turn, or at the horizon.
    """
    while walking := [number for number, road in enumerate(roads) if not road.arrived]:
        rows = yield Feed(tuple(roads[number].tokens[-1] for number in walking), tuple(walking))
        assert isinstance(rows, tuple)
        assert not isinstance(rows, Row)
        for number, row in zip(walking, rows, strict=True):
            _go_on(roads[number], row, rule, horizon, sure, vocabulary, position)
        on_the_way = any(not road.arrived for road in roads)
        for number in walking:
            road = roads[number]
            if road.arrived and road.row is not None and on_the_way:
                road.row = Row(road.row.logits.copy(), road.row.attention)


def _go_on(
    road: Road, row: Row, rule: BranchRule, horizon: int, sure: float, vocabulary: Vocabulary, position: int
) -> None:
    road.fed += 1
    road.row = row
    distribution = describe(row.logits, position + road.fed - 1)
    road.entropies.append(distribution.entropy)
    road.settled = road.settled + 1 if distribution.entropy < sure else 0
    sentence_ends = vocabulary.piece(road.tokens[-1]).rstrip(b" \"')*").endswith(_SENTENCE_ENDS)
    if road.settled >= rule.settled or sentence_ends or road.fed >= horizon:
        road.arrived = True
        return
    best = distribution.best
    metrics = Metrics(distribution.entropy, distribution.varentropy, row.attention)
    road.add(best, metrics, float(row.logits[best]) - distribution.log_total)
    road.arrived = vocabulary.is_end(best)


def score(road: Road, kind: BranchScore) -> float:
    """How good a road is: more is better."""
    if kind == "entropy":
        return -sum(road.entropies) / len(road.entropies)
    total = sum(road.logprobs)
    return total if kind == "total" else total / len(road.logprobs)


def roads_event(
    road: Road, kind: BranchScore, index: int, text_of: Callable[[Sequence[int]], str], *, kept: bool
) -> BranchEvent:
    """What is told of a road."""
    return BranchEvent(index, tuple(road.tokens), text_of(road.tokens), score(road, kind), kept)
