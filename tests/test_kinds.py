"""Which kind of answer replies have, seen from the replies themselves."""

from __future__ import annotations

import pytest

from entropix_edge.text import YES_OR_NO, check_extractor, detect, extract

CODE = "Here it is:\n```python\nprint(1 + 1)\n```\nIt prints what 1 and 1 are."
ESSAY = "In 1995 the town had two mills. Both are gone by now, and what is left is a park."


@pytest.mark.parametrize(
    ("text", "kind", "answer"),
    [
        ("You use 5 of 12 eggs, so 12 - 5 = 7. That is what is left!", "last-number", "7"),
        ("First we add. There are 1,200 clips altogether.", "last-number", "1200"),
        ("So the total is \\(\\boxed{42}\\). I hope that helps.", "last-number", "42"),
        ("42", "last-number", "42"),
        ("The correct answer is (B) Louis.", "choice", "B"),
        ("It was yesterday.\n\nThe correct option is \\boxed{C}.", "choice", "C"),
        ("Since 7 is less than 8:\n\n(A)", "choice", "A"),
        ("B) 11/12/2019", "choice", "B"),
        ("The answer is A = 5, since 2 + 3 = 5.", "last-number", "5"),
        ("Yes, 17 is a prime number.", YES_OR_NO, "yes"),
        ("**No.** It has no divisor but 1 and 17.", YES_OR_NO, "no"),
        (CODE, "code", "print(1 + 1)\n"),
        (CODE + "\nThe answer is 2.", "last-number", "2"),
        ("Paris", "exact", "paris"),
        ("The capital is Paris.", "exact", "the capital is paris"),
        (ESSAY, None, None),
        ("", None, None),
        ("Not one of us knows what is to be done about that.", None, None),
    ],
)
def test_a_replys_kind_of_answer(text: str, kind: str | None, answer: str | None) -> None:
    assert detect([text]) == kind
    if kind:
        check_extractor(kind)
        assert extract(text, kind) == answer


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["7", "12 - 5 = 7 are left.", ESSAY], "last-number"),
        (["7", ESSAY], None),
        (["7", "Paris"], None),
        (["7", "Paris", "Rome", "Athens"], "exact"),
        ([ESSAY, ESSAY, "7"], None),
    ],
)
def test_more_than_half_must_have_it(texts: list[str], kind: str | None) -> None:
    assert detect(texts) == kind
    assert detect(texts[::-1]) == kind
