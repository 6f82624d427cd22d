"""How long work reports how far it is, so that whoever called can draw it."""

from __future__ import annotations

import hashlib
import os
from typing import IO, Protocol

_CHUNK = 1 << 20


class Progress(Protocol):
    """A callback that is told how far a download or a check is: a new description is a new bar.

    It may raise (`KeyboardInterrupt`, say): the work stops and cleans up after itself.
    """

    def __call__(self, description: str, done: int, total: int | None) -> None:
        """Take note that `done` bytes of `total` (None: unknown) of `description` are there."""


def silent(description: str, done: int, total: int | None) -> None:
    """Report nothing."""


class HashingFile:
    """A file that is hashed and reported while it is written."""

    def __init__(self, file: IO[bytes], description: str, total: int | None, progress: Progress) -> None:
        self.size = 0
        self._file = file
        self._hash = hashlib.sha256()
        self._description = description
        self._total = total
        self._progress = progress

    @property
    def sha256(self) -> str:
        """Checksum, in hexadecimal, of the bytes so far."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append `chunk` to the file and to the checksum."""
        self._file.write(chunk)
        self._count(chunk)

    def copy(self, source: IO[bytes]) -> None:
        """Append the rest of `source`."""
        while chunk := source.read(_CHUNK):
            self.write(chunk)

    def read_existing(self) -> None:
        """Take what the file holds already into the checksum, and stand at its end."""
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            self._count(chunk)

    def sync(self) -> None:
        """Have it on the disk: what is remembered as verified must survive a power cut."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def restart(self) -> None:
        """Drop what is there."""
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def _count(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.size += len(chunk)
        self._progress(self._description, self.size, self._total)


def hash_file(file: IO[bytes], description: str, total: int | None, progress: Progress) -> str:
    """Return the sha256, in hexadecimal, of an open file."""
    digest = HashingFile(file, description, total, progress)
    digest.read_existing()
    return digest.sha256
