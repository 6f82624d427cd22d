"""Problems from files."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from entropix_edge.errors import ConfigError
from entropix_edge.evaluation import tasks
from entropix_edge.evaluation.code import run_tests
from entropix_edge.evaluation.tasks import Problem, messages, program, read_problems

SMOKE = Path(tasks.__file__).with_name("smoke.jsonl")


def read(tmp_path: Path, *lines: Any, **options: Any) -> list[Problem]:
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
    return read_problems(path, **options)


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


def test_big_bench_hards_lines_are_read_as_they_are(tmp_path: Path) -> None:
    options = {"question": "Which is older?\nOptions:\n(A) Louis\n(B) Gwen", "answer": "B"}
    number = {"question": "I have a flute and seven pears. How many fruits do I have?", "answer": "7"}
    choice, count = read(tmp_path, options, number)
    assert (choice.question, choice.answer, choice.extractor) == (options["question"], "B", "choice")
    assert (count.answer, count.extractor) == ("7", "last-number")
    (letter,) = read(tmp_path, {"question": "The first letter of Bob?", "answer": "B"})
    assert letter.extractor == "exact"


@pytest.mark.parametrize("body_only", [True, False])
def test_humanevals_lines_are_read_as_they_are(tmp_path: Path, body_only: bool) -> None:
    (problem,) = read(tmp_path, HUMANEVAL)
    assert (problem.id, problem.extractor) == ("HumanEval/0", "code")
    solution = HUMANEVAL["canonical_solution"] if body_only else HUMANEVAL["prompt"] + HUMANEVAL["canonical_solution"]
    assert run_tests(program(problem, solution), problem.tests).passed
    assert not run_tests(program(problem, solution.replace("2 *", "3 *")), problem.tests).passed


def test_code_has_the_imports_of_its_prompt(tmp_path: Path) -> None:
    record = HUMANEVAL | {
        "prompt": 'from typing import List\n\n\ndef double(x: List[int]) -> List[int]:\n    """Twice each."""\n',
        "test": "def check(candidate):\n    assert candidate([1]) == [2]\n",
    }
    (problem,) = read(tmp_path, record)
    whole = "def double(x: List[int]) -> List[int]:\n    return [2 * each for each in x]\n"
    for code in (whole, f"from __future__ import annotations\n{whole}"):
        assert run_tests(program(problem, code), problem.tests).passed, code


def test_a_gzipped_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(HUMANEVAL).encode()))
    assert read_problems(path)[0].entry_point == "double"


@pytest.mark.parametrize(
    "damage", [b"no gzip", gzip.compress(b"{}" * 99)[:-9], gzip.compress(b"{}")[:10] + b"\xff" * 20]
)
def test_a_damaged_gzip_file_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "tasks.jsonl.gz"
    path.write_bytes(damage)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_problems(path)


def test_the_problems_that_are_shipped_are_problems() -> None:
    problems = read_problems(SMOKE)
    assert [problem.id for problem in problems] == [f"smoke-{number:02}" for number in range(1, 21)]
    assert Counter(problem.extractor for problem in problems) == {"last-number": 12, "choice": 4, "exact": 4}


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
        ("{", "line 1 is not a problem record: "),
        ([1], "JSON object"),
        ({"question": "a"}, "it has no 'answer'"),
        ({"question": "a", "answer": None}, "answer is None: it must be a text"),
        ({"question": "a", "answer": 1, "few_shot": None}, "few_shot is None"),
        ({"question": "a", "answer": 1, "few_shot": ["b"]}, "few_shot is"),
        ({"question": ["a"], "answer": 1}, "must be a text"),
        ({"question": "a", "answer": 1, "extractor": "magic"}, "'magic' is not known"),
        ({"question": "a", "answer": "x", "extractor": "last-number"}, "finds nothing"),
        ({"question": "a", "choices": ["x"], "answer": 0}, "2 to 26"),
        ({"question": "a", "choices": ["x", "y"], "answer": 2}, "a letter, an index or a text"),
        ("", "has no problems"),
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
