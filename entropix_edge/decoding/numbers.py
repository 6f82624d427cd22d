"""Numbers after `=` as they are written: which are to be checked, and what is to be put in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..checks import Correction
    from ..config import CheckRule
    from .protocols import Vocabulary

_EQUALS = b"="
_TAIL = 400  # bytes of the text in which a number in progress is looked for


class WrongNumber(NamedTuple):
    """A number that is to be replaced.

    Attributes:
        first_token: the place in the reply of the token that it begins in.
        replacement: the text from that token on: what stood before the number in it, and the right number.
        correction: what was wrong.
    """

    first_token: int
    replacement: str
    correction: Correction


class NumberWatch:
    """Follows a reply's text, and checks a number after `=` when it is known to go no further.

    Only numbers of which the model was not sure are checked: those with a token drawn from a distribution of more than
    `rule.entropy_above` bits. The others are left as they are, also where they are wrong: "2 + 2 = 5" may be meant.

    Args:
        rule: the preset's.
        vocabulary: of the model.
        tokens: of the reply, as they are written; those that are there already count as sure.

    Attributes:
        left: corrections that may still be made; 0 where nothing is checked.
        holds: whether a number is in progress: its tokens may still be taken back.
    """

    def __init__(self, rule: CheckRule, vocabulary: Vocabulary, tokens: Sequence[int]) -> None:
        self._rule = rule
        self._vocabulary = vocabulary
        self._tokens = tokens
        self._text = bytearray()
        self._starts: list[int] = []  # of each token in the text
        self._entropies: list[float] = []  # of the distribution that each token was taken from, in bits
        self.left = rule.most if rule.arithmetic else 0
        self.holds = False
        if self.left and tokens:
            self._read()
            self.holds = _EQUALS in self._text and _in_progress(_decoded(self._text[-_TAIL:]))

    def concerns(self, token: int) -> bool:
        """Whether a token, written next, may have to be taken back, so that `see` must be told of it."""
        return self.left > 0 and (self.holds or _EQUALS in self._vocabulary.piece(token))

    def see(self, entropy: float) -> None:
        """Note that the last token was written, from a distribution of so many bits."""
        if self.concerns(self._tokens[-1]):
            self._read()
            self._entropies[-1] = entropy
            self.holds = _in_progress(_decoded(self._text[-_TAIL:]))

    def _read(self) -> None:
        """Take up the tokens that were written since it was last looked at the text."""
        for token in self._tokens[len(self._starts) :]:
            self._starts.append(len(self._text))
            self._entropies.append(0.0)  # of no number
            self._text += self._vocabulary.piece(token)

    def wrong_number(self, token: int) -> WrongNumber | None:
        """What is wrong with the number that a token, written next, would close; None where nothing is."""
        if not self.holds:
            return None
        ends = self._vocabulary.is_end(token)
        piece = b"" if ends else self._vocabulary.piece(token)
        if not ends and _in_progress(_decoded(self._text[-_TAIL:] + piece)):
            return None
        from ..checks import check_arithmetic

        correction = check_arithmetic(_decoded(self._text + piece), finished=ends)
        if correction is None:
            return None
        start = len(_decoded(self._text)[: correction.start].encode("utf-8", "surrogateescape"))
        end = start + len(correction.found.encode())
        first = max(index for index, place in enumerate(self._starts) if place <= start)
        of_number = [
            entropy for place, entropy in zip(self._starts, self._entropies, strict=True) if start <= place < end
        ]
        if max([*of_number, self._entropies[first]]) <= self._rule.entropy_above:
            return None
        before = self._text[self._starts[first] : start].decode("utf-8", "replace")
        return WrongNumber(first, before + correction.right, correction)

    def note_correction(self) -> None:
        """Count a correction; `rule.most` are the most."""
        self.left -= 1
        self.holds = self.holds and self.left > 0

    def give_up(self) -> None:
        """Check nothing more."""
        self.left = 0
        self.holds = False

    def rewind(self, index: int) -> None:
        """Forget the tokens from an index on: they were taken back."""
        if self._starts[index:]:
            del self._text[self._starts[index] :], self._starts[index:], self._entropies[index:]
        self.holds = self.left > 0 and _in_progress(_decoded(self._text[-_TAIL:]))


def _in_progress(text: str) -> bool:
    from ..checks import number_in_progress  # where there is an `=`: fractions take 10 ms to import

    return number_in_progress(text)


def _decoded(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "surrogateescape")
