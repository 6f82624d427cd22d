"""What is shown while a reply is waited for: which candidates say what, so far."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..types import FinishReason
from .console import console, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from ..engine import ReplyStream
    from ..sessions import Deliberation, Vote
    from ..types import Event

_MOST_SHOWN = 4  # answers
_LONGEST = 24  # characters of one
_KINDS = {
    "last-number": "the last number",
    "choice": "the letter chosen",
    "code": "the code",
    "exact": "the text",
}


def said_to_wait(
    events: Iterator[Event], stream: ReplyStream | Deliberation, most: int | None, *, whole: bool = False
) -> Iterator[Event]:
    """A stream's events; while nothing of them is shown, that is said.

    Args:
        events: of the reply; while several candidates are generated there are none.
        stream: that they come from.
        most: how many candidates at most; None for a single reply.
        whole: nothing is shown before the reply is whole.
    """
    if most:
        _wait_for_choice(stream, most)
    elif whole:
        with console().status("Generating a reply, to see how likely it is right"):
            yield from events
    yield from events


def _wait_for_choice(stream: ReplyStream | Deliberation, most: int) -> None:
    """Generate the candidates; the vote is shown on a terminal, and what it is by is said."""
    from ..sessions import Deliberation

    if not isinstance(stream, Deliberation):  # it goes on from another reply's beginning
        return
    from rich.text import Text

    shown, kind = "", None
    screen = console()
    with screen.status(f"Generating up to {most} candidates") as status:
        for _ in stream.steps():
            votes = stream.votes
            if any(vote.finish for vote in votes) and shown != (shown := standing(votes, most)):
                status.update(Text(shown))
            if kind != (kind := stream.kind):
                _say_kind(screen, kind)
    if kind != stream.kind:
        _say_kind(screen, stream.kind)
    if stream.detects and not stream.kind and _have_ended(stream.votes):
        screen.print("The candidates share no kind of answer: the surest is kept; --answer says what to compare")
    if screen.is_terminal:
        screen.print(standing(stream.votes, most) + outvoted(stream.votes, stream.kept), style="dim", markup=False)


def outvoted(votes: Sequence[Vote], kept: str | None) -> str:
    """What is said where the answer that is kept has fewer votes than another."""
    counts = Counter(vote.answer for vote in votes if vote.answer is not None)
    if kept is None or counts[kept] == max(counts.values()):
        return ""
    return plain(f"; {_shortened(kept)} is kept: its votes weigh more")


def _say_kind(screen: Console, kind: str | None) -> None:
    if kind:
        what = _KINDS.get(kind, "the yes or no")
        screen.print(f"Voting on {what} of each candidate; --answer says otherwise", markup=False)


def _have_ended(votes: Sequence[Vote]) -> bool:
    """Whether some came to an end of their own."""
    return sum(vote.finish is FinishReason.STOP for vote in votes) > 1


def standing(votes: Sequence[Vote], most: int) -> str:
    """Which candidates say what, such as `4 of up to 8 candidates: 36 ×3, 42 ×1`."""
    ended = [vote for vote in votes if vote.finish is not None]
    counts = Counter(vote.answer for vote in ended if vote.answer is not None).most_common()
    shown = [f"{_shortened(answer)} ×{count}" for answer, count in counts[:_MOST_SHOWN]]
    if len(counts) > _MOST_SHOWN:
        shown.append(f"others ×{sum(count for _, count in counts[_MOST_SHOWN:])}")
    without = sum(vote.answer is None for vote in ended)
    if counts and without:
        shown.append(f"none ×{without}")
    said = f": {', '.join(shown)}" if shown else ""
    return plain(f"{len(ended)} of up to {most} candidates{said}")


def _shortened(answer: str) -> str:
    line = " ".join(answer.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
