"""Branches: where the model is torn, one for each leading token, grown together until each is sure again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..metrics import describe
from ..sampling import Prediction, leading
from ..types import Feed, Metrics, Row, Strategy
from .transcript import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ..config import BranchRule, BranchScore
    from ..types import Alternative, Request
    from .protocols import Answer, Vocabulary

    AlternativesOf = Callable[[Prediction], tuple[Alternative, ...]]

_SENTENCE_ENDS = (b".", b"!", b"?", b"\n", "。".encode(), "！".encode(), "？".encode())


@dataclass(eq=False, slots=True)
class Child:
    """One branch of a fork: its tokens, each with the distribution that it was taken from.

    Attributes:
        entries: its tokens, ready to be written down.
        fed: how many of them the cache holds: all, but for a token that ends the turn.
        entropies: after each token that was fed, in bits.
        settled: tokens in a row of which the model was sure.
        row: what follows its last token; a copy where other branches went on after it.
        finished: whether it grows no further.
    """

    entries: list[Entry] = field(default_factory=list)
    fed: int = 0
    entropies: list[float] = field(default_factory=list)
    settled: int = 0
    row: Row | None = None
    finished: bool = False

    @property
    def tokens(self) -> tuple[int, ...]:
        """Its tokens."""
        return tuple(entry.token for entry in self.entries)

    def score(self, kind: BranchScore) -> float:
        """How good it is: more is better."""
        if kind == "entropy":
            return -sum(self.entropies) / len(self.entropies)
        total = sum(entry.logprob for entry in self.entries)
        return total if kind == "total" else total / len(self.entries)


def first_tokens(prediction: Prediction, rule: BranchRule, vocabulary: Vocabulary) -> list[int]:
    """First tokens of branches, the most probable first: none that ends the turn, none under the least share."""
    if vocabulary.is_end(prediction.distribution.best):
        return []
    tokens = leading(prediction, rule.children, least_share=rule.least_share)
    return [token for token in tokens if not vocabulary.is_end(token)]


class Growth:
    """How branches grow, greedily, each until it is finished.

    A branch is finished when the model has been sure (entropy under a threshold) for `rule.settled` tokens, at the end
    of a sentence, at the end of the turn, or at the horizon.

    Args:
        rule: the preset's.
        horizon: most tokens of a branch.
        sure_below: the threshold, in bits.
        position: of the first token of each branch.
        vocabulary: of the model.
        alternatives_of: the alternatives that events name.
    """

    def __init__(
        self,
        rule: BranchRule,
        *,
        horizon: int,
        sure_below: float,
        position: int,
        vocabulary: Vocabulary,
        alternatives_of: AlternativesOf,
    ) -> None:
        self._rule = rule
        self._horizon = horizon
        self._sure_below = sure_below
        self._position = position
        self._vocabulary = vocabulary
        self._alternatives_of = alternatives_of

    def grow(self, children: Sequence[Child]) -> Generator[Request, Answer, None]:
        """Feed all branches together, a token each, until all are finished."""
        while growing := [number for number, child in enumerate(children) if not child.finished]:
            rows = yield Feed(tuple(children[number].entries[-1].token for number in growing), tuple(growing))
            assert isinstance(rows, tuple)
            assert not isinstance(rows, Row)
            for number, row in zip(growing, rows, strict=True):
                self._extend(children[number], row)
            others_go_on = any(not child.finished for child in children)
            for number in growing:
                child = children[number]
                if child.finished and child.row is not None and others_go_on:
                    child.row = Row(child.row.logits.copy(), child.row.attention)

    def _extend(self, child: Child, row: Row) -> None:
        child.fed += 1
        child.row = row
        distribution = describe(row.logits, self._position + child.fed - 1)
        child.entropies.append(distribution.entropy)
        child.settled = child.settled + 1 if distribution.entropy < self._sure_below else 0
        last = child.entries[-1].token
        sentence_ends = self._vocabulary.piece(last).rstrip(b" \"')*").endswith(_SENTENCE_ENDS)
        if child.settled >= self._rule.settled or sentence_ends or child.fed >= self._horizon:
            child.finished = True
            return
        prediction = Prediction(row.logits, distribution)
        best = distribution.best
        metrics = Metrics(distribution.entropy, distribution.varentropy, row.attention)
        alternatives = self._alternatives_of(prediction)
        child.entries.append(Entry(best, prediction.logprob(best), metrics, Strategy.BRANCH, alternatives))
        child.finished = self._vocabulary.is_end(best)
