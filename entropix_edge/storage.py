"""What the program keeps on disk: the user's folders, files written at once, logs that a killed run goes on with."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

HOME_VARIABLE = "ENTROPIX_EDGE_HOME"

_END, _BLOCK, _BLOCKS = 1 << 16, 1 << 12, 12  # bytes of either end, bytes of a block between, how many blocks

_MEMBER = b"\x1f\x8b\x08\0\0\0\0\0"  # how a gzip member begins that `gzip.compress(…, mtime=0)` makes
_CHUNK = 1 << 14  # bytes of a gzipped file that are unpacked at a time

Record = TypeVar("Record")

# --- the user's folders -----------------------------------------------------------------------------


def data_folder() -> Path:
    """The user's data folder, which may not exist yet: `$ENTROPIX_EDGE_HOME`, else what the platform prescribes.

    Raises:
        FileNotFoundError: the user has no home folder, or the variable names one that there is not.
    """
    return _chosen_home() or _platform_folder("XDG_DATA_HOME", ".local/share", "Library/Application Support")


def config_folder() -> Path:
    """The user's folder for settings, otherwise as `data_folder`."""
    return _chosen_home() or _platform_folder("XDG_CONFIG_HOME", ".config", "Library/Application Support")


def cache_folder() -> Path:
    """The user's folder for what can be made again, otherwise as `data_folder`."""
    home = _chosen_home()
    return home / "cache" if home else _platform_folder("XDG_CACHE_HOME", ".cache", "Library/Caches")


def _chosen_home() -> Path | None:
    chosen = os.environ.get(HOME_VARIABLE)
    if not chosen:
        return None
    try:
        return Path(chosen).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(f"{HOME_VARIABLE} is {chosen!r}: there is no such home folder: give a path") from error


def _platform_folder(variable: str, default: str, macos: str) -> Path:
    base = os.environ.get(variable)
    if sys.platform != "darwin" and base and Path(base).is_absolute():  # XDG says to ignore a relative path
        return Path(base) / "entropix-edge"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise FileNotFoundError(f"this user has no home folder: set {HOME_VARIABLE} to a folder") from error
    return home / (macos if sys.platform == "darwin" else default) / "entropix-edge"


# --- files ------------------------------------------------------------------------------------------


def write_whole(target: Path, parts: Iterable[bytes | memoryview], *, durable: bool = True) -> None:
    """Write a file at once or not at all; who reads it meanwhile sees what was there before.

    The file keeps its mode, a new one gets what the user's umask leaves; a link keeps pointing at it.

    Args:
        target: its path; its folder exists.
        parts: what it holds, in order.
        durable: wait for the disk, so that it survives a power cut. Needless for what is checked when it is read,
            and can be made again.

    Raises:
        OSError: it cannot be written, or is no regular file; what was there before still is.
    """
    target = Path(os.path.realpath(target))
    mode = _mode_of(target)
    partial = target.with_name(f".entropix-edge-{os.urandom(8).hex()}.part")
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error  # who reads it knows nothing of the other
    try:
        with os.fdopen(handle, "wb") as file:
            if mode is not None:
                with contextlib.suppress(PermissionError):  # a file system without modes
                    os.fchmod(handle, mode)
            file.writelines(parts)
            if durable:
                file.flush()
                os.fsync(handle)
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _mode_of(target: Path) -> int | None:
    """The permissions of a file that is there."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):  # replacing a device or a pipe would take it from all who use it
        raise OSError(f"{target} is not a regular file: give another path")
    return stat.S_IMODE(mode)


def json_line(value: Any) -> bytes:
    """A value as a line of JSON in UTF-8.

    What UTF-8 cannot say, half a surrogate pair from a file's name, is escaped as JSON does.
    """
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def fingerprint(path: Path) -> str:
    """A name for a file's content, 16 hexadecimal digits, from its size and samples of it.

    A matter of milliseconds whatever the size: it tells models apart, and proves nothing.

    Raises:
        OSError: the file cannot be read.
    """
    import hashlib  # not quick to import, and no part of `--help`

    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(f"{size}\n".encode())
        between = max(size - _BLOCK, 0)
        starts = [between * index // (_BLOCKS + 1) for index in range(1, _BLOCKS + 1)]
        for start, length in [(0, _END), *((start, _BLOCK) for start in starts), (max(size - _END, 0), _END)]:
            file.seek(start)
            digest.update(file.read(length))
    return digest.hexdigest()[:16]


# --- logs -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LogFormat(Generic[Record]):
    """What a log's lines after the first hold.

    Attributes:
        name: what such a file is called in errors.
        parse: a record from its JSON; raises TypeError, ValueError, KeyError or AttributeError where it is none.
        form: the JSON of a record.
    """

    name: str
    parse: Callable[[Any], Record]
    form: Callable[[Record], Mapping[str, Any]]


class Log(Generic[Record]):
    """Records in a JSONL file that a killed run goes on with: a line of settings, then a line a record.

    A line that a kill cut short is cut off; each record is handed to the system as it is added. Where the file's name
    ends in `.gz`, each line is a gzip member of its own, so that any program reads the file as one gzipped text.

    Args:
        path: of the file; made where there is none, in a folder that exists.
        kind: of the records.
        settings: what the records depend on; those in the file must be the same.
        anew: forget what is there.

    Attributes:
        path: of the file.
        records: what was there, then what was added.

    Raises:
        ConfigError: the file holds something else, or records of other settings, or is being written by another run.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, kind: LogFormat[Record], settings: Mapping[str, Any], *, anew: bool = False) -> None:
        self.path = path
        self._kind = kind
        self.records: list[Record] = []
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            _claim(self._file.fileno(), path)
            whole = 0
            if not anew and _is_begun(path):
                found, self.records, whole = _read(path, kind)
                _compare(path, kind, found, settings)
            self._file.truncate(whole)
            self._file.seek(whole)
        except BaseException:
            self._file.close()
            raise
        if not whole:
            self._write({"settings": settings})

    def add(self, record: Record) -> None:
        """Append a record, and hand it to the system at once."""
        self._write(self._kind.form(record))
        self.records.append(record)

    def _write(self, value: Mapping[str, Any]) -> None:
        line = json_line(value)
        self._file.write(_packed(line) if _is_packed(self.path) else line)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def write_log(path: Path, lines: Iterable[bytes]) -> None:
    """Write a log at once or not at all, as `read_log` reads it; gzipped where its name ends in `.gz`.

    Raises:
        OSError: it cannot be written.
    """
    whole = b"".join(lines)
    write_whole(path, [_packed(whole) if _is_packed(path) else whole])


def _packed(lines: bytes) -> bytes:
    """Lines as a gzip member of their own."""
    import gzip  # here: only recordings need it

    return gzip.compress(lines, mtime=0)


def read_log(path: Path, kind: LogFormat[Record]) -> tuple[dict[str, Any], list[Record]]:
    """The settings and records of a log.

    Raises:
        ConfigError: the file holds something else.
        OSError: it cannot be read.
    """
    settings, records, _whole = _read(path, kind)
    return settings, records


def _claim(handle: int, path: Path) -> None:
    """Keep other runs from a file as long as it is open: their records would fall into the middle of ours."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(f"{path} is being written by another run: wait for it, or give another file") from error
    except OSError:  # a file system without locks
        return


def _is_begun(path: Path) -> bool:
    """Whether there is a file that holds more than a part of a first line."""
    try:
        lines, _whole, torn = _contents(path)
    except FileNotFoundError:
        return False
    return bool(lines) or not (torn == b"" or torn.startswith(_FIRST) or _FIRST.startswith(torn))


_FIRST = b'{"settings": {'


def _is_packed(path: Path) -> bool:
    return path.suffix == ".gz"


def _contents(path: Path) -> tuple[list[bytes], int, bytes]:
    """The whole lines, how many bytes of the file they are, and what a kill left of another line.

    Raises:
        ConfigError: it should be gzipped and is not, or is damaged.
    """
    data = path.read_bytes()
    if _is_packed(path):
        return _unpacked(path, data)
    whole = data.rfind(b"\n") + 1
    return data[:whole].split(b"\n")[:-1], whole, data[whole:]


def _unpacked(path: Path, data: bytes) -> tuple[list[bytes], int, bytes]:
    text, whole, begun = [], 0, b""
    while whole < len(data):
        begun, end = _member(path, data, whole)
        if end is None:
            if data.find(_MEMBER, whole + 1) > 0:  # not the last member: its own end was lost to damage
                raise ConfigError(f"{path} is damaged after byte {whole}: restore it, or give another file")
            break
        text.append(begun)
        whole, begun = end, b""
    *lines, rest = b"".join(text).split(b"\n")
    return lines, whole, rest + begun


def _member(path: Path, data: bytes, start: int) -> tuple[bytes, int | None]:
    """What a gzip member holds, and where it ends; None where the file ends before it."""
    member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    parts = []
    for place in range(start, len(data), _CHUNK):
        try:
            parts.append(member.decompress(data[place : place + _CHUNK]))
        except zlib.error as error:
            raise ConfigError(f"{path} is damaged after byte {start}, or not gzipped: {error}") from error
        if member.eof:
            return b"".join(parts), min(place + _CHUNK, len(data)) - len(member.unused_data)
    return b"".join(parts), None


def _read(path: Path, kind: LogFormat[Record]) -> tuple[dict[str, Any], list[Record], int]:
    """Settings, records, and how many bytes the whole lines are."""
    lines, whole, _torn = _contents(path)
    records = []
    settings = _settings(path, kind, lines[0] if lines else b"")
    for number, line in enumerate(lines[1:], 2):
        try:
            records.append(kind.parse(json.loads(line)))
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            shown = line[:60].decode("utf-8", "replace")
            raise ConfigError(f"{path}: line {number} is not a record of a {kind.name}: {shown!r}") from error
    return settings, records, whole


def _settings(path: Path, kind: LogFormat[Any], line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
        raise ConfigError(f"{path} is not a {kind.name}: its first line must hold the settings")
    settings: dict[str, Any] = record["settings"]
    return settings


def _compare(path: Path, kind: LogFormat[Any], found: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    for name, value in json.loads(json_line(settings)).items():
        if found.get(name) != value:
            raise ConfigError(
                f"{path} is a {kind.name} with {name} {found.get(name)!r}, and this run has {value!r}: "
                "give another file, or the same settings"
            )
