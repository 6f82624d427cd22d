"""Is the file on disk the one that was meant? Its checksum, computed once and remembered."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from ..storage import data_folder, write_whole
from .progress import Progress, hash_file, silent


def matches(path: Path, sha256: str, *, size: int | None = None, progress: Progress = silent) -> bool:
    """Whether the file at `path` has this checksum (and this size in bytes, where it is known).

    Hashing gigabytes at each start is too slow, so a file that passed is remembered with its size
    and time of change, and hashed again only when one of them has changed.

    Raises:
        OSError: the file exists and cannot be read.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if size is not None and found.st_size != size:
        return False
    if _read_record().get(str(path.resolve())) == [found.st_size, found.st_mtime_ns, sha256]:
        return True
    if hash_of(path, progress) != sha256:
        return False
    remember(path, sha256)
    return True


def hash_of(path: Path, progress: Progress = silent) -> str:
    """The checksum of the file at `path`.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hash_file(file, f"checking {path.name}", path.stat().st_size, progress)


def remembered(path: Path) -> str | None:
    """Return the checksum that the file was last found to have, if it has not changed since."""
    found = path.stat()
    match _read_record().get(str(path.resolve())):
        case [found.st_size, found.st_mtime_ns, str() as sha256]:
            return sha256
    return None


def remember(path: Path, sha256: str) -> None:
    """Note that the file at `path` was found to have this checksum. Never fails."""
    with contextlib.suppress(OSError):
        found = path.stat()
        record = {name: entry for name, entry in _read_record().items() if Path(name).exists()}
        record[str(path.resolve())] = [found.st_size, found.st_mtime_ns, sha256]
        path = _record_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, [json.dumps(record, indent=1).encode()])


def _record_path() -> Path:
    return data_folder() / "verified.json"


def _read_record() -> dict[str, Any]:
    """Resolved path → [size, mtime_ns, sha256]; empty when there is no readable record."""
    try:
        record = json.loads(_record_path().read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
