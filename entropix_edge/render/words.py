"""Pieces of replies, probabilities and confidences in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..types import TokenEvent
from .terminal import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..types import ConfidenceEvent, Event

_LEAST_LOGPROB = -7.0  # an alternative with less than 0.1 % is not worth naming
NAMED_ALTERNATIVES = 3
"""How many alternatives events should name, for the least sure tokens of an answer to be told with theirs."""


def quoted(text: str) -> str:
    """A piece of a reply in a line: between backticks, control characters made visible."""
    return f"`{visible(text.replace(chr(10), chr(92) + 'n'))}`" if text else "the end of the reply"


def percent(logprob: float | None) -> str:
    """A probability from its natural logarithm."""
    if logprob is None:
        return "?"
    share = 100 * math.exp(logprob)
    return "under 0.1 %" if share < 0.1 else f"{share:.1f} %" if share < 9.95 else f"{share:.0f} %"


# --- confidence ---------------------------------------------------------------------------------------


def meaning(confidence: ConfidenceEvent) -> str:
    """What a confidence says, in a sentence without its full stop."""
    share = 100 * confidence.value
    if confidence.kind == "probability":
        return f"{share:.0f} % likely to be right"
    if share < 50:
        return f"less sure than {100 - share:.0f} % of this model's replies"
    return f"surer than {share:.0f} % of this model's replies"


def in_short(confidence: ConfidenceEvent) -> str:
    """The same in two or three words, for a status line."""
    share = 100 * confidence.value
    return f"{share:.0f} % likely right" if confidence.kind == "probability" else f"surer than {share:.0f} %"


def told(confidence: ConfidenceEvent, events: Iterable[Event]) -> str:
    """What a confidence says, what it rests on, and which tokens of the answer are the least sure.

    Args:
        confidence: of the reply.
        events: of the reply.
    """
    if confidence.kind == "rank":
        return f"{meaning(confidence)} (a rank: how often it is right is not known)"
    answer = quoted(confidence.answer or "")
    unsure = [_unsure(token) for token in _tokens(confidence, events)]
    named = f"; least sure of {', and of '.join(unsure)}" if unsure else ""
    return f"{meaning(confidence)}: {answer}{named} (fitted to {confidence.compared} answers of its kind)"


def _unsure(token: TokenEvent) -> str:
    also = [f"{quoted(text)} {percent(logprob)}" for text, logprob in _others(token)]
    return quoted(token.text) + (f": also {', '.join(also)}" if also else "")


def _tokens(confidence: ConfidenceEvent, events: Iterable[Event]) -> list[TokenEvent]:
    """The least sure tokens that carry the answer."""
    known = {event.index: event for event in events if isinstance(event, TokenEvent)}
    return [known[index] for index in confidence.least_sure if index in known]


def _others(token: TokenEvent) -> list[tuple[str, float]]:
    """The most probable other tokens at a token's place, two at most."""
    others = [each for each in token.alternatives if each.token_id != token.token_id]
    return [(each.text, each.logprob) for each in others[:2] if each.logprob > _LEAST_LOGPROB]


def confidence_record(confidence: ConfidenceEvent | None, events: Sequence[Event]) -> dict[str, Any] | None:
    """A confidence as plain values; None where there is none.

    Args:
        confidence: of the reply.
        events: of the reply.
    """
    if confidence is None:
        return None
    return {
        "kind": confidence.kind,
        "value": confidence.value,
        "meaning": meaning(confidence),
        "answer": confidence.answer,
        "compared": confidence.compared,
        "least_sure": [
            {
                "index": token.index,
                "text": token.text,
                "entropy": token.metrics.entropy if token.metrics else None,
                "also": [{"text": text, "probability": math.exp(logprob)} for text, logprob in _others(token)],
            }
            for token in _tokens(confidence, events)
        ],
    }
