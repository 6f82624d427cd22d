"""Other ways on from a reply: branches that were not taken, and alternatives to its tokens, by their exact ids."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from .why import end_of, places
from .words import percent, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.text import Text

    from ..types import Event
    from .why import Place

_LEAST = 0.05  # the probability of an alternative that is worth a line


class Way(NamedTuple):
    """Another way on from a place in a reply.

    Attributes:
        place: how many of the reply's tokens are kept.
        token_ids: what follows them.
        text: as those tokens are written.
        told: what it is, in words.
    """

    place: int
    token_ids: tuple[int, ...]
    text: str
    told: str


def ways(events: Iterable[Event], most: int = 9) -> list[Way]:
    """The other ways on from a reply: the branches first, then the alternatives, the most probable first.

    Args:
        events: of the reply, in order.
        most: ways.
    """
    reply = places(events)
    branches = [way for place in reply for way in _branches(place)]
    known = {(way.place, way.token_ids[0]) for way in branches}
    others = sorted((each for place in reply for each in _alternatives(place)), key=lambda each: -each[0])
    return [*branches, *(way for _chance, way in others if (way.place, way.token_ids[0]) not in known)][:most]


def _branches(place: Place) -> list[Way]:
    kept = next((branch for branch in place.fork if branch.kept), None)
    told = f" (kept: {kept.score:.2f})" if kept else ""
    return [
        Way(place.token.index, branch.token_ids, branch.text, f"branch, score {branch.score:.2f}{told}")
        for branch in place.fork
        if not branch.kept and branch.text
    ]


def _alternatives(place: Place) -> list[tuple[float, Way]]:
    taken = percent(place.token.logprob)
    return [
        (
            each.logprob,
            Way(
                place.token.index,
                (each.token_id,),
                each.text,
                f"{percent(each.logprob)} (taken: {taken})",
            ),
        )
        for each in place.token.alternatives
        if each.token_id != place.token.token_id and each.text and each.logprob >= math.log(_LEAST)
    ]


def listing(events: Sequence[Event], found: Sequence[Way]) -> Text:
    """Ways as a numbered list, each with the text that it follows and what it stands instead of."""
    from rich.text import Text

    reply = places(events)
    text = Text()
    for number, way in enumerate(found, 1):
        before = "".join(place.token.text for place in reply if place.token.index < way.place)
        instead = next((place.text for place in reply if place.token.index == way.place), "")
        text.append(f"{number:3}  ", "bold").append(quoted(end_of(before, 32))[1:-1] if before else "", "dim")
        text.append(f"[{quoted(way.text)[1:-1]}]", "cyan")
        text.append(f" instead of {quoted(instead)}: {way.told}\n")
    text.rstrip()
    return text
