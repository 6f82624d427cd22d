"""A whole process from its start to the first token: how long, and how much memory, beside a raw one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import ContextError
from ..llama import RAW_PROCESS, can_repack

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROMPT = "1, 2, 3, 4, 5, 6, 7, 8,"  # any model goes on here, and with visible text
_N_CTX = 512
_NO_BYTE_CODE = "PYTHONDONTWRITEBYTECODE"  # with it, every start would compile our sources again


class Start(NamedTuple):
    """One process's start.

    Attributes:
        seconds: until its first token was read.
        resident: bytes resident then; None where the system does not say.
        anonymous: of them those that are no file's.
    """

    seconds: float
    resident: int | None
    anonymous: int | None


class Starts(NamedTuple):
    """Medians of several starts, in turns.

    Attributes:
        raw: a script that only loads and decodes.
        warm: `generate`, attention of the last layer, with compiled kernels.
        first: the same where nothing is compiled yet: the first run on a machine.
    """

    raw: Start
    warm: Start
    first: Start


def starts(path: Path, threads: int, repetitions: int) -> Starts:
    """Start processes in turns: raw, ours, and ours with nothing compiled (once).

    Raises:
        ContextError: a process ended without a word.
    """
    raw = [sys.executable, "-c", RAW_PROCESS, *raw_arguments(path, threads)]
    ours = [sys.executable, "-m", "entropix_edge", *generate_arguments(path, threads)]
    pairs = [(start(raw), start(ours)) for _ in range(repetitions + 1)][1:]
    with tempfile.TemporaryDirectory() as empty:
        first = start(ours, {"NUMBA_CACHE_DIR": empty})
    return Starts(median([pair[0] for pair in pairs]), median([pair[1] for pair in pairs]), first)


def raw_arguments(path: Path, threads: int) -> list[str]:
    """What `RAW_PROCESS` is given."""
    return [str(path), str(_N_CTX), str(threads), "0", str(int(can_repack())), _PROMPT]


def generate_arguments(path: Path, threads: int) -> list[str]:
    """The same for our command line."""
    cells = ["-c", str(_N_CTX), "-t", str(threads), "-n", "64"]
    return ["generate", "-m", str(path), "--raw", "--offline", "--sampler", "greedy", *cells, "-p", _PROMPT]


def start(command: Sequence[str], environment: dict[str, str] | None = None) -> Start:
    """Run a command until the first byte of its output, with byte code that is kept, as an installation has it.

    Raises:
        ContextError: it ended without a word.
    """
    begun = time.perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != _NO_BYTE_CODE} | (environment or {}),
    ) as process:
        assert process.stdout is not None
        try:
            if not process.stdout.read(1):
                raise ContextError(f"{' '.join(command[1:4])} ended with code {process.wait()} and said nothing")
            seconds = time.perf_counter() - begun
            resident, anonymous = _memory(process.pid)
        finally:
            process.kill()
    return Start(seconds, resident, anonymous)


def _memory(pid: int) -> tuple[int | None, int | None]:
    """Bytes resident and of them anonymous, where the system says."""
    sizes: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("VmRSS", "RssAnon"):
                sizes[name] = 1024 * int(value.split()[0])
    return sizes.get("VmRSS"), sizes.get("RssAnon")


def median(found: Sequence[Start]) -> Start:
    """The median of each number by itself."""

    def middle(values: Sequence[int | None]) -> int | None:
        known = [value for value in values if value is not None]
        return int(np.median(known)) if known else None

    return Start(
        float(np.median([start.seconds for start in found])),
        middle([start.resident for start in found]),
        middle([start.anonymous for start in found]),
    )


def throttling(root: Path = Path("/")) -> str | None:
    """What a Raspberry Pi says of its throttling; None on other machines.

    Bits as in the firmware's `get_throttled`: https://www.raspberrypi.com/documentation/computers/os.html

    Args:
        root: the folder that `/sys` is in.
    """
    for file in sorted((root / "sys/devices/platform").glob("soc*/soc*:firmware/get_throttled")):
        with contextlib.suppress(OSError, ValueError):
            return describe_throttling(int(file.read_text(), 16))
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        said = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, check=True, timeout=5)
        return describe_throttling(int(said.stdout.partition("=")[2], 16))  # such as "throttled=0x50000"
    return None


def describe_throttling(bits: int) -> str:
    """The firmware's bits in words."""
    words = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
    now = [word for bit, word in enumerate(words) if bits >> bit & 1]
    before = [word for bit, word in enumerate(words) if bits >> (bit + 16) & 1 and word not in now]
    said = [*(f"{word} now" for word in now), *(f"{word} since boot" for word in before)]
    return ", ".join(said) or "none"
