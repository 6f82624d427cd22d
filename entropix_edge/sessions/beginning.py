"""What a reply begins with when it goes on from another one: exact tokens, and the events that tell of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..text import TextStream
from ..types import CandidateEvent, ConfidenceEvent, Event, Origin, TokenEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..llama import Vocabulary


class Beginning(NamedTuple):
    """The first tokens of a reply.

    Attributes:
        tokens: their ids.
        text: what of them is certain as text; the first event that is generated begins with it.
        events: one for each token, and what else happened before the place where the replies part.
    """

    tokens: tuple[int, ...]
    text: str
    events: tuple[Event, ...]


def beginning(
    reply: Sequence[int],
    events: Sequence[Event],
    index: int,
    chosen: Sequence[int],
    vocabulary: Vocabulary,
    stop: Sequence[str],
) -> Beginning:
    """The first tokens of a reply, then other ones that somebody chose.

    Args:
        reply: the tokens of the earlier reply.
        events: that tell of them; none where they are not known.
        index: how many of them are kept.
        chosen: what follows.
        vocabulary: of the model.
        stop: the texts that end the reply.
    """
    tokens = (*reply[:index], *chosen)
    stream = TextStream(stop)
    texts = [stream.push(vocabulary.piece(token)) for token in tokens]
    told: list[Event] = []
    for event in events:
        if isinstance(event, TokenEvent) and event.index < index:
            told.append(event._replace(text=texts[event.index], finish_reason=None))
        elif not isinstance(event, TokenEvent | CandidateEvent | ConfidenceEvent) and event.index < index:
            told.append(event)
    if not events:
        told += [TokenEvent(place, tokens[place], texts[place]) for place in range(index)]
    parting = next((event for event in events if isinstance(event, TokenEvent) and event.index == index), None)
    for place in range(index, len(tokens)):
        told.append(_chosen(place, tokens[place], texts[place], parting if place == index else None))
    return Beginning(tokens, "".join(texts), tuple(told))


def _chosen(index: int, token: int, text: str, instead_of: TokenEvent | None) -> TokenEvent:
    """The event of a token that somebody chose, perhaps instead of another, whose distribution is known."""
    event = TokenEvent(index, token, text, origin=Origin.FORCED)
    if instead_of is None:
        return event
    known = {alternative.token_id: alternative.logprob for alternative in instead_of.alternatives}
    return event._replace(
        logprob=known.get(token),
        metrics=instead_of.metrics,
        strategy=instead_of.strategy,
        alternatives=instead_of.alternatives,
    )
