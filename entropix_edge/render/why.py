"""Why a reply says what it says: its events, in words. Pure functions from events to text."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..types import (
    BranchEvent,
    CandidateEvent,
    ConfidenceEvent,
    CorrectionEvent,
    FallbackEvent,
    Origin,
    RejectedEvent,
    RewindEvent,
    Strategy,
    TokenEvent,
)
from . import words
from .terminal import MEANINGS, STYLES, style_of, visible
from .words import percent, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, Group, RenderableType
    from rich.text import Text

    from ..types import Event, SideEvent

_UNSURE = 0.5  # bits: a place with less, where nothing else happened, is not worth a line
_BEFORE, _AFTER = 40, 24  # characters of the text around a place
_INDENT = 6


@dataclass(frozen=True, slots=True)
class Place:
    """One token of a reply, and what else happened where it stands.

    Attributes:
        token: its event.
        asides: the side events there, in order.
        corrected: whether the token was put in the place of wrong ones.
    """

    token: TokenEvent
    asides: list[SideEvent] = field(default_factory=list)
    corrected: bool = False

    @property
    def entropy(self) -> float:
        """In bits; 0 where it was not measured."""
        return self.token.metrics.entropy if self.token.metrics else 0.0

    @property
    def fork(self) -> list[BranchEvent]:
        """The branches that begin here."""
        return [event for event in self.asides if isinstance(event, BranchEvent)]

    @property
    def text(self) -> str:
        """The token as it would be written alone."""
        return self.text_of(self.token.token_id) or self.token.text

    def text_of(self, token: int | None) -> str:
        """One of the most probable tokens, as it would be written alone."""
        return next((each.text for each in self.token.alternatives if each.token_id == token), "")


def places(events: Iterable[Event]) -> list[Place]:
    """A reply's tokens, each with what happened there."""
    asides: dict[int, list[SideEvent]] = defaultdict(list)
    tokens = []
    for event in events:
        if isinstance(event, TokenEvent):
            if event.token_id is not None:
                tokens.append(event)
        elif not isinstance(event, CandidateEvent | ConfidenceEvent):
            asides[event.index].append(event)
    reply = []
    corrected = False
    for token in tokens:
        begins = any(isinstance(event, CorrectionEvent) for event in asides[token.index])
        corrected = token.origin is Origin.FORCED and (corrected or begins)
        reply.append(Place(token, asides[token.index], corrected))
    return reply


def unsure_first(reply: Sequence[Place]) -> list[Place]:
    """The places where the model was unsure, or something else happened, the least sure first."""
    worth = [place for place in reply if place.entropy >= _UNSURE or place.asides]
    return sorted(worth, key=lambda place: -place.entropy)


def places_of(reply: Sequence[Place], word: str) -> list[Place]:
    """The places where a word stands, whatever its case, the least sure first."""
    text = "".join(place.token.text for place in reply).lower()
    found = []
    start = 0
    spans = []
    at = text.find(word.lower()) if word else -1
    while at >= 0:
        spans.append((at, at + len(word)))
        at = text.find(word.lower(), at + 1)
    for place in reply:
        end = start + len(place.token.text)
        if any(start < last and first < end for first, last in spans):
            found.append(place)
        start = end
    return sorted(found, key=lambda place: -place.entropy)


# --- in words -----------------------------------------------------------------------------------------


def told(place: Place) -> str:
    """What happened at a place, in a sentence."""
    sentences = [_aside(event) for event in place.asides if not isinstance(event, BranchEvent)]
    return "; ".join([*sentences, _fork(place) if place.fork else _choice(place)])


def _fork(place: Place) -> str:
    firsts = [quoted(place.text_of(branch.token_ids[0]) or branch.text) for branch in place.fork]
    kept = next((first for first, branch in zip(firsts, place.fork, strict=True) if branch.kept), firsts[0])
    lengths = sorted({len(branch.token_ids) for branch in place.fork})
    steps = f"{lengths[0]} to {lengths[-1]}" if len(lengths) > 1 else str(lengths[0])
    tokens = "token" if lengths[-1] == 1 else "tokens"
    return f"torn between {_listed(firsts)}: looked {steps} {tokens} down each, kept {kept}"


def _choice(place: Place) -> str:
    token = place.token
    taken = f"{quoted(place.text)} {percent(token.logprob)}"
    others = [each for each in token.alternatives if each.token_id != token.token_id]
    also = ", ".join(f"{quoted(each.text)} {percent(each.logprob)}" for each in others[:3] if each.logprob > -7)
    also = f"; also {also}" if also else ""
    if place.corrected:
        return f"put in as right: {taken}{also}"
    if token.origin is Origin.FORCED:
        if token.strategy is Strategy.PAUSE:
            return f"lost: put {quoted(place.text)} in, to think on"
        return f"chosen by you: {taken}{also}"
    if token.strategy is Strategy.ARGMAX:
        return f"sure of {taken}"
    if token.origin is Origin.BRANCH:
        return f"on the branch that was kept: {taken}{also}"
    meaning = MEANINGS[token.strategy] if token.strategy else "not measured"
    return f"{meaning}: took {taken}{also}"


def _aside(event: SideEvent) -> str:
    match event:
        case RejectedEvent(limit=None):
            return f"rejected {quoted(event.text)}, which would have gone round in a loop"
        case RejectedEvent(limit=limit):
            return f"rejected {quoted(event.text)} as atypical ({event.surprisal:.1f} bits, the limit was {limit:.1f})"
        case RewindEvent():
            return f"took {quoted(event.text)} back, which was scattered, and began again here"
        case CorrectionEvent():
            return (
                f"took {quoted(event.text)} back: {event.expression} is {event.right}, not {event.found}, "
                "and the model was not sure of it"
            )
        case FallbackEvent():
            return f"could not {_DOINGS.get(event.strategy, event.strategy)}: {event.reason}"
    raise AssertionError(f"it has no place: {event}")


_DOINGS = {Strategy.BRANCH: "fork", Strategy.RESAMPLE: "go back", Strategy.PAUSE: "pause"}


def _listed(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else items[0]


# --- as they are shown --------------------------------------------------------------------------------


def overview(events: Sequence[Event], most: int = 6) -> Group:
    """How sure the model was of a reply, and the places where it was least so.

    Args:
        events: of the reply, in order.
        most: places.
    """
    from rich.console import Group
    from rich.text import Text

    reply = places(events)
    shown = unsure_first(reply)
    did = _doings(reply)
    lines = _candidates(events) + _confidence(events)
    lines.append(Text(f"{len(reply)} tokens: {_shares(reply)}." + (f" {did}." if did else "")))
    if not shown:
        return Group(*lines, Text("The model was sure all along."))
    lines.append(Text(f"The least sure {'places' if len(shown) > 1 else 'place'} first:"))
    for place in shown[:most]:
        lines += _paragraphs(reply, place)
    acted = [place for place in shown[most:] if place.asides][:most]
    if acted:
        lines += [Text(), Text("More than a draw was done here too:")]
    for place in acted:
        lines += _paragraphs(reply, place)
    if more := len(shown[most:]) - len(acted):
        what = "places" if more > 1 else "place"
        lines += [Text(), Text(f"{more} more {what} above {_UNSURE} bits of entropy.", "dim")]
    return Group(*lines)


def _paragraphs(reply: Sequence[Place], place: Place) -> list[RenderableType]:
    """What is told of a place among others."""
    from rich.text import Text

    return [Text(), _headline(reply, place), _Paragraph(_measured(place), "dim"), _Paragraph(told(place))]


def closer(events: Sequence[Event], index: int) -> Group:
    """All that is known of one place.

    Raises:
        IndexError: the reply has no such token.
    """
    from rich.console import Group
    from rich.text import Text

    reply = places(events)
    place = next((place for place in reply if place.token.index == index), None)
    if place is None:
        raise IndexError(index)
    token = place.token
    lines: list[RenderableType] = [_headline(reply, place)]
    if token.metrics:
        lines.append(_Paragraph(f"{_measured(place)}: as unsure as among {_choices(place.entropy)}"))
    if token.metrics and (attention := token.metrics.attention):
        lines.append(
            _Paragraph(
                f"attention: entropy {attention.entropy:.2f} bits, varentropy {attention.varentropy:.2f} bits², "
                f"agreement {attention.agreement:.4f}, interaction strength {attention.interaction_strength:.2f}",
                "dim",
            )
        )
    lines.append(_Paragraph(told(place)))
    for branch in sorted(place.fork, key=lambda branch: -branch.score):
        mark = "kept" if branch.kept else "    "
        lines.append(_Paragraph(f"{mark} {branch.score:6.2f}  {quoted(branch.text)}", "" if branch.kept else "dim"))
    for each in token.alternatives:
        line = Text(f"      {percent(each.logprob):>11}  {quoted(each.text)}")
        taken = each.token_id == token.token_id
        lines.append(line.append("  taken", style_of(token) or "bold") if taken else line)
    return Group(*lines)


@dataclass(frozen=True, slots=True)
class _Paragraph:
    """A text below a headline, each of its lines indented. For rich."""

    text: str
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.text import Text

        for line in Text(self.text, self.style).wrap(console, max(options.max_width - _INDENT, 1)):
            line.rstrip()
            yield Text(" " * _INDENT).append_text(line)


def walk(events: Sequence[Event]) -> Text:
    """Every token of a reply, a line each."""
    from rich.text import Text

    text = Text(" token  probability  entropy  varentropy  strategy  text", style="bold")
    for place in places(events):
        token = place.token
        text.append("\n")
        measured = f"{token.metrics.entropy:7.2f}  {token.metrics.varentropy:10.2f}" if token.metrics else " " * 19
        text.append(f"{token.index:6}  {percent(token.logprob):>11}  {measured}  ")
        name = token.strategy.value if token.strategy else ""
        text.append(f"{name:<8}", STYLES[token.strategy] if token.strategy else "")
        text.append(f"  {quoted(place.text)}")
        if place.asides or token.origin is Origin.FORCED:
            text.append(f"  {told(place)}", "dim")
    return text


def _headline(reply: Sequence[Place], place: Place) -> Text:
    """The place's number, and its token in the text around it."""
    from rich.text import Text

    before = "".join(other.token.text for other in reply if other.token.index < place.token.index)
    after = "".join(other.token.text for other in reply if other.token.index > place.token.index)
    text = Text().append(f"{place.token.index:4}  ", "bold")
    text.append(_inline(end_of(before, _BEFORE)), "dim")
    style = style_of(place.token) or "bold"
    text.append(f"[{_inline(place.token.text)}]", f"not dim {style}")
    text.append(_inline(after[:_AFTER] + "…" * (len(after) > _AFTER)), "dim")
    return text


def end_of(text: str, most: int) -> str:
    """The last words of a text, of so many characters at most, where it has words."""
    if len(text) <= most:
        return text
    end = text[-most:]
    _cut, space, words = end.partition(" ")
    return f"… {words}" if space and words else f"…{end}"


def _inline(text: str) -> str:
    return visible(text.replace("\n", "\\n"))


def _measured(place: Place) -> str:
    metrics = place.token.metrics
    if metrics is None:
        return "not measured"
    return f"entropy {metrics.entropy:.2f} bits, varentropy {metrics.varentropy:.2f} bits²"


def _choices(entropy: float) -> str:
    """How many equally probable tokens have an entropy in bits."""
    count = 2.0**entropy
    return f"{count:.1f} equal choices" if count < 9.95 else f"{count:.0f} equal choices"


def _shares(reply: Sequence[Place]) -> str:
    counts = Counter(place.token.strategy for place in reply)
    return ", ".join(f"{MEANINGS[strategy]} {counts[strategy]}" for strategy in STYLES if counts[strategy])


def _doings(reply: Sequence[Place]) -> str:
    kinds = {
        CorrectionEvent: "correction",
        RejectedEvent: "rejected draw",
        RewindEvent: "rewind",
        FallbackEvent: "act that could not be done",
    }
    counts = {
        name: sum(isinstance(event, kind) for place in reply for event in place.asides) for kind, name in kinds.items()
    }
    pauses = [place.token.origin is Origin.FORCED and place.token.strategy is Strategy.PAUSE for place in reply]
    counts = {
        "fork": sum(bool(place.fork) for place in reply),
        "pause": sum(here and not before for before, here in zip([False, *pauses], pauses, strict=False)),
        **counts,
    }
    return ", ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items() if count)


def _confidence(events: Sequence[Event]) -> list[RenderableType]:
    """How sure of the whole reply one may be, where that is known."""
    from rich.text import Text

    found = next((event for event in events if isinstance(event, ConfidenceEvent)), None)
    if found is None:
        return []
    said = words.told(found, events)
    return [Text(f"{said[0].upper()}{said[1:]}.")]


def _candidates(events: Iterable[Event]) -> list[RenderableType]:
    """What was chosen from, where several replies were generated."""
    from rich.text import Text

    candidates = [event for event in events if isinstance(event, CandidateEvent)]
    if not candidates:
        return []
    lines = [f"Chosen from {len(candidates)} candidates:"]
    for event in candidates:
        answer = f", answers {quoted(event.answer)}" if event.answer else ""
        start = visible(" ".join(event.text.split()))[:48]
        mark = "kept" if event.kept else "    "
        lines.append(f"  {mark} {event.number + 1:2}  confidence {event.confidence:.2f}{answer}  {start}")
    return [*map(Text, lines), Text()]
