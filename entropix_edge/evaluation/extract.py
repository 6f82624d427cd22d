r"""Answers in replies.

- `last-number`: in the last `\boxed{}`, else after the last `####`, else after the last "answer is", else the
  last number of all.
- `choice`: a letter, after "answer", in brackets, or alone.
- `exact`: the whole reply, without case, extra spaces and a final full stop.
- `regex:PATTERN`: the first group of the last match, or the match.
- `code`: the last fenced block, or the whole reply.
"""

from __future__ import annotations

import re
from decimal import Decimal

from ..errors import ConfigError

EXTRACTORS = ("last-number", "choice", "exact", "regex:PATTERN", "code")
_LONGEST = 20_000  # characters of a reply's end that are searched
_NUMBER = r"[-−]?\$?(?:\d{1,3}(?:,\d{3})+|\d{1,40})(?:\.\d{1,40})?"
_LAST_NUMBER = re.compile(_NUMBER)
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d{1,20})\}\{(\d{1,20})\}")
_BEFORE_ANSWER = [
    re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}"),
    re.compile(r"####\s*([^\n]*)"),
    re.compile(r"answer(?: is|:)\s*([^\n]*)", re.IGNORECASE),
]
_CHOICES = [
    re.compile(r"answer(?: is|:)?\W{0,6}([A-Z])\b", re.IGNORECASE),
    re.compile(r"\\boxed\{\W*(?:\\text\{)?([A-Z])\b"),
    re.compile(r"\(([A-Z])\)"),
    re.compile(r"^\W*([A-Z])\W*$", re.MULTILINE),
    re.compile(r"^\W*([A-Z])[.):]", re.MULTILINE),
]
_FENCED = re.compile(r"```(?:python|py)?[^\S\n]*\n(.*?)(?:```|\Z)", re.DOTALL)


def check_extractor(name: str) -> None:
    """Refuse an unknown extractor.

    Raises:
        ConfigError: naming it.
    """
    if name.startswith("regex:"):
        try:
            re.compile(name.removeprefix("regex:"))
        except re.error as error:
            raise ConfigError(f"extractor {name!r} is no regular expression: {error}") from error
    elif name not in EXTRACTORS:
        raise ConfigError(f"extractor {name!r} is not known: it must be one of {', '.join(EXTRACTORS)}")


def extract(text: str, extractor: str) -> str | None:
    """The answer in a reply, in its normal form; None where there is none.

    Raises:
        ConfigError: an unknown extractor.
    """
    text = text[-_LONGEST:]
    match extractor:
        case "last-number":
            return _number(text)
        case "choice":
            return _choice(text)
        case "exact":
            return " ".join(text.split()).casefold().removesuffix(".").strip() or None
        case "code":
            blocks: list[str] = [block for block in _FENCED.findall(text) if block.strip()]
            return blocks[-1] if blocks else text
    check_extractor(extractor)
    found = list(re.finditer(extractor.removeprefix("regex:"), text))
    if not found:
        return None
    last = found[-1]
    return extract((last.group(1) if last.re.groups else last.group()) or "", "exact")


def right(found: str | None, gold: str) -> bool:
    """Whether what was found is the right answer; both in normal form."""
    return found is not None and found == gold


def _number(text: str) -> str | None:
    """Where an answer is announced its first number counts: what follows may be a unit or a remark."""
    for pattern in _BEFORE_ANSWER:
        said = pattern.findall(text)
        if said and (number := _a_number(said[-1], 0)) is not None:
            return number
    return _a_number(text, -1)


def _a_number(text: str, index: int) -> str | None:
    if fractions := _FRACTION.findall(text):
        sign, above, below = fractions[index]
        if int(below):
            return _plain(Decimal(f"{sign}{above}") / Decimal(below))
    numbers = _LAST_NUMBER.findall(text)
    return _plain(Decimal(re.sub("[$,]", "", numbers[index]).replace("−", "-"))) if numbers else None


def _plain(number: Decimal) -> str:
    """Without trailing zeros, and without an exponent."""
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text.lstrip("0") if len(text) > 1 and text.lstrip("0")[:1].isdigit() else text


def _choice(text: str) -> str | None:
    for pattern in _CHOICES:
        if found := pattern.findall(text):
            return str(found[-1]).upper()
    return None
