"""What control groups allow this process, version 1, 2 or both: its own group's limits and those of every group above.

See the kernel's documentation of `/proc/PID/cgroup`, of mount information (proc_pid_mountinfo(5)), and of the
controllers' files.
"""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNLIMITED = 1 << 60  # version 1 writes about 2^63 bytes for no limit
_MOUNTED_AT = PurePosixPath("/sys/fs/cgroup")


class MemoryLimit(NamedTuple):
    """Bytes that a group may hold, and how many of them a new allocation may still expect."""

    limit: int
    room: int


def processors(root: Path) -> int | None:
    """Whole processors' worth of time that this process may use, at least 1; None where nothing limits it.

    Args:
        root: the folder that `/proc` and `/sys` are in.
    """
    found = [limit for group in _groups(root, "cpu") if (limit := _processors_of(group)) is not None]
    return min(found, default=None)


def memory(root: Path) -> MemoryLimit | None:
    """The tightest limit of memory, and the least room below any; None where nothing limits it."""
    found = [limit for group in _groups(root, "memory") if (limit := _memory_of(group)) is not None]
    if not found:
        return None
    return MemoryLimit(min(limit.limit for limit in found), max(0, min(limit.room for limit in found)))


def _processors_of(group: Path) -> int | None:
    quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")  # version 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = map(int, (group / "cpu.max").read_text().split())  # version 2; "max" for no limit
    if quota is None or not period or quota <= 0:
        return None
    return max(1, quota // period)


def _memory_of(group: Path) -> MemoryLimit | None:
    names = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    for limit_name, used_name in names:
        limit, used = _number(group / limit_name), _number(group / used_name)
        if limit is not None and used is not None and limit < _UNLIMITED:
            return MemoryLimit(limit, limit - used + _reclaimable(group))
    return None


def _reclaimable(group: Path) -> int:
    """Bytes of files in memory, a mapped model's too, which give way to an allocation."""
    numbers: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in (group / "memory.stat").read_text().splitlines():
            name, value = line.split()
            numbers[name] = int(value)
    whole = "total_" if "total_active_file" in numbers else ""  # version 1: with the groups below
    return numbers.get(f"{whole}active_file", 0) + numbers.get(f"{whole}inactive_file", 0)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


# --- where the groups are ---------------------------------------------------------------------------


class _Mount(NamedTuple):
    """A mounted hierarchy: which group of it is to be seen, and where."""

    group: PurePosixPath
    place: PurePosixPath


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's groups, its own first, then each above it that is to be seen."""
    for version, path in _memberships(root, controller):
        mount = _choose(_mounts(root, version, controller), path)
        folder = root / mount.place.relative_to("/")
        inside = path.relative_to(mount.group) if path.is_relative_to(mount.group) else PurePosixPath()
        if ".." not in inside.parts:  # else the group lies outside of this namespace
            yield from (folder.joinpath(*inside.parts[:depth]) for depth in range(len(inside.parts), 0, -1))
        yield folder


def _memberships(root: Path, controller: str) -> Iterator[tuple[int, PurePosixPath]]:
    """The group of this process in each hierarchy that may limit it, with the hierarchy's version."""
    for line in _lines(root / "proc/self/cgroup") or ["0::/"]:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield 2, PurePosixPath(path)
        elif controller in controllers.split(","):
            yield 1, PurePosixPath(path)


def _mounts(root: Path, version: int, controller: str) -> list[_Mount]:
    found = []
    for line in _lines(root / "proc/self/mountinfo"):
        place, _, kind = line.partition(" - ")
        fields, kinds = place.split(" "), kind.split(" ")
        if len(fields) < 5 or len(kinds) < 3:
            continue
        is_it = kinds[0] == "cgroup2" if version == 2 else kinds[0] == "cgroup" and controller in kinds[2].split(",")
        if is_it:
            found.append(_Mount(_unescaped(fields[3]), _unescaped(fields[4])))
    usual = _MOUNTED_AT if version == 2 else _MOUNTED_AT / controller
    return found or [_Mount(PurePosixPath("/"), usual)]


def _choose(mounts: list[_Mount], path: PurePosixPath) -> _Mount:
    """The mount that shows the group `path`; where none does, as in a container's own namespace, the first."""
    return next((mount for mount in mounts if path.is_relative_to(mount.group)), mounts[0])


def _unescaped(path: str) -> PurePosixPath:
    """A path of mountinfo, where a space is written as an octal number."""
    for octal, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(octal, plain)
    return PurePosixPath(path)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
