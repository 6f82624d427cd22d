"""Units of machine code as Python sees them, and how they come into this process."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from . import cache
from .link import builtin, link
from .signatures import BUILTIN, SIGNATURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

logger = logging.getLogger("entropix_edge")


class Unit:
    """The functions of one compilation unit, as attributes; compiled or loaded when the first is used.

    Args:
        name: a key of `SIGNATURES`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._addresses: dict[str, int] = {}

    def address(self, function: str) -> int:
        """Where a function begins."""
        if not self._addresses:
            prepare([self])
        return self._addresses[function]

    def __getattr__(self, function: str) -> Any:
        signature = SIGNATURES[self.name].get(function)
        if signature is None:
            raise AttributeError(function)
        # the interpreter's lock stays held: calls are short, and giving it away takes longer than some of them
        address = self.address(function)
        is_builtin = signature is BUILTIN
        called = builtin(function, address) if is_builtin else ctypes.PYFUNCTYPE(*signature)(address)
        setattr(self, function, called)
        return called

    def link(self, code: bytes) -> bool:
        """Take up machine code as `compiler.compile_unit` makes it. False, and nothing done, where it is damaged."""
        self._addresses = link(code, SIGNATURES[self.name])
        return self.is_linked

    @property
    def is_linked(self) -> bool:
        """Whether its functions can be called."""
        return bool(self._addresses)


KERNELS = Unit("kernels")
TAP = Unit("tap")
_lock = threading.Lock()


def prepare(units: Iterable[Unit]) -> None:
    """Link units into this process: from the cache, else compiled at the same time, each by a process of its own."""
    with _lock, contextlib.ExitStack() as stack:
        missing = [unit for unit in units if not unit.is_linked and not any(map(unit.link, cache.kept(unit.name)))]
        compilers = [stack.enter_context(_compiling(unit)) for unit in missing]
        for unit, process in zip(missing, compilers, strict=True):
            code, complaint = process.communicate() if process else (b"", b"no process could be started")
            if not unit.link(code):
                logger.debug("%s is compiled in this process: %s", unit.name, complaint.decode("utf-8", "replace"))
                from .compiler import compile_unit

                code = compile_unit(unit.name)
                if not unit.link(code):
                    raise RuntimeError(f"{unit.name}: what was compiled cannot be linked")
            cache.keep(unit.name, code)


# One optimisation of the whole at the end takes less time than one of every function.
_NUMBA = {"NUMBA_OPT": "0"}


@contextlib.contextmanager
def _compiling(unit: Unit) -> Iterator[subprocess.Popen[bytes] | None]:
    """A Python that compiles a unit and writes it to its output; None where it cannot be started."""
    program = (
        "import gc; gc.disable(); "  # a process so short leaves nothing that is worth looking for
        f"from {__package__}.compiler import compile_unit, make_no_machine_code, write; "
        f"make_no_machine_code(); write(compile_unit({unit.name!r}))"
    )
    if not sys.executable:
        yield None
        return
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", program],  # what lies in the working folder is none of our modules
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | _NUMBA,
        )
    except (OSError, ValueError):
        yield None
        return
    with process:
        try:
            yield process
        finally:
            process.kill()
