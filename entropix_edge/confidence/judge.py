"""A finished reply's confidence: a probability where one was fitted to replies of its kind, else a rank."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from ..text import locate
from ..types import ConfidenceEvent, FinishReason, TokenEvent
from .features import carrying, features, measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ..text import Found
    from ..types import Event
    from .features import Measured
    from .fits import Fit, Rank

_UNSURE = 0.5  # bits: a token with less is not worth naming
_NAMED = 2
_CHOICES = re.compile(r"(?:\(|^)([A-E])[).]", re.MULTILINE)

VOTE_SIGNS: Mapping[str, int] = {"agreement": 1, "vote_entropy": -1, "mean_summed_entropy": -1, "mean_mean_entropy": -1}
"""What several candidates say beyond the one that was chosen, and whether one may be surer where it is higher (1).

`agreement`: the share of the votes for the leading answer; `vote_entropy`: of the shares, in bits; the others: means
over the candidates that vote, in bits.
"""


class Judge:
    """Says how sure of a reply one may be.

    Args:
        fits: to replies generated in the same way.
        rank: of the model.
        question: what was asked, the chat template's words around it included.
    """

    def __init__(self, fits: Sequence[Fit], rank: Rank | None, question: Callable[[], str]) -> None:
        self._fits = fits
        self._rank = rank
        self._question = question

    def __call__(self, events: Sequence[Event], extra: Mapping[str, float] | None = None) -> ConfidenceEvent | None:
        """The confidence of a reply; None where it was cut or cancelled, or nothing is known of the model.

        A reply that would be of two kinds at once is of none.

        Args:
            events: of the whole reply.
            extra: further features: those of a vote.
        """
        tokens = [event for event in events if isinstance(event, TokenEvent)]
        if not tokens or tokens[-1].finish_reason is not FinishReason.STOP:
            return None
        text = "".join(event.text for event in tokens)
        seen = measured(tokens)
        judged = []
        question = self._question() if self._fits else ""
        for fit, found, known in _answers(self._fits, question, seen, text):
            if (probability := fit.probability(known | dict(extra or {}))) is not None:
                judged.append((fit, found, probability))
        if len(judged) != 1:
            return self._ranked(seen, tokens[-1].index)
        fit, found, probability = judged[0]
        unsure = _least_sure(seen, text, found)
        return ConfidenceEvent(tokens[-1].index, "probability", probability, found.answer, fit.problems, tuple(unsure))

    def _ranked(self, seen: Measured, index: int) -> ConfidenceEvent | None:
        entropies = seen.entropy[~np.isnan(seen.entropy)]
        if self._rank is None or not entropies.size:
            return None
        share = self._rank.share_below(float(entropies.mean(dtype=np.float64)), entropies.size)
        return ConfidenceEvent(index, "rank", share, None, self._rank.replies)


def _answers(
    fits: Sequence[Fit], question: str, seen: Measured, text: str
) -> Iterator[tuple[Fit, Found, dict[str, float]]]:
    """The fits that a reply may be of the kind of, the answer of that kind in it, and its features."""
    for fit in fits:
        if may_ask_for(question, fit.answer) and (found := locate(text, fit.answer)):
            yield fit, found, features(seen, text, (found.start, found.end))


def likelihood(fits: Sequence[Fit], question: str, events: Sequence[Event]) -> tuple[str, float] | None:
    """The answer of a reply, and how likely it is right by a fit that need not hold for it: see `Fit.estimate`.

    None where it may be of no fit's kind, or of several.

    Args:
        fits: to replies of one policy.
        question: what was asked.
        events: of the whole reply.
    """
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    text = "".join(event.text for event in tokens)
    seen = measured(tokens)
    found = [(answer.answer, fit.estimate(known)) for fit, answer, known in _answers(fits, question, seen, text)]
    if len(found) != 1 or found[0][1] is None:
        return None
    return found[0][0], found[0][1]


def may_ask_for(question: str, answer: str) -> bool:
    """Whether a question may be one for a kind of answer.

    One that offers choices asks for no other kind, and a number that is worked out is worked out of numbers.

    Args:
        question: what was asked.
        answer: the kind, an extractor's name.
    """
    if answer == "choice":
        return True
    if {"A", "B"} <= set(_CHOICES.findall(question)):
        return False
    return answer != "last-number" or any(letter.isdigit() for letter in question)


def _least_sure(seen: Measured, text: str, found: Found) -> list[int]:
    """The places of the tokens that carry an answer and of which the model was not sure, the least sure first."""
    places = np.flatnonzero(carrying(seen, text, (found.start, found.end)) & (seen.entropy > _UNSURE))
    order = sorted(places.tolist(), key=lambda place: -float(seen.entropy[place]))
    return order[:_NAMED]


def vote_features(answers: Sequence[str | None], entropies: Sequence[tuple[float, int]]) -> dict[str, float]:
    """What several candidates say, by name: see `VOTE_SIGNS`; NaN where none votes.

    Args:
        answers: of each candidate; None where it has no vote.
        entropies: of each, in bits, summed over its tokens, and how many these are.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    total = votes.total()
    if not total:
        return dict.fromkeys(VOTE_SIGNS, math.nan)
    shares = [count / total for count in votes.values()]
    voting = [each for answer, each in zip(answers, entropies, strict=True) if answer is not None]
    return {
        "agreement": max(shares),
        "vote_entropy": -math.fsum(share * math.log2(share) for share in shares) + 0.0,
        "mean_summed_entropy": math.fsum(summed for summed, _count in voting) / total,
        "mean_mean_entropy": math.fsum(summed / max(count, 1) for summed, count in voting) / total,
    }
