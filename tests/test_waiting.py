"""What is shown while candidates are generated: in words, and in a terminal of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from terminals import Terminal
from test_corrections import write_letters

from entropix_edge.cli.waiting import standing
from entropix_edge.sessions import Vote
from entropix_edge.types import FinishReason

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
