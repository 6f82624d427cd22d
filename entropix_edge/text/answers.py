r"""Answers in replies.

- `last-number`: in the last `\boxed{}` that has one, else after the last `####`, else after the last "answer is",
  else the last number of all.
- `choice`: a letter, after "answer", in brackets, or alone.
- `exact`: the whole reply, without case, extra spaces and a final full stop.
- `regex:PATTERN`: the first group of the last match, or the match.
- `code`: the last fenced block that is marked as Python, else the last fenced block, else the whole reply.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

from ..errors import ConfigError

EXTRACTORS = ("last-number", "choice", "exact", "regex:PATTERN", "code")
_LONGEST = 20_000  # characters of a reply's end that are searched
_DIGITS = r"(?:\d{1,3}(?:(?:,|\{,\})\d{3})+(?:\.\d{1,40})?|\d{1,40}(?:\.\d{1,40})?|(?<!\w)\.\d{1,40})(?!\d)"
_NUMBER = re.compile(  # a minus after a letter, a digit or a bracket is no sign: 10-3 ends in 3
    r"(?P<sign>(?<![\w)])[-−])?(?:\\?\$)?"
    r"(?:\\[dt]?frac\{(?P<over>-?\d{1,20})\}\{(?P<under>\d{0,19}[1-9]\d{0,19})\}"
    rf"|(?<!\d)(?P<digits>{_DIGITS}))"
)
_BEFORE_ANSWER = [
    re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}"),
    re.compile(r"####\s*([^\n]*)"),
    re.compile(r"answer\W{0,2}(?: is:?|:)\s*((?:[^\n.]|\.(?=\d))*)", re.IGNORECASE),  # to the end of the sentence
]
_CHOICES = [
    re.compile(
        r"(?i:answer|(?:option|choice)(?= is))(?i: is|:)?(?i:\W{1,6}(?:option|choice))?\W{1,6}([A-Z])\b(?!['’])"
    ),
    re.compile(r"(?i:answer)(?: is|:)?\W{1,6}([a-z])\b\W*$", re.MULTILINE),  # a small one only at a line's end
    re.compile(r"\\boxed\{\W*(?:\\text\{)?([A-Z])\b"),
    re.compile(r"\(([A-Z])\)"),
    re.compile(r"^\W*([A-Z])\W*$", re.MULTILINE),
    re.compile(r"^\W*([A-Z])[.):]", re.MULTILINE),
]
_FENCED = re.compile(r"```(\w*)[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)


def check_extractor(name: str) -> None:
    """Refuse an unknown extractor.

    Raises:
        ConfigError: naming it.
    """
    if name.startswith("regex:"):
        try:
            re.compile(name.removeprefix("regex:"))
        except re.error as error:
            raise ConfigError(f"extractor {name!r} is not a regular expression: {error}") from error
    elif name not in EXTRACTORS:
        raise ConfigError(f"extractor {name!r} is not known: it must be one of {', '.join(EXTRACTORS)}")


class Found(NamedTuple):
    """An answer in a reply.

    Attributes:
        answer: in its normal form.
        start: where in the text it is written.
        end: the character after it.
    """

    answer: str
    start: int
    end: int


def extract(text: str, extractor: str) -> str | None:
    """The answer in a reply, in its normal form; None where there is none.

    Raises:
        ConfigError: an unknown extractor.
    """
    found = locate(text, extractor)
    return found.answer if found else None


def locate(text: str, extractor: str) -> Found | None:
    """The answer in a reply, and where it stands; None where there is none.

    Raises:
        ConfigError: an unknown extractor.
    """
    skipped = max(0, len(text) - _LONGEST)
    found = _locate(text[skipped:], extractor)
    return found and Found(found.answer, found.start + skipped, found.end + skipped)


def _locate(text: str, extractor: str) -> Found | None:
    match extractor:
        case "last-number":
            return _number(text)
        case "choice":
            return _choice(text)
        case "exact":
            return _exact(text, 0, len(text))
        case "code":
            return _code(text)
    check_extractor(extractor)
    found = list(re.finditer(extractor.removeprefix("regex:"), text))
    if not found:
        return None
    last = found[-1]
    group = 1 if last.re.groups and last.group(1) is not None else 0
    return None if last.re.groups and not group else _exact(text, *last.span(group))


def _exact(text: str, start: int, end: int) -> Found | None:
    answer = " ".join(text[start:end].split()).casefold().removesuffix(".").strip()
    return Found(answer, start, end) if answer else None


def right(found: str | None, gold: str) -> bool:
    """Whether what was found is the right answer; both in normal form."""
    return found is not None and found == gold


def _number(text: str) -> Found | None:
    """Where an answer is announced its first number counts: what follows may be a unit or a remark."""
    for pattern in _BEFORE_ANSWER:
        for said in reversed(list(pattern.finditer(text))):
            start, end = said.span(1)
            after_equals = text.rfind("=", start, end) + 1 or start
            for place in (after_equals, start):
                if found := _NUMBER.search(text[place:end]):  # a slice: what is before it is no part of the number
                    return Found(_plain(found), place + found.start(), place + found.end())
    numbers = list(_NUMBER.finditer(text))
    return Found(_plain(numbers[-1]), *numbers[-1].span()) if numbers else None


def announces_number(text: str) -> bool:
    """Whether a number is announced as the answer, in one of the ways that `last-number` knows."""
    return any(_NUMBER.search(said.group(1)) for pattern in _BEFORE_ANSWER for said in pattern.finditer(text))


def _plain(number: re.Match[str]) -> str:
    """Without thousands' commas, trailing zeros and an exponent."""
    if number["over"]:
        value = Decimal(number["over"]) / Decimal(number["under"])
    else:
        value = Decimal(re.sub("[{},]", "", number["digits"]))
    text = f"{value.copy_negate() if number['sign'] else value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _choice(text: str) -> Found | None:
    for pattern in _CHOICES:
        if found := list(pattern.finditer(text)):
            return Found(found[-1].group(1).upper(), *found[-1].span(1))
    return None


def _code(text: str) -> Found:
    blocks = [(found[1].lower(), *found.span(2)) for found in _FENCED.finditer(text) if found[2].strip()]
    python = [(start, end) for mark, start, end in blocks if mark.startswith("py")]
    start, end = (python or [(start, end) for _mark, start, end in blocks] or [(0, len(text))])[-1]
    return Found(text[start:end], start, end)
