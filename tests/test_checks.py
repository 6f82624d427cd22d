"""The calculator: which equations it reads, which it leaves alone, and what it puts in their place."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from entropix_edge.checks import check_arithmetic, number_in_progress

WRONG = [
    ("12 * 3 = 35.\n", "36"),
    ("12 * 3 = 35. So", "36"),
    ("He has 5 + 7 = 13 apples", "12"),
    ("So $5 x 12 = $50 in all", "60"),
    (r"\(4 \times 25 = 90\)", "100"),
    (r"\[ \frac{3}{4} \times 40 = 20 \]", "30"),
    ("1,200 + 300 = 1,600 in all", "1,500"),
    ("2^10 = 1000\n", "1024"),
    ("2**10 = 1000\n", "1024"),
    ("20% * 50 = 12 people", "10"),
    ("(3 + 4) * 2 = 11, so", "14"),
    ("10 / 4 = 3.5 in all", "2.5"),
    ("1 / 3 = 0.25 in all", "0.33"),
    ("7 - 10 = 3\n", "-3"),
    ("5 + 3 = 8 * 2 = 18 in all", "16"),
    ("100 × 0.5 = 60 in all", "50"),
    ("10 ÷ 2 = 4 in all", "5"),
    ("2 * 3.50 = 7.50 in all", "7.00"),
    ("1.5 * 3 = 4 * nothing = 2", None),
    ("30 - 5 * 2 = 50 miles", "20"),
]


@pytest.mark.parametrize(("text", "right"), WRONG)
def test_a_wrong_number_is_set_right(text: str, right: str | None) -> None:
    correction = check_arithmetic(text)
    assert (correction and correction.right) == right
    if correction:
        assert text[correction.start :].startswith(correction.found)


@pytest.mark.parametrize(
    "text",
    [
        "12 * 3 = 36.\n",
        "10 / 3 = 3.33 or",  # at the precision shown
        "10 / 3 = 3 left",  # rounded
        "1 / 4 = 25% of it",
        "15 / 60 = 25 percent",
        "0.2 * 100 = 20% of",
        "2 * 3 = 6",  # may go on: 60
        "2 * (3 + 4) = 2 * 7 = ",  # goes on as an expression
        "2 * 7 = 2 \\times 7",
        "30 days x 4 = 100 in",  # a unit
        "3 apples + 4 * 2 = 5 in",  # preceded by an operator
        "x = 5 ",
        "Total = 40 ",
        "The answer is 42. ",
        "```python\n2 + 2 = 5\n",
        'She wrote "2 + 2 = 5" and',
        "`2 + 2 = 5` and",
        "3 / 0 = 7 or",
        "9^99 = 7 or",
        "2 + 2 = 5x or",  # algebra
        "1/2 = 1:3 or",
        "2 + = 5 or",
        "12 = 13 or",  # no operator
        "5 x = 13 or",
    ],
)
def test_what_is_right_or_unclear_is_left_alone(text: str) -> None:
    assert check_arithmetic(text) is None


@pytest.mark.parametrize(
    ("text", "open_"),
    [
        ("2 + 2 =", True),
        ("2 + 2 = ", True),
        ("2 + 2 = $", True),
        ("2 + 2 = 5", True),
        ("2 + 2 = 5.", True),
        ("2 + 2 = 5.2", True),
        ("2 + 2 = 5 ", True),
        ("2 + 2 = 5 a", False),
        ("2 + 2 = 5.\n", False),
        ("2 + 2", False),
        ("2 + 2 = x", False),
        ("a = b\n5", False),
    ],
)
def test_a_number_is_waited_for(text: str, open_: bool) -> None:
    assert number_in_progress(text) is open_


def test_the_end_of_a_reply_closes_a_number() -> None:
    assert check_arithmetic("2 + 2 = 5") is None
    correction = check_arithmetic("2 + 2 = 5", finished=True)
    assert correction
    assert (correction.expression, correction.found, correction.right) == ("2 + 2", "5", "4")


@given(
    first=st.integers(0, 10**6), second=st.integers(1, 10**4), sign=st.sampled_from("+-*/"), shown=st.integers(0, 10**7)
)
def test_it_agrees_with_exact_arithmetic(first: int, second: int, sign: str, shown: int) -> None:
    value = {
        "+": Fraction(first + second),
        "-": Fraction(first - second),
        "*": Fraction(first * second),
        "/": Fraction(first, second),
    }[sign]
    correction = check_arithmetic(f"So {first} {sign} {second} = {shown} and")
    agrees = shown == value or (
        value.denominator != 1 and any(abs(shown - target) < 1 for target in (value, 100 * value))
    )
    assert (correction is None) is agrees
    if correction:
        assert abs(Fraction(correction.right) - value) < Fraction(1, 100)
        again = check_arithmetic(f"So {first} {sign} {second} = {correction.right} and")
        assert again is None, "what it puts there it accepts"


@given(
    first=st.integers(0, 10**7),
    second=st.integers(0, 10**7),
    separator=st.sampled_from(["", ",", "{,}"]),
    end=st.sampled_from([" and", ".", ", so", "\\)", " \\]", "%", "\n", ".5 x"]),
)
@example(first=35_000, second=35_000, separator=",", end=" and")
def test_a_number_that_comes_a_character_at_a_time_is_not_corrected_before_its_end(
    first: int, second: int, separator: str, end: str
) -> None:
    number = f"{first + second:,}".replace(",", separator)
    text = f"So {first} + {second} = {number}{end}"
    for length in range(1, len(text)):
        assert number_in_progress(text[:length]) or check_arithmetic(text[:length]) is None


@given(st.text(alphabet='0123456789+-*/^()=.,$%x \\frac{}\n`"times', max_size=80))
@example("=" * 80)
@example("((((" * 20 + "=1 ")
def test_no_text_breaks_it(text: str) -> None:
    correction = check_arithmetic(text)
    if correction:
        assert text[correction.start :].startswith(correction.found)
        Fraction(correction.right.replace(",", "").replace("{}", "").replace("{,}", "").replace("−", "-"))
    number_in_progress(text)
