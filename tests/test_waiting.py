"""What is shown while candidates are generated: in words, and in a terminal of its own."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from terminals import Terminal
from test_corrections import write_letters

from entropix_edge.cli import waiting
from entropix_edge.cli.waiting import outvoted, standing
from entropix_edge.sessions import Deliberation, Vote
from entropix_edge.types import Event, FinishReason

GENERATE = [sys.executable, "-m", "entropix_edge", "generate"]


def vote(answer: str | None, finish: FinishReason | None = FinishReason.STOP) -> Vote:
    return Vote(answer, 0.5, 10, finish)


@pytest.mark.parametrize(
    ("votes", "line"),
    [
        ([vote(None, None)] * 2, "0 of up to 8 candidates"),
        ([vote(None), vote(None, None)], "1 of up to 8 candidates"),
        ([vote("36"), vote("42"), vote("36"), vote("36")], "4 of up to 8 candidates: 36 ×3, 42 ×1"),
        ([vote("36"), vote(None, FinishReason.LENGTH)], "2 of up to 8 candidates: 36 ×1, none ×1"),
        (list(map(vote, "abcdef")), "6 of up to 8 candidates: a ×1, b ×1, c ×1, d ×1, others ×2"),
        ([vote("a\n long   answer of many words"), vote("\x1b[1m")], None),
    ],
)
def test_which_candidates_say_what(votes: list[Vote], line: str | None) -> None:
    said = standing(votes, 8)
    assert line in (None, said)
    assert said.isprintable()
    assert len(said) < 90


@pytest.mark.parametrize(
    ("answers", "kept", "said"),
    [
        (["36", "42", "36"], "36", ""),
        (["36", "42"], "42", ""),
        (["36", "42", "36", None], "42", "; 42 is kept: its votes weigh more"),
        ([None, None], None, ""),
    ],
)
def test_an_answer_with_fewer_votes_that_is_kept(answers: list[str | None], kept: str | None, said: str) -> None:
    assert outvoted(list(map(vote, answers)), kept) == said


def test_a_terminal_shows_the_vote(tmp_path: Path) -> None:
    model = write_letters(tmp_path, "01;")
    options = ["-m", str(model), *("-c", "512", "-t", "1", "-s", "1", "--raw", "--stop", ";")]
    with Terminal([*GENERATE, *options, "--answer", "exact", "--deliberate", "ab"]) as terminal:
        terminal.see("of up to 8 candidates: ")
        terminal.see(" ×")
        assert terminal.code() == 0
    with Terminal([*GENERATE, *options, "ab"]) as terminal:
        assert terminal.code() == 0
        assert "candidates" not in terminal.raw


class Scripted(Deliberation):
    """Candidates that end one after another, while a terminal has the time to draw."""

    kind = None
    kept = "36"
    detects = True

    def __init__(self) -> None:
        self._answers = ["36", "42", "36", "36"]
        self._ended = 0

    @property
    def votes(self) -> list[Vote]:
        return list(map(vote, self._answers[: self._ended]))

    def steps(self) -> Iterator[None]:
        for ended in range(1, len(self._answers) + 1):
            self._ended = ended
            if ended == 2:
                self.kind = "last-number"
            time.sleep(0.2)
            yield

    def everything(self) -> Iterator[Event]:
        return iter(())


def test_what_the_vote_is_by_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(waiting, "console", lambda: Console(file=written, force_terminal=True, width=100))
    stream = Scripted()
    assert list(waiting.said_to_wait(stream.everything(), stream, 8)) == []
    text = written.getvalue()
    assert "of up to 8 candidates: 36 ×1, 42 ×1" in text
    assert "\x1b[2KVoting on the last number" in text
