"""Problems from files, answers from replies, code in a cage."""

from __future__ import annotations

import gzip
import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropix_edge.errors import ConfigError
from entropix_edge.evaluation.code import network_is_cut, run_tests
from entropix_edge.evaluation.extract import extract, right
from entropix_edge.evaluation.tasks import Problem, messages, program, read_problems


def read(tmp_path: Path, *lines: Any, **options: Any) -> list[Problem]:
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
    return read_problems(path, **options)


# --- files ----------------------------------------------------------------------------------------

GSM8K = {"question": "How many clips?", "answer": "He sold 48/2 = <<48/2=24>>24.\n#### 1,072"}
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": "def double(x):\n    '''Twice x.'''\n",
    "entry_point": "double",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}


def test_gsm8ks_lines_are_read_as_they_are(tmp_path: Path) -> None:
    (problem,) = read(tmp_path, GSM8K)
    assert (problem.question, problem.answer, problem.extractor) == ("How many clips?", "1072", "last-number")


@pytest.mark.parametrize("body_only", [True, False])
def test_humanevals_lines_are_read_as_they_are(tmp_path: Path, body_only: bool) -> None:
    (problem,) = read(tmp_path, HUMANEVAL)
    assert (problem.id, problem.extractor) == ("HumanEval/0", "code")
    solution = HUMANEVAL["canonical_solution"] if body_only else HUMANEVAL["prompt"] + HUMANEVAL["canonical_solution"]
    assert run_tests(program(problem, solution), problem.tests).passed
    assert not run_tests(program(problem, solution.replace("2 *", "3 *")), problem.tests).passed


def test_a_gzipped_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(HUMANEVAL).encode()))
    assert read_problems(path)[0].entry_point == "double"


@pytest.mark.parametrize("answer", [1, "B", "Mars"])
def test_a_choice_is_lettered(tmp_path: Path, answer: Any) -> None:
    (problem,) = read(tmp_path, {"question": "A planet?", "choices": ["Sun", "Mars"], "answer": answer})
    assert (problem.answer, problem.extractor) == ("B", "choice")
    assert "\nB. Mars\n" in problem.question


def test_shots_and_a_template_come_before_the_question(tmp_path: Path) -> None:
    shots = [{"question": "1 + 1?", "answer": "2"}]
    (problem,) = read(tmp_path, {"question": "2 + 2?", "answer": 4, "few_shot": shots}, template="Say: {question}")
    assert [message["content"] for message in messages(problem)] == ["1 + 1?", "2", "Say: 2 + 2?"]


def test_an_id_is_what_a_problem_says(tmp_path: Path) -> None:
    lines = [{"question": "a", "answer": 1}, "", {"question": "b", "answer": 1}, {"question": "a", "answer": 1}]
    problems = read(tmp_path, *lines)
    assert len(problems) == 2
    assert {problem.id for problem in read(tmp_path, *reversed(lines))} == {problem.id for problem in problems}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 1 is no problem"),
        ([1], "JSON object"),
        ({"question": "a"}, "it has no 'answer'"),
        ({"question": ["a"], "answer": 1}, "must be a text"),
        ({"question": "a", "answer": 1, "extractor": "magic"}, "'magic' is not known"),
        ({"question": "a", "answer": "x", "extractor": "last-number"}, "finds nothing"),
        ({"question": "a", "choices": ["x"], "answer": 0}, "2 to 26"),
        ({"question": "a", "choices": ["x", "y"], "answer": 2}, "a letter, an index or a text"),
        ("", "holds no problem"),
    ],
)
def test_what_is_no_problem_is_named(tmp_path: Path, line: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as error:
        read(tmp_path, line)
    assert "tasks.jsonl" in str(error.value)


def test_one_id_for_two_problems_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="taken by another"):
        read(tmp_path, {"id": 1, "question": "a", "answer": 1}, {"id": 1, "question": "b", "answer": 1})


@pytest.mark.parametrize(("option", "value"), [("template", "ask"), ("extractor", "regex:("), ("extractor", "none")])
def test_options_that_do_not_hold(tmp_path: Path, option: str, value: str) -> None:
    with pytest.raises(ConfigError, match=option):
        read(tmp_path, GSM8K, **{option: value})


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so 3 + 4 = 7.", "7"),
        (r"Therefore \(\boxed{85}\) of 100", "85"),
        (r"\boxed{1} and then \boxed{\$1,250.50} in 3 days", "1250.5"),
        (r"the share is \(\boxed{\frac{3}{4}}\)", "0.75"),
        (r"\boxed{x} so 12", "12"),
        ("#### -12\n", "-12"),
        ("#### 1,000,000 in 2 years", "1000000"),
        ("The answer is 18 dollars for 2 people.", "18"),
        ("That is $0.50", "0.5"),
        ("−3 degrees", "-3"),
        ("007", "7"),
        ("10.0", "10"),
        ("100", "100"),
        ("0", "0"),
        ("0.0", "0"),
        ("no idea", None),
        ("", None),
    ],
)
def test_the_last_number(text: str, answer: str | None) -> None:
    assert extract(text, "last-number") == answer


@given(
    st.decimals(-(10**9), 10**9, places=2, allow_nan=False),
    st.sampled_from(["{}", "${}", "#### {}", "a\\boxed{{{}}}b"]),
)
def test_any_number_is_found_however_it_is_written(number: Decimal, form: str) -> None:
    found = extract("first 3, then " + form.format(f"{number:,}"), "last-number")
    assert found is not None
    assert Decimal(found) == number or form.startswith("$")  # "$-3" is read as 3
    assert right(found, extract(str(Decimal(found)), "last-number") or "")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is (B).", "B"),
        ("Answer: **C**", "C"),
        (r"\boxed{D}", "D"),
        ("B", "B"),
        ("I think\nC.\n", "C"),
        ("B. Mars", "B"),
        ("it is hard to say", None),
    ],
)
def test_a_choice(text: str, answer: str | None) -> None:
    assert extract(text, "choice") == answer


def test_the_other_extractors() -> None:
    assert extract("  The  Eiffel Tower. ", "exact") == "the eiffel tower"
    assert extract("x=1, x=2", r"regex:x=(\d)") == "2"
    assert extract("none", r"regex:x=(\d)") is None
    assert extract("see\n```python\na = 1\n```\nor\n```\nb = 2\n```", "code") == "b = 2\n"
    assert extract("a = 1", "code") == "a = 1"
    assert not right(None, "")


def test_long_replies_are_no_trouble() -> None:
    assert extract("9" * 200_000, "last-number") is not None
    assert extract("\\boxed{" * 20_000, "last-number") is None


# --- code -----------------------------------------------------------------------------------------


def test_code_that_is_right_passes() -> None:
    assert run_tests("def f(x):\n    print('noise')\n    return x + 1", "assert f(1) == 2").passed


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def f(x): return x", "AssertionError"),
        ("def f(x: return", "SyntaxError"),
        ("raise SystemExit(0)", "exit code 0"),
        ("import os; os._exit(0)", "exit code 0"),
        ("import sys; sys.stdout.write('pass'); sys.exit(0)", "exit code 0"),
        ("x = bytearray(2**31)", "MemoryError"),
        ("import sys; sys.stderr.write('x' * 10**6); raise ValueError('y' * 10**6)", ""),
    ],
)
def test_code_that_does_not_pass(code: str, reason: str) -> None:
    verdict = run_tests(code, "assert f(1) == 2")
    assert not verdict.passed
    assert reason in verdict.reason
    assert len(verdict.reason) <= 200


def test_code_without_end_is_ended_with_what_it_started(tmp_path: Path) -> None:
    sign = tmp_path / "still-here"
    child = f"import time; time.sleep(3); open({str(sign)!r}, 'w')"
    code = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {child!r}])\nwhile True: pass"
    verdict = run_tests(code, "", seconds=1.5)
    assert not verdict.passed
    assert "1.5 s" in verdict.reason
    time.sleep(3)
    assert not sign.exists()


@pytest.mark.skipif(not network_is_cut(), reason="this system cannot cut a process off from the network")
def test_code_has_no_network() -> None:
    code = "import socket\nserver = socket.socket()\nserver.settimeout(2)\nserver.connect(('127.0.0.1', 9))"
    verdict = run_tests(code, "")
    assert "unreachable" in verdict.reason


def test_code_sees_none_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "1")
    assert run_tests("import os", "assert 'A_SECRET' not in os.environ").passed
