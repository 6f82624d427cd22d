"""Bytes of a text file to text: what is recognisable is decoded, the rest is refused with what would be right."""

from __future__ import annotations

import codecs

from .errors import EncodingError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like UTF-16's mark
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 65536  # bytes that are looked at to name what a text is not
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))


def decode_text(data: bytes, name: str) -> str:
    """The text of a file: UTF-8, or UTF-16 or UTF-32 where it begins with a byte order mark, which is dropped.

    Args:
        data: the whole file.
        name: what to call it in an error.

    Raises:
        EncodingError: it is in another encoding, or no text at all. Nothing is replaced or guessed.
    """
    mark, encoding = next((known for known in _MARKS if data.startswith(known[0])), (b"", "utf-8"))
    body = data[len(mark) :]
    if not mark:
        _check_binary(data[:_SAMPLE], name)
    try:
        return body.decode(encoding)
    except UnicodeDecodeError as error:
        where = len(mark) + error.start
        if encoding != "utf-8":
            raise EncodingError(
                f"{name} begins as {encoding[:6].upper()} and is damaged at byte {where}: save it as UTF-8"
            ) from error
        raise EncodingError(
            f"{name} is not UTF-8 text: byte {where} is 0x{data[where]:02X}; if it is Latin-1, convert it with "
            "`iconv -f WINDOWS-1252 -t UTF-8`"
        ) from error


def _check_binary(sample: bytes, name: str) -> None:
    """Refuse what is full of zeros or other control bytes, valid UTF-8 though they are."""
    if len(sample) > 3 and sample.count(0) * 4 > len(sample) and min(sample[::2].count(0), sample[1::2].count(0)) == 0:
        raise EncodingError(
            f"{name} looks like UTF-16 without a byte order mark: convert it with `iconv -f UTF-16LE -t UTF-8`"
            if sample[1::2].count(0)
            else f"{name} looks like UTF-16 without a byte order mark: convert it with `iconv -f UTF-16BE -t UTF-8`"
        )
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    if controls * 10 > len(sample):
        raise EncodingError(f"{name} is binary: {controls} of its first {len(sample)} bytes are control characters")
