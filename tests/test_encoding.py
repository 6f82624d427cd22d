"""Bytes of text files: what is recognisable is decoded, nothing is replaced without a word."""

import codecs
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropix_edge.encoding import decode_text
from entropix_edge.errors import EncodingError

TEXT = "Grüße, 漢字 🙂\r\n\tend"


def refusal(data: bytes) -> str:
    with pytest.raises(EncodingError) as caught:
        decode_text(data, "notes.txt")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
        codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
    ],
    ids=["plain", "utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"],
)
def test_a_text_is_decoded_by_its_mark_which_is_no_part_of_it(data: bytes) -> None:
    assert decode_text(data, "notes.txt") == TEXT


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])), st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_what_was_written_is_read(text: str, encoding: str) -> None:
    assert decode_text(("\ufeff" + text).encode(encoding.replace("16", "16-le").replace("32", "32-le")), "x") == text


@pytest.mark.parametrize("data", [b"", b"\n", b"a\x00b and more text", b"\x1b[1mbold\x1b[0m", codecs.BOM_UTF8])
def test_little_and_odd_texts_are_texts(data: bytes) -> None:
    assert decode_text(data, "notes.txt") == data.removeprefix(codecs.BOM_UTF8).decode()


def test_latin_1_is_refused_with_the_place_and_what_to_do() -> None:
    assert refusal("Grüße an alle".encode("latin-1")) == (
        "notes.txt is not UTF-8 text: byte 2 is 0xFC; if it is Latin-1, convert it with "
        "`iconv -f WINDOWS-1252 -t UTF-8`"
    )


@pytest.mark.parametrize("order", ["le", "be"])
def test_utf_16_without_a_mark_is_named(order: str) -> None:
    assert refusal("Hello there".encode(f"utf-16-{order}")) == (
        f"notes.txt looks like UTF-16 without a byte order mark: convert it with `iconv -f UTF-16{order.upper()} "
        "-t UTF-8`"
    )


@pytest.mark.parametrize(
    "data",
    [b"GGUF\x03\x00\x00\x00\x01\x00\x00\x00", b"\x7fELF\x02\x01\x01" + bytes(64), random.Random(0).randbytes(4096)],
    ids=["gguf", "elf", "random"],
)
def test_what_is_no_text_is_called_binary(data: bytes) -> None:
    assert refusal(data).startswith("notes.txt is binary: ")


@pytest.mark.parametrize("data", [b"\xff\xfea", b"\xff\xfe\x00\xd8a\x00", b"\x00\x00\xfe\xff\x00\x11\x00\x00"])
def test_a_damaged_utf_16_or_32_is_refused(data: bytes) -> None:
    assert "is damaged at byte" in refusal(data)
