"""Runs code that a model wrote: in a process of its own, with little time, little memory and no network.

Where the system can do it (Linux, with user namespaces), the code has no network, and reaches and leaves behind no
process but its own. Files are not shut away: the code may read and write what the user may.
"""

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
from typing import IO, NamedTuple

_SECONDS = 10.0
_MEMORY = 2**30  # bytes
_LONGEST_REASON = 200

# Runs in the child. What passes is said on a pipe that the code does not know, with a word it cannot guess.
_CHILD = r"""
import ctypes, json, os, sys, types
def shut_in():
    if sys.platform != "linux" or ctypes.CDLL(None).unshare(0x70000000):  # CLONE_NEWUSER, _NEWPID, _NEWNET
        return False
    if inner := os.fork():  # the first process in there: as it ends, so does every other
        status = os.waitpid(inner, 0)[1]
        os._exit(os.waitstatus_to_exitcode(status) & 255)
    return True
def limit(seconds, memory, processes):
    import resource
    limits = {"AS": memory, "CPU": int(seconds) + 1, "FSIZE": 2**24, "CORE": 0, "NOFILE": 64} | processes
    for name, most in limits.items():
        try:
            resource.setrlimit(getattr(resource, "RLIMIT_" + name), (most, most))
        except (ValueError, OSError):
            pass
def main():
    task = json.loads(sys.stdin.buffer.read())
    is_cut = False
    try:
        is_cut = shut_in()
    except (OSError, AttributeError):
        pass
    try:  # outside, the user's other processes would count
        limit(task["seconds"], task["memory"], {"NPROC": 64} if is_cut else {})
    except ImportError:
        pass
    if task["code"] is None:
        return os.write(1, b"cut" if is_cut else b"open")
    pipe, word = os.dup(1), task["word"].encode()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    module = sys.modules["answer"] = types.ModuleType("answer")  # not __main__: no demonstrations
    for part in task["code"], task["tests"]:
        exec(compile(part, "<answer>", "exec", dont_inherit=True), module.__dict__)
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
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
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


def _last_line(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
    lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:_LONGEST_REASON] if lines else ""
