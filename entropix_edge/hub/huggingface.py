"""Models on the Hugging Face hub: choose the file, fetch it, check it.

A download goes to `blobs/<sha256>.incomplete` of the standard cache and is taken up there by the next
attempt, in this process or another. `hf_hub_download` would not: since huggingface-hub 1.x its temporary
file is its process's own, and deleted when the process fails, so that a download of hours that breaks is
lost. The contents get their place in the cache once their checksum holds, and `hf_hub_download` then
links them as it would its own. Whatever fails between here and the hub, what is in the cache serves.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from ..errors import DownloadError, EntropixError, ModelFileError
from .cache import blob_folder, cached, expected_sha256, lock_path, require_folder
from .failures import ONLINE, is_network, plain_errors, quiet_client
from .names import HubModel
from .paths import offline_by_environment
from .progress import HashingFile, Progress
from .selection import choose
from .verify import hash_of, matches, remember, remembered

_log = logging.getLogger("entropix_edge")

_ANSWER_SECONDS = 10.0
_IDLE_ATTEMPTS = 4  # answers in a row that bring nothing


@dataclass(frozen=True)
class _RemoteFile:
    """A file on the hub, and how to know that it is whole."""

    repository: str
    commit: str
    path: str
    size: int  # bytes
    sha256: str


def ensure(model: HubModel, *, offline: bool, progress: Progress) -> Path:
    """Return the verified file of a model on the hub, fetching what is missing.

    Raises:
        ModelNotFoundError: no such repository, file or quantisation.
        DownloadError: it could not be fetched, or `offline` forbids to.
        ModelFileError: the cached file is damaged and cannot be fetched again.
    """
    with plain_errors(str(model)):
        if offline or offline_by_environment():
            return _from_cache(model, progress)
        try:
            with plain_errors(str(model)), quiet_client():
                paths = [_fetch(file, progress) for file in _look_up(model)]
        except EntropixError as error:
            if not _is_cached(model):
                raise
            _log.warning("%s: using what is in the cache", error)
            return _from_cache(model, progress)
        return paths[0]


def _is_cached(model: HubModel) -> bool:
    """Whether the cache holds files for it, whole or not."""
    try:
        return bool(choose(cached(model.repository).files, model))
    except EntropixError:
        return False


def _from_cache(model: HubModel, progress: Progress) -> Path:
    found = cached(model.repository).files
    if not found:
        raise DownloadError(f"{model} is not on this machine", hint=ONLINE)
    paths = [found[name] for name in choose(found, model)]
    for path in paths:
        sha256 = expected_sha256(path) or remembered(path)
        if sha256 is None:
            _take_as_is(path, blob_folder(model.repository), progress)
        elif not matches(path, sha256, progress=progress):
            raise ModelFileError(f"{path} is damaged (its checksum differs)", hint=ONLINE)
    return paths[0]


def _take_as_is(path: Path, blobs: Path, progress: Progress) -> None:
    """Trust a file that the cache states no checksum for, and hold it to what it is now from then on.

    A cache without links is one: copied with what they point at, on a network share, on Windows.
    """
    sha256 = hash_of(path, progress)
    if not (blobs / sha256).exists():
        _log.warning("%s is used unchecked: the cache does not say its checksum", path)
    remember(path, sha256)


def _look_up(model: HubModel) -> list[_RemoteFile]:
    """Ask the hub which files the model consists of."""
    from huggingface_hub.hf_api import HfApi  # the package's own lazy import prints what goes wrong

    info = HfApi().model_info(model.repository, files_metadata=True, timeout=_ANSWER_SECONDS)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    files = []
    for path in choose(siblings, model):
        lfs = siblings[path].lfs
        if lfs is None or info.sha is None:
            raise DownloadError(f"{model.repository}/{path} cannot be checked: the hub states no checksum for it")
        files.append(_RemoteFile(model.repository, info.sha, path, lfs.size, lfs.sha256))
    return files


def _fetch(file: _RemoteFile, progress: Progress) -> Path:
    """Return the cached file, verified; fetch what is missing of it."""
    from huggingface_hub.file_download import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    require_folder()
    known = try_to_load_from_cache(file.repository, file.path, revision=file.commit)
    if isinstance(known, str) and matches(Path(known), file.sha256, size=file.size, progress=progress):
        return Path(known)
    blob = blob_folder(file.repository) / file.sha256
    lock = lock_path(file.repository, file.sha256)
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if not matches(blob, file.sha256, size=file.size, progress=progress):
            if isinstance(known, str):
                _log.warning("%s is damaged (its size or checksum differs): fetching it again", known)
                Path(known).unlink(missing_ok=True)
            blob.unlink(missing_ok=True)
            _download(file, blob, progress)
    linked = Path(hf_hub_download(file.repository, file.path))
    if not matches(linked, file.sha256, size=file.size):
        raise DownloadError(f"{file.repository}/{file.path} changed while it was fetched: try again")
    return linked


def _download(file: _RemoteFile, blob: Path, progress: Progress) -> None:
    """Fetch the contents beside `blob`, and move them there once their checksum holds."""
    partial = blob.with_name(f"{blob.name}.incomplete")
    with partial.open("a+b") as raw:
        content = HashingFile(raw, f"fetching {file.path}", file.size, progress)
        content.read_existing()
        if content.size > file.size:
            content.restart()
        _check_space(file, content.size, blob.parent)
        _receive(file, content)
        content.sync()
    if content.sha256 != file.sha256:
        partial.unlink()
        raise DownloadError(
            f"{file.repository}/{file.path} came damaged: its sha256 is {content.sha256[:12]}…, it should be "
            f"{file.sha256[:12]}…; what came was removed, try again"
        )
    os.replace(partial, blob)
    remember(blob, file.sha256)


def _receive(file: _RemoteFile, content: HashingFile) -> None:
    """Read to the file's end; when the connection breaks, ask for the rest."""
    idle = 0
    while content.size < file.size:
        before = content.size
        broken = None
        try:
            _receive_rest(file, content)
        except Exception as error:
            if not is_network(error):
                raise
            broken = error
        idle = 0 if content.size > before else idle + 1
        if idle == _IDLE_ATTEMPTS:
            raise DownloadError(
                f"the connection broke at {content.size} of {file.size} bytes of {file.path}: "
                "run it again to go on from there"
            ) from broken
        time.sleep(idle)


def _receive_rest(file: _RemoteFile, content: HashingFile) -> None:
    from huggingface_hub import constants
    from huggingface_hub.file_download import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if content.size:
        headers["Range"] = f"bytes={content.size}-"
    url = hf_hub_url(file.repository, file.path, revision=file.commit)
    patience = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=patience) as response:
        hf_raise_for_status(response)
        if response.status_code != HTTPStatus.PARTIAL_CONTENT:  # it cannot resume
            content.restart()
        for chunk in response.iter_bytes():
            content.write(chunk)


def unreachable(seconds: float = 3.0) -> str | None:
    """Why the hub does not answer within so many seconds; None where it does."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    try:
        get_session().head(constants.ENDPOINT, timeout=seconds)
    except Exception as error:
        if not is_network(error):
            raise
        return f"{constants.ENDPOINT}: {error}"
    return None


def _check_space(file: _RemoteFile, done: int, folder: Path) -> None:
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(folder).free
        if free < file.size - done:
            raise DownloadError(
                f"cannot fetch {file.path}: it needs {(file.size - done) / 1e6:,.0f} MB more, "
                f"and {folder} has {free / 1e6:,.0f} MB free"
            )
