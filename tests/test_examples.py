"""The examples run as they stand, on the default model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHECKOUT

EXAMPLES = sorted((CHECKOUT / "examples").glob("*.py"))

# What each must print, beside ending well.
PRINTS = {
    "stream_with_colours": "\033[",
    "least_sure_token": "Least sure at token",
    "keep_a_conversation": "After one undo there are 2 turns.",
    "vote_over_candidates": "* ",
    "read_a_trace": "argmax",
}


def run(*arguments: str, home: Path) -> str:
    environment = os.environ | {"ENTROPIX_EDGE_HOME": str(home), "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=home, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES} == PRINTS.keys()


@pytest.mark.model
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, default_model: Path, tmp_path: Path) -> None:
    arguments = []
    if path.stem == "read_a_trace":
        trace = tmp_path / "trace.jsonl"
        command = ["generate", "Why is the sky blue?", "-m", str(default_model), "-n", "40", "-s", "3"]
        run("-m", "entropix_edge", *command, "--trace", str(trace), home=tmp_path)
        arguments = [str(trace)]
    assert PRINTS[path.stem] in run(str(path), *arguments, home=tmp_path)
