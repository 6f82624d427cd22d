"""Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class Interrupt:
    """Ctrl-C, remembered. A second one ends the process.

    It raises KeyboardInterrupt as ever, but where llama.cpp works: there it is a flag to be asked for. Python
    loses an exception that falls into a destructor or a callback from C; the flag stays.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    def __call__(self) -> bool:
        """Whether it was asked for."""
        return self.requested

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            os._exit(130)
        self.requested = True
        if not self._deferred:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Remember Ctrl-C meanwhile; say nothing of one that fell where it cannot be raised.

        Where it was ignored before, as a shell has it for a job in the background, it still is: the Ctrl-C is not ours.
        """
        before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
        if before is signal.SIG_IGN:
            yield
            return
        signal.signal(signal.SIGINT, self._handle)

        def quiet(unraisable: sys.UnraisableHookArgs) -> None:
            if unraisable.exc_type is not KeyboardInterrupt:
                hook(unraisable)

        sys.unraisablehook = quiet
        try:
            yield
        finally:
            sys.unraisablehook = hook
            signal.signal(signal.SIGINT, before)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """While the user is asked for something: Ctrl-C raises, and neither it nor one from before is remembered."""
        deferred, self._deferred, self.requested = self._deferred, False, False
        try:
            yield
        finally:
            self._deferred, self.requested = deferred, False

    @contextlib.contextmanager
    def deferring(self) -> Iterator[None]:
        """Take Ctrl-C as the flag alone; raise one that was lost before."""
        deferred, self._deferred = self._deferred, True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._deferred = deferred
