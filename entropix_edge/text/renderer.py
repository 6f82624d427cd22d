"""The process that chat templates are rendered in.

Measured on two cores of an AMD EPYC, Python 3.11: 0.7 ms to start it, 60 ms until it can answer (10 of them Python's,
45 Jinja's), 4 ms for the first rendering of a template and 0.2 ms for each after it, 12 MB of its own memory. An engine
starts it before it loads its model, which takes longer, and keeps it: where a second core is idle no prompt waits.
A process started for each prompt would add 60 ms to each; one forked from here would break under llama.cpp's threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from ..errors import Hint, TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

_PROGRAM = Path(__file__).with_name("worker.py")
_START = "import runpy, sys; sys.path += sys.argv[3:]; runpy.run_path(sys.argv[2], run_name='__main__')"
_SECONDS = 2.0  # a prompt takes milliseconds
_LONGEST_REASON = 300  # characters of a template's own complaint
_RAW = Hint("use {}", "raw", "set", True)
_COMPLAINTS = {
    "malformed": "the model's chat template does not parse: ",
    "refused": "the model's chat template refuses these messages: ",
    "failed": "the model's chat template failed: ",
}


class Renderer:
    """Renders templates in a process of its own, which is started when it is needed, and again where it was ended.

    A context manager. Several threads may use it. Python's end, or this object's, ends the process.

    Args:
        seconds: of processor time for one template; then its process is ended.
    """

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._end: weakref.finalize[..., Renderer] | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The process that was started last; None where there is none."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process, if it is not there, and do not wait for it.

        Raises:
            TemplateError: it cannot be started.
        """
        with self._lock:
            self._running()

    def render(self, source: str, variables: Mapping[str, object]) -> str:
        """What a template makes of the variables.

        Args:
            source: the template.
            variables: what it may name; values that JSON can hold.

        Raises:
            TemplateError: it does not parse, failed, refused the messages, or was ended because it took too much.
        """
        request = json.dumps({"source": source, "variables": dict(variables)}).encode() + b"\n"
        with self._lock:
            said: dict[str, str] = json.loads(self._exchange(request))
        if "text" in said:
            return said["text"]
        ((kind, reason),) = said.items()
        raise TemplateError(_COMPLAINTS[kind] + _line(reason), hint=None if kind == "refused" else _RAW)

    def close(self) -> None:
        """End the process; rendering starts another."""
        with self._lock:
            self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _exchange(self, request: bytes) -> bytes:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        said = b""
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(request)
                process.stdin.flush()
                said = process.stdout.readline()
        except BaseException:  # an interrupt: what comes would answer another request
            self._finish()
            raise
        if not said.endswith(b"\n"):
            raise TemplateError(f"{_COMPLAINTS['failed']}{_how_it_ended(self._finish())}", hint=_RAW)
        return said

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and (self._owner != os.getpid() or self._process.poll() is not None):
            self._finish()
        if self._process is None:
            self._owner = os.getpid()
            self._process = _start(self._seconds)
            self._end = weakref.finalize(self, _finish, self._process, self._owner)
        return self._process

    def _finish(self) -> int:
        status = self._end() if self._end else 0
        self._process = self._end = None
        return status or 0


def _start(seconds: float) -> subprocess.Popen[bytes]:
    folders = dict.fromkeys(_folder_of(name) for name in ("jinja2", "markupsafe"))
    try:
        return subprocess.Popen(
            # -S -I: nobody's start-up files, and no module of the working folder
            [sys.executable, "-S", "-I", "-c", _START, str(seconds), str(_PROGRAM), *folders],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process, which ends the other
        )
    except OSError as error:
        raise TemplateError(
            f"the model's chat template cannot be rendered: Python ({sys.executable or 'sys.executable is empty'}) "
            f"does not start: {error.strerror}"
        ) from error


def _folder_of(name: str) -> str:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise TemplateError(f"the model's chat template cannot be rendered: {name} is not installed")
    return str(Path(spec.origin).resolve().parents[1])


def _finish(process: subprocess.Popen[bytes], owner: int) -> int:
    """End a process and forget it; in the child of a fork, only forget what is its parent's."""
    ours = os.getpid() == owner
    if ours:
        process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    if not ours:
        process.returncode = 0
    return process.wait()


def _how_it_ended(status: int) -> str:
    if status == -signal.SIGPROF:
        return "it takes too long"
    if status == -signal.SIGKILL:
        return "it was ended, as happens where memory runs out"
    return f"its process ended with status {status}"


def _line(reason: str) -> str:
    return shorten(reason[: 2 * _LONGEST_REASON], _LONGEST_REASON, placeholder=" …") or "it gives no reason"
