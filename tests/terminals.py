"""A command in a terminal of its own, driven as somebody who types and reads would."""

from __future__ import annotations

import codecs
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from fcntl import ioctl
from typing import Self

# the terminal controls the process, so that Ctrl-C is a signal
_CONTROLLED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
_ESCAPES = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]|\x1b[=>]|\x1b\][^\x07]*\x07|\r")
_WHERE = b"\x1b[6n"  # a program asks where the cursor is
_PATIENCE = 60  # seconds in which nothing is written


class Terminal:
    """A context manager.

    Args:
        command: what runs in it.
        variables: of its environment, beside those of this process.
        columns: how wide it is.

    Attributes:
        raw: all that was written, escape sequences included.
    """

    def __init__(
        self, command: Sequence[str], variables: Mapping[str, str] | None = None, *, columns: int = 100
    ) -> None:
        self._leader, follower = pty.openpty()
        ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
        environment |= {"TERM": "xterm-256color", **(variables or {})}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CONTROLLED, *command],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=environment,
            start_new_session=True,
        )
        os.close(follower)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._seen = 0  # characters of the text without escape sequences
        self.raw = ""

    def type(self, text: str) -> None:
        """Type as somebody does."""
        os.write(self._leader, text.encode())

    def see(self, text: str | re.Pattern[str]) -> str:
        """Wait until a text was written; comes back what was written before it since the last time, and the text."""
        pattern = re.compile(re.escape(text)) if isinstance(text, str) else text
        while True:
            written = _ESCAPES.sub("", self.raw)
            found = pattern.search(written, self._seen)
            if found:
                before, self._seen = self._seen, found.end()
                return written[before : self._seen]
            if not self._more():
                raise AssertionError(
                    f"{text!r} was not written; since the last time: {written[self._seen :][-2000:]!r}"
                )

    def _more(self) -> bool:
        """Read what comes; False at the end, or where nothing comes for long.

        Seconds are counted, not read off a clock: a machine that stops all of this for minutes breaks nothing.
        """
        for _ in range(_PATIENCE):
            ready, _, _ = select.select([self._leader], [], [], 1.0)
            if ready:
                return self._read()
        return False

    def _read(self) -> bool:
        """Read what is there; False at the end."""
        try:
            data = os.read(self._leader, 65536)
        except OSError:  # Linux: the other side is closed
            return False
        self.raw += self._decoder.decode(data)
        for _ in range(data.count(_WHERE)):
            os.write(self._leader, b"\x1b[1;1R")
        return bool(data)

    def code(self) -> int:
        """The exit code, once the process has ended."""
        while self._more():  # or it could not write
            pass
        return self.process.wait(timeout=_PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._leader)
