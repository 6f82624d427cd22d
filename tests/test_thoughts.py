"""Thoughts are told from the rest of a reply, however its tokens cut the tags."""

from __future__ import annotations

import io

import pytest

from entropix_edge.render import TextPrinter
from entropix_edge.render.thoughts import Thoughts, ends_in_thought
from entropix_edge.types import TokenEvent

REPLY = "<think>\nHm, 2 < 3.\n</think>\n\nYes: </think> is a tag."
THOUGHT, REST = "<think>\nHm, 2 < 3.\n</think>", "\n\nYes: </think> is a tag."


def cut(text: str, size: int, *, begun: bool = False) -> tuple[str, str]:
    """The thoughts and the rest of a text that comes in pieces."""
    thoughts = Thoughts(begun=begun)
    parts = [part for at in range(0, len(text), size) for part in thoughts.split(text[at : at + size])]
    parts += thoughts.flush()
    return "".join(text for text, thought in parts if thought), "".join(text for text, thought in parts if not thought)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
def test_thoughts_are_told_from_the_rest(size: int) -> None:
    assert cut(REPLY, size) == (THOUGHT, REST)
    assert cut(f" \n{REPLY}", size) == (f" \n{THOUGHT}", REST)
    assert cut(REPLY.removeprefix("<think>"), size, begun=True) == (THOUGHT.removeprefix("<think>"), REST)


@pytest.mark.parametrize("text", ["Yes.", "<thinner", "<", " <thi", "a <think> b", "x" * 50, ""])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_reply_without_thoughts_is_whole(text: str, size: int) -> None:
    assert cut(text, size) == ("", text)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_thoughts_that_do_not_end(size: int) -> None:
    assert cut("<think>so </thin", size) == ("<think>so </thin", "")


def test_a_prompt_may_begin_the_thoughts() -> None:
    assert ends_in_thought("<|im_start|>assistant\n<think>\n")
    assert not ends_in_thought("<think>\n\n</think>\n\n")


def printed(*, colour: bool, folded: bool) -> str:
    stream = io.StringIO()
    printer = TextPrinter(stream, colour=colour, terminal=True, thoughts=Thoughts(), folded=folded)
    for index, piece in enumerate(REPLY):
        printer.write(TokenEvent(index, index, piece))
    printer.finish()
    return stream.getvalue()


def test_thoughts_are_shown_dimmed_or_folded() -> None:
    assert printed(colour=False, folded=False) == f"{REPLY}\n"
    dimmed = printed(colour=True, folded=False)
    assert "\x1b[2mH\x1b[0m" in dimmed
    assert dimmed.endswith("Yes: </think> is a tag.\n")
    assert printed(colour=False, folded=True) == f"(thinking: {len(THOUGHT)} characters)\n{REST}\n"
