"""Token bytes to text, as it may be shown."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class TextStream:
    """Turns the bytes of one token after another into text.

    Holds back what is not yet certain: the first bytes of an unfinished character, and an ending that
    may grow into a stop string. Bytes that can never be UTF-8 become U+FFFD.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(stop)
        self._bytes = b""  # of an unfinished character
        self._held = ""
        self.stopped = False

    def push(self, piece: bytes) -> str:
        """Take one token's bytes; return the text that became certain.

        Once a stop string is complete `stopped` is True, and the text ends before it.
        """
        try:
            text = piece.decode() if not self._bytes else self._decoded(piece)
        except UnicodeDecodeError:
            text = self._decoded(piece)
        if not self._stop:
            return text
        self._held += text
        # the first that is complete ends the text, so that it does not matter how the tokens cut it
        found = [(start + len(text), start) for text in self._stop if (start := self._held.find(text)) >= 0]
        if found:
            self.stopped = True
            _end, start = min(found)
            text, self._held = self._held[:start], ""
            return text
        return self._release(len(self._held) - self._partial())

    def _decoded(self, piece: bytes) -> str:
        """The characters that are whole with these bytes; most tokens are whole themselves."""
        data = self._bytes + piece
        text, used = codecs.utf_8_decode(data, "replace", False)
        self._bytes = data[used:]
        return text

    def copy(self) -> TextStream:
        """The same state, independent of this one."""
        twin = TextStream(self._stop)
        twin._bytes = self._bytes
        twin._held = self._held
        twin.stopped = self.stopped
        return twin

    def flush(self) -> str:
        """The text still held back; an unfinished character at the very end is dropped."""
        return self._release(len(self._held))

    def _partial(self) -> int:
        """Length of the longest ending that begins a stop string."""
        longest = min(len(self._held), max(len(text) for text in self._stop) - 1)
        for length in range(longest, 0, -1):
            if any(text.startswith(self._held[-length:]) for text in self._stop):
                return length
        return 0

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text
