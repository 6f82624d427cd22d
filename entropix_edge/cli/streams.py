"""The standard streams: set up before a command runs, flushed and closed after it, for every command alike."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys

_SPELLED = {"×": "x", "±": "+/-", "µ": "u", "²": "^2", "−": "-", "—": "-", "–": "-", "…": "...", "’": "'"}
_HANDLER = "entropix-edge"


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """What to write for characters that a stream's encoding lacks: our own signs in ASCII, else question marks.

    A file name's bytes that were no text (lone surrogates, as Python reads them) are written as they were.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return _SPELLED.get(character, "?"), error.start + 1


codecs.register_error(_HANDLER, _spell)


def set_up() -> None:
    """No character that is printed may end a command: a measurement of minutes would be lost for a `±`.

    Nor may a slow reader: a stream that another program left non-blocking would drop what it does not take at once.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)
            with contextlib.suppress(OSError, ValueError):
                os.set_blocking(stream.fileno(), True)


def flush() -> None:
    """Bring standard output to its reader.

    Raises:
        OSError: it cannot be written: the disk is full, or the reader has gone.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def close() -> None:
    """Close what the command wrote to. An error was reported by `flush`; Python must not find it again at its end."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.close()
