"""Machine code on disk: compiled once for a version, a processor and a folder that can be written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import llvmlite
import llvmlite.binding as llvm

from ..storage import cache_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE = re.compile(r"[a-z]+-[0-9a-f]{16}\.o|\.entropix-edge-[0-9a-f]{16}\.part")
_UNUSED_SECONDS = 30 * 24 * 3600.0


def kept(unit: str) -> Iterator[bytes]:
    """The machine code of a unit, from each folder that has it."""
    for folder in _folders():
        path = folder / _name(unit)
        try:
            code = path.read_bytes()
        except OSError:
            continue
        with contextlib.suppress(OSError):  # another user's, or a disk that cannot be written
            os.utime(path)  # it is in use: see `_remove_unused`
        yield code


def keep(unit: str, code: bytes) -> None:
    """Keep machine code in the first folder that can be written; nowhere, where none can.

    Whoever may read the folder may read it: a system's installation is compiled once, for all its users.
    """
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / _name(unit), [code], durable=False)
        except OSError:
            continue
        _remove_unused(folder)
        return


def can_keep() -> bool:
    """Whether some folder can be written, so that what is compiled need not be compiled again. It tries."""
    from tempfile import TemporaryFile  # seldom needed, and not quick to import

    for folder in _folders():
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):
                return True
    return False


def _folders() -> Iterator[Path]:
    """Where machine code may be kept: where numba's users say, beside the sources, in the user's cache."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(chosen)
        return
    yield Path(__file__).parent / "__pycache__"
    with contextlib.suppress(OSError):  # a user without a home
        yield cache_folder()


def _remove_unused(folder: Path) -> None:
    """Remove code of other versions and processors that nobody has used for a month, and writes that were killed.

    Not all but the newest: installations of several versions, and machines with one home, share a folder.
    """
    long_ago = time.time() - _UNUSED_SECONDS
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _FILE.fullmatch(path.name) and path.stat().st_mtime < long_ago:
                path.unlink()


def _name(unit: str) -> str:
    return f"{unit}-{_key()}.o"


@cache
def _key() -> str:
    """What machine code depends on: its sources, the compiler, the processor."""
    facts = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        facts.update(source.read_bytes())
    processor = (llvm.get_default_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())
    facts.update(repr((llvmlite.__version__, *processor)).encode())
    return facts.hexdigest()[:16]
