"""Answers from replies."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropix_edge.errors import ConfigError
from entropix_edge.text import extract, locate, right


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        # where it stands
        ("so 3 + 4 = 7.", "7"),
        (r"Therefore \(\boxed{85}\) of 100", "85"),
        (r"\boxed{1} and then \boxed{\$1,250.50} in 3 days", "1250.5"),
        (r"\boxed{12} of 5 are \boxed{x}", "12"),
        (r"\boxed{x = 5} for 2", "5"),
        (r"\boxed{x} so 12", "12"),
        ("#### -12\n", "-12"),
        ("#### 1,000,000 in 2 years", "1000000"),
        ("#### 4 of 5\n#### none", "4"),
        ("The answer is 18 dollars for 2 people.", "18"),
        ("The answer is 5. That took 3 steps.", "5"),
        ("The answer is 5. Wait, the answer is 6.", "6"),
        ("The answer is 4 + 5 = 9 of 10.", "9"),
        ("The final answer is:\n\n**42** of 50", "42"),
        ("**Answer**: 42 of 50", "42"),
        ("the answer is unclear, maybe 7 or 8", "7"),
        # how it is written
        ("1,234.50", "1234.5"),
        (r"\boxed{1{,}234}", "1234"),
        ("12% off", "12"),
        ("That is $0.50", "0.5"),
        ("it is .5", "0.5"),
        ("−3 degrees", "-3"),
        ("-$3", "-3"),
        ("$-3", "-3"),
        ("3-4=-1", "-1"),
        ("10-3", "3"),
        ("pages 10-12", "12"),
        ("1,2,3", "3"),
        ("007", "7"),
        ("10.0", "10"),
        ("100", "100"),
        ("0", "0"),
        ("-0.0", "0"),
        # fractions
        (r"the share is \(\boxed{\frac{3}{4}}\)", "0.75"),
        (r"\boxed{-\frac{3}{4}}", "-0.75"),
        (r"\boxed{\dfrac{-3}{4}}", "-0.75"),
        (r"He eats \frac{1}{2} of 10, so 5 are left", "5"),
        # nothing
        ("no idea", None),
        ("", None),
        ("9" * 41, None),
    ],
)
def test_the_last_number(text: str, answer: str | None) -> None:
    assert extract(text, "last-number") == answer


@given(
    st.decimals(-(10**9), 10**9, allow_nan=False, places=3),
    st.sampled_from(["{}", "${}", "{}.", "**{}**", "#### {}", "The answer is {} apples of 7.", r"a\boxed{{{}}}b 7"]),
    st.sampled_from(["", ","]),
)
def test_any_number_is_found_however_it_is_written(number: Decimal, form: str, comma: str) -> None:
    found = extract("first 3, then " + form.format(f"{number:{comma}f}"), "last-number")
    assert found is not None
    assert Decimal(found) == number
    assert right(found, extract(str(number), "last-number") or "")


@given(st.text(alphabet="0123456789.,-−$%\\{}frac boxed#=answer is:\n"))
def test_no_text_is_an_error(text: str) -> None:
    for extractor in ("last-number", "choice", "exact", "code"):
        extract(text, extractor)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is (B).", "B"),
        ("The answer is A, not (B)", "A"),
        ("The answer is B, option A is wrong.", "B"),
        ("Answer: **C**", "C"),
        ("Answer is option C", "C"),
        ("The correct option is B.", "B"),
        ("Answer: b", "B"),
        (r"\boxed{D}", "D"),
        (r"\boxed{\text{D}}", "D"),
        ("so (A) it is", "A"),
        ("B", "B"),
        ("**B**", "B"),
        ("I think\nC.\n", "C"),
        ("B. Mars", "B"),
        ("The answer is a planet", None),
        ("it is hard to say", None),
    ],
)
def test_a_choice(text: str, answer: str | None) -> None:
    assert extract(text, "choice") == answer


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a = 1", "a = 1"),
        ("x ``` y", "x ``` y"),
        ("```\na = 1", "a = 1"),
        ("```python\na = 1\n```\nthen\n```py\nb = 2\n```", "b = 2\n"),
        ("```python\na = 1\n```\nIt prints:\n```\n1\n```", "a = 1\n"),
        ("```bash\npip install x\n```\nNow:\n```Python3\na = 1\n```\n", "a = 1\n"),
        ("```\na = 1\n```\n```python\n```", "a = 1\n"),
    ],
)
def test_code(text: str, code: str) -> None:
    assert extract(text, "code") == code


def test_the_whole_reply() -> None:
    assert extract("  The  Eiffel Tower. ", "exact") == "the eiffel tower"
    assert extract(" . ", "exact") is None
    assert not right(None, "")


@pytest.mark.parametrize(
    ("pattern", "answer"), [(r"x=(\d)", "2"), (r"x=\d", "x=2"), (r"y=(\d)", None), (r"x=\d(z)?", None)]
)
def test_a_pattern(pattern: str, answer: str | None) -> None:
    assert extract("x=1, x=2", f"regex:{pattern}") == answer


@pytest.mark.parametrize("extractor", ["regex:(", "magic"])
def test_an_unknown_extractor_is_named(extractor: str) -> None:
    with pytest.raises(ConfigError, match="extractor"):
        extract("x", extractor)


@pytest.mark.parametrize(
    "text", ["9" * 200_000, "\\boxed{" * 20_000, "answer is " * 20_000, "1," * 99_999, r"\frac{1}{0}"]
)
def test_odd_replies_are_no_trouble(text: str) -> None:
    for extractor in ("last-number", "choice", "exact", "code"):
        extract(text, extractor)


@pytest.mark.parametrize(
    ("text", "extractor", "written"),
    [
        ("so 3 + 4 = 7.", "last-number", "7"),
        (r"Therefore \(\boxed{1,085}\) of 100", "last-number", "1,085"),
        ("The answer is 4 + 5 = 9 of 10.", "last-number", "9"),
        ("The answer is (B). Not C.", "choice", "B"),
        ("```python\na = 1\n```\nthen 2", "code", "a = 1\n"),
        ("a: x, b: y", "regex:b: (.)", "y"),
        ("x1 x2", r"regex:x\d", "x2"),
        ("Yes.", "exact", "Yes."),
        ("7 " * 20_000 + "so 12", "last-number", "12"),
    ],
)
def test_an_answer_is_found_where_it_is_written(text: str, extractor: str, written: str) -> None:
    found = locate(text, extractor)
    assert found
    assert text[found.start : found.end] == written
    assert found.answer == extract(text, extractor)


@given(st.text(alphabet="0123456789.,-−$%\\{}frac boxed#=answer is:\n"))
def test_an_answer_s_place_holds_the_answer(text: str) -> None:
    found = locate(text, "last-number")
    if found:
        assert extract(text[found.start : found.end], "last-number") == found.answer
