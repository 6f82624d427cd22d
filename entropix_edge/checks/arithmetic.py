r"""A calculator for equations in a text: a number after `=` beside the expression before it.

The longest closed expression before the `=` is evaluated exactly, with fractions. LaTeX (`\times`, `\frac{a}{b}`),
currency signs, percentages and thousands separators are understood. What cannot be read beyond doubt is left alone:
an expression that follows an operator or a unit ("30 days x 4 = "), a number that goes on as an expression
("= 2 * 7"), code and quotations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_LONGEST_EXPRESSION = 200  # characters
_MOST_DIGITS = 18
_HIGHEST_POWER = 64
_MOST_DECIMALS = 4  # that are written out where the exact number has no more

_DIGITS = r"\d+(?:(?:,|\{,\})\d{3})*(?:\.\d+)?"
_RESULT = re.compile(rf"=\s*(?P<currency>\\?[$€£]\s*)?(?P<number>[-−]?{_DIGITS})(?P<after>[^=]*)\Z")
_OPERATOR = r"[-+*/^−–×÷·xX]|\\(?:times|cdot|div|frac|pm|over)"
_GOES_ON = re.compile(rf"[ \t]*(?:{_OPERATOR}(?!\w)|\\(?:times|cdot|div|frac|pm|over)|:\s*\d|\()|[A-Za-z]")
_UNDECIDED = re.compile(r"(?:\.|\{|(?:,|\{,\}?)\d{0,2})?|[ \t]+|[ \t]*\\[a-z]*|[ \t]*[-−–*xX:]")
_REPLACED = (
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\(?:times|cdot)|[×·]|(?<=[\d)\s])[xX](?=[\s(\d])"), "*"),
    (re.compile(r"\\div|÷"), "/"),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r"\*\*(?=\s*[\d(])(?<=[\d)\s]\*\*)"), "^"),
    (re.compile(r"\\left|\\right|\\?[$€£]|\\[()\[\],;!]"), ""),
    (re.compile(r"(?<=\d)(?:,|\{,\})(?=\d{3}(?!\d))"), ""),
    (re.compile(r"\\%"), "%"),
)
_TOKEN = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<sign>[-+*/^()%])|(?P<other>[^\s\d])|(?P<space>\s+)")


@dataclass(frozen=True, slots=True)
class Correction:
    """A wrong number, and what is right.

    Attributes:
        start: where the number begins in the text, in characters.
        expression: what was evaluated, as it was read.
        found: the number in the text.
        right: what should stand there, in the same form.
    """

    start: int
    expression: str
    found: str
    right: str


def number_in_progress(text: str) -> bool:
    """Whether a text ends in an `=`, or in a number after one that may still go on."""
    line = text[text.rfind("\n") + 1 :]
    _before, equals, after = line.rpartition("=")
    if not equals:
        return False
    if not after.strip(" \\$€£−-"):
        return True
    match = _RESULT.search(line)
    return match is not None and _UNDECIDED.fullmatch(match["after"]) is not None


def check_arithmetic(text: str, *, finished: bool = False) -> Correction | None:
    """Check the number after the last `=` of a text, once it is known that it goes no further.

    Args:
        text: a reply so far.
        finished: whether nothing follows it.

    Returns:
        What is wrong, None where nothing is, or where it cannot be told.
    """
    match = _RESULT.search(text)
    if match is None or _GOES_ON.match(match["after"]) or _is_quoted(text[: match.start()]):
        return None
    if not finished and _UNDECIDED.fullmatch(match["after"]):
        return None
    read = _expression_before(text[: match.start()])
    if read is None:
        return None
    expression, value = read
    found = match["number"]
    is_percentage = match["after"].lstrip().startswith(("%", "\\%"))
    if _agrees(found, value) or (is_percentage and _agrees(found, value * 100)):
        return None
    value *= 100 if is_percentage and value < 1 else 1
    return Correction(match.start("number"), expression, found, _in_the_form_of(found, value))


# --- the text around ------------------------------------------------------------------------------


def _is_quoted(text: str) -> bool:
    """Whether the end of a text stands in code or in quotation marks."""
    if text.count("```") % 2:
        return True
    line = text[text.rfind("\n") + 1 :]
    return bool(line.count("`") % 2 or line.count('"') % 2 or line.count("“") > line.count("”") or line[:1] == "\t")


def _expression_before(text: str) -> tuple[str, Fraction] | None:
    """The longest closed expression at the end of a text, with its value; None where there is none beyond doubt."""
    line = text[max(text.rfind("\n"), text.rfind("=")) + 1 :][-_LONGEST_EXPRESSION:]
    for pattern, replacement in _REPLACED:
        line = pattern.sub(replacement, line)
    tokens = [match for match in _TOKEN.finditer(line) if match.lastgroup != "space"]
    start = len(tokens)
    while start and tokens[start - 1].lastgroup in ("number", "sign"):
        start -= 1
    for first in range(start, len(tokens)):
        spelled = [match[0] for match in tokens[first:]]
        value = _evaluate(spelled)
        if value is None:
            continue
        before = tokens[first - 1][0] if first else ""
        if before in ("+", "-", "*", "/", "^", "%") or not any(sign in "+-*/^" for sign in spelled[1:]):
            return None
        if first == start and before.lower() in ("x", "\\"):
            return None
        return line[tokens[first].start() :].strip(), value
    return None


# --- evaluation -----------------------------------------------------------------------------------


def _evaluate(tokens: list[str]) -> Fraction | None:
    """The value of an expression; None where it is not one, or one with huge numbers."""
    if any(len(token) > _MOST_DIGITS for token in tokens):
        return None
    try:
        reader = _Reader(tokens)
        value = reader.sum()
    except (ValueError, ZeroDivisionError):
        return None
    return value if reader.is_at_end and abs(value) < 10**_MOST_DIGITS else None


class _Reader:
    """Recursive descent over tokens; raises ValueError where they are not an expression."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._tokens)

    def _next(self, *expected: str) -> str | None:
        """The next token, where it is one of these."""
        if not self.is_at_end and self._tokens[self._at] in expected:
            self._at += 1
            return self._tokens[self._at - 1]
        return None

    def sum(self) -> Fraction:
        value = self._product()
        while sign := self._next("+", "-"):
            operand = self._product()
            value = value + operand if sign == "+" else value - operand
        return value

    def _product(self) -> Fraction:
        value = self._power()
        while sign := self._next("*", "/"):
            operand = self._power()
            value = value * operand if sign == "*" else value / operand
        return value

    def _power(self) -> Fraction:
        base = self._operand()
        if not self._next("^"):
            return base
        exponent = self._power()
        if exponent.denominator != 1 or abs(exponent) > _HIGHEST_POWER or abs(base) > 10**6:
            raise ValueError(exponent)
        return base ** int(exponent)

    def _operand(self) -> Fraction:
        if self._next("-"):
            return -self._operand()
        if self._next("("):
            value = self.sum()
            if not self._next(")"):
                raise ValueError("an open parenthesis")
        elif self.is_at_end or (not self._tokens[self._at][0].isdigit() and self._tokens[self._at][0] != "."):
            raise ValueError("no number")
        else:
            value = Fraction(self._tokens[self._at])
            self._at += 1
        while self._next("%"):
            value /= 100
        return value


# --- the number in the text -----------------------------------------------------------------------


def _number(text: str) -> tuple[Fraction, int]:
    """A number's value, and its decimals."""
    plain = text.replace("{,}", "").replace(",", "").replace("−", "-")
    return Fraction(plain), len(plain.partition(".")[2])


def _agrees(found: str, value: Fraction) -> bool:
    """Whether a number is the value: exactly, at the precision shown, or rounded; a part also as a percentage."""
    number, decimals = _number(found)
    for target in (value, value * 100) if value.denominator != 1 else (value,):
        difference = abs(number - target)
        if difference == 0 or (decimals and difference < Fraction(1, 10**decimals)):
            return True
        if target.denominator != 1 and not decimals and difference < 1:
            return True
    return False


def _in_the_form_of(found: str, value: Fraction) -> str:
    """The value with the decimals and separators of the number that it replaces."""
    _number_found, decimals = _number(found)
    exact = next((count for count in range(_MOST_DECIMALS + 1) if (value * 10**count).denominator == 1), None)
    if exact is None:
        exact = max(decimals, 2)
    places = max(decimals, exact) if value.denominator != 1 else decimals
    scaled = round(abs(value) * 10**places)
    whole, part = divmod(scaled, 10**places)
    separator = "{,}" if "{,}" in found else "," if "," in found else ""
    digits = f"{whole:,}".replace(",", separator)
    sign = ("−" if "−" in found else "-") if value < 0 and scaled else ""
    return f"{sign}{digits}" + (f".{part:0{places}d}" if places else "")
