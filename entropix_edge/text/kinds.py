"""Which kind of answer replies have, seen from the replies themselves."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from .answers import announces_number, extract, locate

if TYPE_CHECKING:
    from collections.abc import Sequence

YES_OR_NO = r"regex:(?i)\A\W*(yes|no)\b"
_CHOSEN = re.compile(  # a letter that is announced and no variable, or is the whole of the last line
    r"(?i:(?:answer|option|choice)(?: is|:))\W{1,6}(?:(?i:option|choice)\W{1,3})?[A-Z]\b(?![ \t]*[=<>+*/^'’])"
    r"|\\boxed\{\W*(?:\\text\{)?[A-Z]\b"
    r"|(?:\A|\n)\W*[A-Z]\W*\Z"
    r"|\A\W*[A-Z][.):][^\n]*\Z"
)
_RESULT = re.compile(r"=\s*\\?[$€£]?\s*[-−]?\d")
_SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n")
_FEW = 8  # words


def detect(texts: Sequence[str]) -> str | None:
    """The extractor of the kind of answer that most of some replies to one question have; None where there is none.

    Args:
        texts: whole replies, at least one.
    """
    kind, count = Counter(map(kind_of, texts)).most_common(1)[0]
    return kind if 2 * count > len(texts) else None


def kind_of(text: str) -> str | None:
    """The extractor of the kind of answer that a reply has.

    Yes or no at its beginning; `choice` where a letter is announced, or is all of the last line; `last-number` where a
    number is announced, computed, or in the last sentence; `code` where there is a fenced block and nothing is
    announced after it; `exact` where the reply is a few words. None for other prose: a number in it may be any.
    """
    text = text.strip()
    fences = text.split("```")
    tail = fences[-1] if len(fences) > 2 else text
    if extract(text, YES_OR_NO):
        return YES_OR_NO
    if _CHOSEN.search(tail) and extract(text, "choice"):
        return "choice"
    if announces_number(tail):
        return "last-number"
    if len(fences) > 2:
        return "code"
    number = locate(text, "last-number")
    if number and (_RESULT.search(text) or number.start >= _last_sentence(text)):
        return "last-number"
    return "exact" if text and "\n" not in text and len(text.split()) <= _FEW else None


def _last_sentence(text: str) -> int:
    """Where the last sentence begins."""
    return max((end.end() for end in _SENTENCE.finditer(text)), default=0)
