"""The problems for code in docs/tasks/functions.jsonl: each is solvable, and its tests tell right from wrong."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import pytest

from entropix_edge.evaluation.code import run_tests
from entropix_edge.evaluation.tasks import Problem, program, read_problems

FILE = Path(__file__).parent.parent / "docs" / "tasks" / "functions.jsonl"
RECORDS: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text().splitlines()]
PROBLEMS = read_problems(FILE)


def test_no_two_are_alike() -> None:
    assert len(RECORDS) == 80
    for key in ("task_id", "entry_point", "prompt"):
        assert len({record[key] for record in RECORDS}) == len(RECORDS)


@pytest.mark.parametrize(("record", "problem"), list(zip(RECORDS, PROBLEMS, strict=True)), ids=range(len(RECORDS)))
def test_the_solution_passes_and_an_empty_function_does_not(record: dict[str, Any], problem: Problem) -> None:
    assert run_tests(program(problem, record["canonical_solution"]), problem.tests) == (True, "")
    assert not run_tests(program(problem, "    return None\n"), problem.tests).passed


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["entry_point"])
def test_the_examples_in_the_prompt_are_right(record: dict[str, Any]) -> None:
    scope: dict[str, Any] = {}
    exec(record["prompt"] + record["canonical_solution"], scope)
    (found,) = (test for test in doctest.DocTestFinder().find(scope[record["entry_point"]], globs=scope))
    said: list[str] = []
    assert len(found.examples) >= 2
    assert doctest.DocTestRunner(verbose=False).run(found, out=said.append).failed == 0, said
