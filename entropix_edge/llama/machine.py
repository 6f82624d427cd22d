"""This machine, as the system tells of it: cores to compute on, memory to expect, the processor's name."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from . import cgroups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LITTLE = 0.6  # of the strongest core's capacity: Cortex-A55 0.52 beside A76, A53 0.58 beside A73; middle cores 0.7

# Arm's own cores by their part number, those of boards that models run on; others are shown by their count.
_ARM = "0x41"
_ARM_PARTS = {
    0xD03: "Cortex-A53",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD49: "Neoverse-N2",
    0xD4F: "Neoverse-V2",
}


@cache
def default_threads() -> int:
    """Cores worth computing on: the performance cores of a Mac, else the physical, not little cores we may use."""
    if sys.platform == "darwin":
        for key in ("hw.perflevel0.physicalcpu", "hw.physicalcpu"):
            if count := _sysctl(key):
                return count
    return Linux(allowed=_allowed()).threads()


def available_memory() -> int | None:
    """Bytes that a new allocation may expect, None where the system does not say. On a Mac all there is."""
    return _sysctl("hw.memsize") if sys.platform == "darwin" else Linux().available_memory()


def total_memory() -> int | None:
    """Bytes that this process could have if it were alone, None where the system does not say."""
    return _sysctl("hw.memsize") if sys.platform == "darwin" else Linux().total_memory()


def processor_name() -> str:
    """The processor in a few words, such as "Raspberry Pi 5 Model B Rev 1.0 (4 x Cortex-A76)"."""
    return Linux().processor_name()


def processor_features() -> frozenset[str]:
    """What the processor can do, as Linux names it, such as `avx2`; empty where the system does not say."""
    return Linux().processor_features()


def swap() -> tuple[int, int] | None:
    """Bytes of swap, and how many of them are free; None where the system does not say."""
    return Linux().swap()


def hottest() -> float | None:
    """The highest temperature that the system tells of, in degrees Celsius; None where it tells none."""
    return Linux().hottest()


def is_translated(read: Callable[[str], int | None] | None = None, system: str | None = None) -> bool:
    """Whether this is a Python for Intel's processors that macOS translates for Apple's (Rosetta).

    Args:
        read: gives a sysctl's number; None for the system's own.
        system: as Python names it; None for this one.
    """
    return (system or sys.platform) == "darwin" and (read or _sysctl)("sysctl.proc_translated") == 1


def _allowed() -> frozenset[int] | None:
    """Numbers of the processors that this process may run on; None where the system does not say."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


@dataclass(frozen=True, slots=True)
class Linux:
    """What Linux writes into `/proc` and `/sys`.

    Attributes:
        root: the folder that both are in.
        allowed: numbers of the processors that this process may run on; None where that is not known.
    """

    root: Path = Path("/")
    allowed: frozenset[int] | None = None

    def threads(self) -> int:
        """Physical cores that this process may use, little ones left out, within what its control groups allow."""
        cores = self._cores(self._strong(self.allowed)) if self.allowed else self._processors()
        return max(1, min(cores, cgroups.processors(self.root) or cores))

    def _processors(self) -> int:
        count: int | None = getattr(os, "process_cpu_count", os.cpu_count)()
        return count or 1

    def _strong(self, processors: Iterable[int]) -> frozenset[int]:
        """Processors without the little cores of big.LITTLE, and without the efficiency cores of Intel's hybrids."""
        every = frozenset(processors)
        efficient = _numbers(self._read("sys/devices/cpu_atom/cpus"))
        capacities = {cpu: self._read(f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity") for cpu in every}
        known = {cpu: int(capacity) for cpu, capacity in capacities.items() if capacity.isdecimal()}
        if len(known) == len(every):
            efficient |= {cpu for cpu, capacity in known.items() if capacity < _LITTLE * max(known.values())}
        return every - efficient or every

    def _cores(self, processors: frozenset[int]) -> int:
        """How many cores the processors, which are hardware threads, are."""
        siblings = {self._siblings(cpu) for cpu in processors}
        return len(processors) if "" in siblings else len(siblings)

    def _siblings(self, cpu: int) -> str:
        """The hardware threads that share a core with this one, as Linux writes them; empty if unknown."""
        topology = f"sys/devices/system/cpu/cpu{cpu}/topology"
        return self._read(f"{topology}/core_cpus_list") or self._read(f"{topology}/thread_siblings_list")

    def available_memory(self) -> int | None:
        """Bytes that a new allocation may expect."""
        limit = cgroups.memory(self.root)
        return _least(self._meminfo("MemAvailable"), limit and limit.room)

    def total_memory(self) -> int | None:
        """Bytes of the machine, or of what its control groups allow this process."""
        limit = cgroups.memory(self.root)
        return _least(self._meminfo("MemTotal"), limit and limit.limit)

    def _meminfo(self, name: str) -> int | None:
        for line in self._read("proc/meminfo").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) * 1024
        return None

    def swap(self) -> tuple[int, int] | None:
        """Bytes of swap, and of them free."""
        every, free = self._meminfo("SwapTotal"), self._meminfo("SwapFree")
        return None if every is None else (every, free or 0)

    def hottest(self) -> float | None:
        """The highest temperature of a zone, in degrees Celsius."""
        found = (self._read(str(path.relative_to(self.root))) for path in self._zones())
        return max((int(value) / 1000 for value in found if value.lstrip("-").isdecimal()), default=None)

    def _zones(self) -> Iterable[Path]:
        return (self.root / "sys/class/thermal").glob("thermal_zone*/temp")

    def processor_features(self) -> frozenset[str]:
        """The features of the first processor."""
        for line in self._read("proc/cpuinfo").splitlines():
            name, _, value = line.partition(":")
            if name.strip().lower() in ("flags", "features"):
                return frozenset(value.split())
        return frozenset()

    def processor_name(self) -> str:
        """The processor's name, or what is known of it: the board, its cores, how many they are."""
        facts = [line.split(":", 1) for line in self._read("proc/cpuinfo").splitlines() if ":" in line]
        values = [(name.strip().lower(), value.strip()) for name, value in facts]
        for name, value in values:
            if name == "model name" and value:
                return value
        board = self._read("proc/device-tree/model").strip("\0")
        cores = self._cores_by_name(values)
        if board:
            return f"{board} ({cores})" if cores else board
        count = sum(name == "processor" for name, _value in values) or os.cpu_count() or 1
        return cores or f"{platform.machine() or 'unknown'} CPU, {count} core{'s' if count > 1 else ''}"

    def _cores_by_name(self, values: list[tuple[str, str]]) -> str:
        """Such as "4 x Cortex-A76, 4 x Cortex-A55"; empty where a core is not one of Arm's well-known ones."""
        implementers = [value for name, value in values if name == "cpu implementer"]
        parts = [int(value, 16) for name, value in values if name == "cpu part"]
        if set(implementers) != {_ARM} or not set(parts) <= _ARM_PARTS.keys():
            return ""
        counted = sorted(Counter(parts).items(), reverse=True)
        return ", ".join(f"{count} x {_ARM_PARTS[part]}" for part, count in counted)

    def _read(self, path: str) -> str:
        try:
            return (self.root / path).read_text(errors="replace").strip()
        except OSError:
            return ""


def _least(*amounts: int | None) -> int | None:
    return min((amount for amount in amounts if amount is not None), default=None)


def _numbers(text: str) -> frozenset[int]:
    """A list of processors as Linux writes it, such as "0-3,8"."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _sysctl(key: str) -> int | None:
    try:
        result = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=True, timeout=5)
        return int(result.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
