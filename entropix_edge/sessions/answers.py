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
            return _code(text)
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
        for said in reversed(pattern.findall(text)):
            if found := _NUMBER.search(said.rpartition("=")[2]) or _NUMBER.search(said):
                return _plain(found)
    numbers = list(_NUMBER.finditer(text))
    return _plain(numbers[-1]) if numbers else None


def _plain(number: re.Match[str]) -> str:
    """Without thousands' commas, trailing zeros and an exponent."""
    if number["over"]:
        value = Decimal(number["over"]) / Decimal(number["under"])
    else:
        value = Decimal(re.sub("[{},]", "", number["digits"]))
    text = f"{value.copy_negate() if number['sign'] else value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _choice(text: str) -> str | None:
    for pattern in _CHOICES:
        if found := pattern.findall(text):
            return str(found[-1]).upper()
    return None


def _code(text: str) -> str:
    blocks = [(mark.lower(), block) for mark, block in _FENCED.findall(text) if block.strip()]
    python = [block for mark, block in blocks if mark.startswith("py")]
    return str((python or [block for _mark, block in blocks] or [text])[-1])
