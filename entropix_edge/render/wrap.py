"""Lines that break between words, as a text is written to a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Styled = tuple[str, str]

_LONG = 24  # columns: a word that begins so far from the edge is written at once, whatever it becomes
_FENCE = "```"


class WordWrap:
    """Puts a line break where the terminal would break in a word.

    A word is held back only near the edge, so that text is seen as soon as it is there. What has no words to break
    between is left to the terminal: words longer than a line, wide characters. So is code between fences, whose line
    breaks matter.

    Args:
        width: of the terminal, in columns; asked for at each word, since it may change.
    """

    def __init__(self, width: Callable[[], int]) -> None:
        self._width = width
        self._column = 0
        self._line = ""  # its first characters
        self._code = False
        self._gap: list[Styled] = []  # spaces that may become a line break
        self._word: list[Styled] = []  # held back
        self._free = True  # whether the word under way is written as it comes

    def put(self, text: str, style: str) -> list[Styled]:
        """Take text of one style; what of it, and of what was held, may be written now."""
        out: list[Styled] = []
        for char in text:
            if char == "\n":
                out += [*self._settle(), (char, style)]
                self._end_line()
                continue
            if len(self._line) < len(_FENCE):
                self._line += char
            if char in " \t" and not self._code:
                out += self._settle()
                self._gap.append((char, style))
                self._free = False
            elif self._free or self._code:
                out.append((char, style))
                self._advance(_columns(char))
            else:
                self._word.append((char, style))
                out += self._judged(_columns(char))
        return _joined(out)

    def flush(self) -> list[Styled]:
        """What is held back, at the end."""
        return _joined(self._settle())

    def _judged(self, columns: int) -> list[Styled]:
        """What of a word under way can be written: all, where it needs no break or can have none."""
        gap, word = _length(self._gap), _length(self._word)
        width = self._width()
        if columns > 1 or self._column + gap + _LONG <= width:
            self._free = True
            return self._settle()
        if self._column + gap + word > width:
            self._gap, held = [], self._word
            self._word, self._free, self._column = [], True, 0
            self._advance(word)
            return [("\n", ""), *held]
        return []

    def _settle(self) -> list[Styled]:
        """What is held, where it stands."""
        out = [*self._gap, *self._word]
        for char, _style in out:
            self._advance(_columns(char))
        self._gap, self._word = [], []
        return out

    def _advance(self, columns: int) -> None:
        """Move on as the terminal does, which breaks a line where no room is left."""
        self._column = self._column + columns if self._column + columns <= self._width() else columns

    def _end_line(self) -> None:
        if self._line == _FENCE:
            self._code = not self._code
        self._line, self._column, self._free = "", 0, True


def _columns(char: str) -> int:
    """How many columns of a terminal a character takes."""
    if char < "\u0300":
        return 1
    from rich.cells import cell_len

    return cell_len(char)


def _length(parts: Iterable[Styled]) -> int:
    return sum(_columns(char) for char, _style in parts)


def _joined(parts: Iterable[Styled]) -> list[Styled]:
    """The same with neighbours of one style in one."""
    joined: list[Styled] = []
    for text, style in parts:
        if joined and joined[-1][1] == style:
            joined[-1] = joined[-1][0] + text, style
        else:
            joined.append((text, style))
    return joined
