"""Code in a cage."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from entropix_edge.evaluation.code import network_is_cut, run_tests

shut_in = pytest.mark.skipif(not network_is_cut(), reason="this system cannot shut a process in")

FORK = """
import os, sys, time
if os.fork() == 0:
    {first}
    time.sleep(1.5)
    open({sign!r}, "w")
    os._exit(0)
"""


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    print('noise')\n    return x + 1",
        "from __future__ import annotations\ndef f(x: Unknown): return x + 1",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int'\ndef f(x): return A(x).x + 1",
        "def f(x): return x + 1\nif __name__ == '__main__': print(f(int(input())))",
    ],
)
def test_code_that_is_right_passes(code: str) -> None:
    verdict = run_tests(code, "from __future__ import annotations\nassert f(1) == 2")
    assert verdict.passed, verdict.reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def f(x): return x", "AssertionError"),
        ("def f(x: return", "SyntaxError"),
        ("def f(x): return f(x)", "RecursionError"),
        ("raise SystemExit(0)", "exit code 0"),
        ("import os; os._exit(0)", "exit code 0"),
        ("import sys; sys.stdout.write('pass'); sys.exit(0)", "exit code 0"),
        ("x = bytearray(2**31)", "MemoryError"),
        ("x = (", "SyntaxError"),
        ("x = '\ud800'", "UnicodeEncodeError"),
        ("import sys; sys.stderr.write('x' * 10**6); raise ValueError('y' * 10**6)", ""),
        ("import sys\nwhile True: sys.stderr.write('x' * 10**6)", ""),
    ],
)
def test_code_that_does_not_pass(code: str, reason: str) -> None:
    verdict = run_tests(code, "assert f(1) == 2")
    assert not verdict.passed
    assert reason in verdict.reason
    assert len(verdict.reason) <= 200


def test_code_without_end_is_ended() -> None:
    began = time.monotonic()
    verdict = run_tests("while True: pass", "", seconds=1)
    assert verdict == (False, "it ran longer than 1 s")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("end", ["", "while True: pass", "os._exit(0)"])
def test_what_code_started_is_ended_with_it(tmp_path: Path, end: str) -> None:
    sign = tmp_path / "still-here"
    run_tests(FORK.format(first="pass", sign=str(sign)) + end, "", seconds=0.7)
    time.sleep(2)
    assert not sign.exists()


@shut_in
def test_what_left_the_group_is_ended_too(tmp_path: Path) -> None:
    sign = tmp_path / "still-here"
    run_tests(FORK.format(first="os.setsid()", sign=str(sign)), "")
    time.sleep(2)
    assert not sign.exists()


@shut_in
def test_code_sees_no_process_but_its_own() -> None:
    verdict = run_tests("import os", f"assert os.getppid() == 0\nos.kill({os.getpid()}, 0)")
    assert "ProcessLookupError" in verdict.reason


@shut_in
def test_code_has_no_network() -> None:
    code = "import socket\nserver = socket.socket()\nserver.settimeout(2)\nserver.connect(('127.0.0.1', 9))"
    assert "unreachable" in run_tests(code, "").reason


def test_code_sees_none_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "1")
    assert run_tests("import os", "assert 'A_SECRET' not in os.environ").passed


def test_a_folder_that_cannot_be_removed_is_no_trouble() -> None:
    assert run_tests("import os\nos.makedirs('a/b')\nos.chmod('a', 0)", "").passed
