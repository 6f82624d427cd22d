"""The GGUF files in the standard Hugging Face cache, read without the network.

The client's own `scan_cache_dir` looks at all repositories to find one, takes 0.07 s longer to import, and leaves out a
whole repository where one link is broken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DownloadError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FOLDER = "models--"


@dataclass(frozen=True)
class CachedRepository:
    """What the cache holds of one repository."""

    repository: str
    files: dict[str, Path]  # path inside the repository → the newest snapshot's link to it


def cached(repository: str) -> CachedRepository:
    """Return what the cache holds of a repository, which may be nothing."""
    return _read(repository, cache_folder() / (_FOLDER + repository.replace("/", "--")))


def all_cached() -> Iterator[CachedRepository]:
    """Yield every repository in the cache that has a GGUF file."""
    for folder in sorted(cache_folder().glob(f"{_FOLDER}*")):
        found = _read(folder.name.removeprefix(_FOLDER).replace("--", "/"), folder)
        if found.files:
            yield found


def cache_folder() -> Path:
    """Return the cache's folder, as the hub's client sees it.

    Raises:
        DownloadError: the client does not start with what is in the environment.
    """
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ValueError as error:
        raise DownloadError(f"a setting of huggingface-hub in the environment is wrong: {error}") from error
    return Path(HF_HUB_CACHE)


def require_folder() -> None:
    """Make sure that there is a place for downloads.

    Raises:
        DownloadError: the user has no home folder, where the client would make one called `~`.
    """
    if str(cache_folder()).startswith("~"):
        raise DownloadError("there is no folder for downloads: this user has no home folder: set HF_HOME to a folder")


def blob_folder(repository: str) -> Path:
    """Return the folder of a repository's contents, each named by its checksum."""
    return cache_folder() / (_FOLDER + repository.replace("/", "--")) / "blobs"


def lock_path(repository: str, sha256: str) -> Path:
    """Return the lock that the hub's client takes while it fetches these contents."""
    return cache_folder() / ".locks" / (_FOLDER + repository.replace("/", "--")) / f"{sha256}.lock"


def expected_sha256(path: Path) -> str | None:
    """Return the checksum that a cached file is filed under, or None where it is not a link.

    Only the first link is followed: the client may itself link the contents to a store shared
    between repositories, where they have other names.
    """
    if not path.is_symlink():
        return None
    name = os.path.basename(os.readlink(path))
    return name if _SHA256.fullmatch(name) else None


def _read(repository: str, folder: Path) -> CachedRepository:
    files: dict[str, Path] = {}
    for snapshot in _snapshots(folder):
        for path in sorted(snapshot.rglob("*")):
            if path.suffix.lower() == ".gguf" and path.is_file():
                files.setdefault(path.relative_to(snapshot).as_posix(), path)
    return CachedRepository(repository, files)


def _snapshots(folder: Path) -> list[Path]:
    """The snapshots in the cache: the main branch's first, then the newest."""
    try:
        main = (folder / "refs" / "main").read_text("utf-8").strip()
    except OSError:
        main = ""
    try:
        found = [path for path in (folder / "snapshots").iterdir() if path.is_dir()]
        return sorted(found, key=lambda path: (path.name == main, path.stat().st_mtime_ns), reverse=True)
    except OSError:
        return []
