"""Runs code that a model wrote: in a process of its own, with little time, little memory and no network."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from functools import cache
from typing import NamedTuple

_SECONDS = 10.0
_MEMORY = 2**30  # bytes
_LONGEST_REASON = 200

# Runs in the child. What passes is said on a pipe that the code does not know, with a word it cannot guess.
_CHILD = r"""
import ctypes, json, os, sys
def cut_network():
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.unshare(0x10000000 | 0x40000000) == 0  # CLONE_NEWUSER | CLONE_NEWNET
def limit(seconds, memory):
    import resource
    limits = {"AS": memory, "CPU": int(seconds) + 1, "FSIZE": 2**24, "CORE": 0, "NOFILE": 64}
    for name, most in limits.items():
        try:
            resource.setrlimit(getattr(resource, "RLIMIT_" + name), (most, most))
        except (ValueError, OSError):
            pass
def main():
    task = json.loads(sys.stdin.buffer.read())
    is_cut = False
    try:
        is_cut = cut_network()
    except (OSError, AttributeError):
        pass
    try:
        limit(task["seconds"], task["memory"])
    except ImportError:
        pass
    if task["code"] is None:
        return os.write(1, b"cut" if is_cut else b"open")
    pipe, word = os.dup(1), task["word"].encode()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    scope = {"__name__": "__main__"}
    exec(compile(task["code"] + "\n" + task["tests"], "<answer>", "exec"), scope)
    os.write(pipe, word)
main()
"""


class Verdict(NamedTuple):
    """Whether the code passed, and if not, why: one line."""

    passed: bool
    reason: str


def run_tests(code: str, tests: str, *, seconds: float = _SECONDS, memory: int = _MEMORY) -> Verdict:
    """Run code and then its tests, which fail by an exception.

    Args:
        code: a Python program, not trusted.
        tests: a Python program to run after it in the same scope.
        seconds: of time, wall and processor.
        memory: bytes of address space.
    """
    word = secrets.token_hex(16)
    said, complaint, code_ = _run({"code": code, "tests": tests, "word": word}, seconds, memory)
    if said == word:
        return Verdict(True, "")
    if code_ is None:
        return Verdict(False, f"it ran longer than {seconds:g} s")
    return Verdict(False, complaint or f"it ended with exit code {code_} before its tests did")


@cache
def network_is_cut() -> bool:
    """Whether this system cuts the code that is run off from the network."""
    said, _complaint, _code = _run({"code": None}, _SECONDS, _MEMORY)
    return said == "cut"


def _run(task: dict[str, object], seconds: float, memory: int) -> tuple[str, str, int | None]:
    """What the child said, its last line of complaint, and its exit code; None where its time was up."""
    task |= {"seconds": seconds, "memory": memory}
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as complaint,
    ):
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=complaint,
            cwd=folder,
            env={"PATH": os.defpath},
            start_new_session=True,
        )
        try:
            child.communicate(json.dumps(task).encode(), timeout=seconds)
            code: int | None = child.returncode
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(child)
        said.seek(0)
        return said.read(64).decode("utf-8", "replace"), _last_line(complaint), code


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()


def _last_line(file: object) -> str:
    file.seek(0, os.SEEK_END)  # type: ignore[attr-defined]
    file.seek(max(0, file.tell() - 4096))  # type: ignore[attr-defined]
    lines = file.read().decode("utf-8", "replace").strip().splitlines()  # type: ignore[attr-defined]
    return lines[-1][:_LONGEST_REASON] if lines else ""
