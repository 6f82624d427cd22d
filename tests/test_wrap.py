"""Lines that break between words, on a terminal that is played here."""

from __future__ import annotations

import io
import random

import pytest
from rich.cells import cell_len

from entropix_edge import TokenEvent
from entropix_edge.render import TextPrinter
from entropix_edge.render.wrap import WordWrap


def written(text: str, width: int, *, most: int = 5, seed: int = 0) -> list[str]:
    """What is written, part by part, where a text comes in pieces of so many characters at most."""
    wrap, chance = WordWrap(lambda: width), random.Random(seed)
    parts = []
    while text:
        length = chance.randint(1, most)
        parts.append("".join(part for part, _style in wrap.put(text[:length], "")))
        text = text[length:]
    return [*parts, "".join(part for part, _style in wrap.flush())]


def rows(text: str, width: int) -> list[str]:
    """The rows of a terminal on which a text is written."""
    shown = [""]
    for char in text:
        if char == "\n" or cell_len(shown[-1] + char) > width:
            shown.append("")
        if char != "\n":
            shown[-1] += char
    return shown


def test_no_word_is_broken_and_no_other_character_changes() -> None:
    chance = random.Random(1)
    for seed in range(60):
        width = chance.randint(8, 70)
        lengths = [chance.randint(1, min(width, 23)) for _ in range(80)]
        words = ["".join(chance.choices("abcdefg,.é", k=length)) for length in lengths]
        text = "".join(word + chance.choice([" ", " ", " ", "\n", "\n\n"]) for word in words) + "end"
        out = "".join(written(text, width, seed=seed))
        assert out.replace("\n", " ") == text.replace("\n", " ")
        assert all(was == "\n" for was, now in zip(out, text, strict=True) if was != now)
        assert [word for row in rows(out, width) for word in row.split()] == text.split()
        assert all(cell_len(row) <= width for row in rows(out, width))


def test_what_fits_a_line_is_left_alone() -> None:
    text = "one two  three\n    four\tfive \nsix"
    assert "".join(written(text, 80)) == text
    assert "".join(written("abcd efgh ijkl", 9)) == "abcd efgh\nijkl"


def test_text_far_from_the_edge_is_written_at_once() -> None:
    wrap = WordWrap(lambda: 80)
    assert wrap.put("Hel", "") == [("Hel", "")]
    assert wrap.put("lo, w", "") == [("lo, w", "")]
    wrap.put("x" * 52 + " ", "")
    assert wrap.put("near", "red") == []
    assert wrap.put(" ", "") == [(" ", ""), ("near", "red")]


@pytest.mark.parametrize("width", [10, 20, 33])
def test_what_has_no_words_is_left_to_the_terminal(width: int) -> None:
    for text in ["天空是蓝色的" * 9 + "，因为", "https://example.org/" + "x" * 80, "a " + "y" * 90]:
        assert "".join(written(text, width)).replace("\n", " ") == text
    mixed = "The sky is 天空是蓝色的因为大气散射 blue 👍🏽 and e\u0301te\u0301 too"
    assert "".join(written(mixed, width)).replace("\n", " ") == mixed
    decomposed = "e\u0301" * 8
    out = "".join(written(f"aa bb {decomposed} cc", 12))
    assert decomposed in out, "what is written over a character takes no column of its own"


def test_code_between_fences_keeps_its_lines() -> None:
    code = "```python\n" + "value = " * 12 + "1\n```\n"
    prose = "word " * 12
    out = "".join(written(f"{prose}\n{code}{prose}", 24))
    assert code in out
    assert out.count("\n") > code.count("\n") + 4


@pytest.mark.parametrize(
    ("wrap", "expected"), [(None, "one two three\n"), (WordWrap(lambda: 9), "one two\nthree\n")], ids=["no", "yes"]
)
def test_the_printer_breaks_lines_where_it_is_asked_to(wrap: WordWrap | None, expected: str) -> None:
    stream = io.StringIO()
    printer = TextPrinter(stream, colour=False, terminal=True, wrap=wrap)
    for index, text in enumerate(["one", " two", " thr", "ee"]):
        printer.write(TokenEvent(index, index, text))
    printer.finish()
    assert stream.getvalue() == expected
