"""A GGUF file's metadata and tensors, as ggml's own reader sees them, and no further than that is safe."""

from __future__ import annotations

import ctypes
import mmap
import stat
import struct
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from .library import GgufParams, gguf

if TYPE_CHECKING:
    from pathlib import Path

_STRING, _ARRAY = 8, 9  # gguf_type
_NUMBERS = {kind: struct.Struct(f"<{code}") for kind, code in enumerate("BbHhIif?..Qqd") if code != "."}
START = struct.Struct("<4sIQQ")  # magic, version, number of tensors, number of metadata keys
_MAX_KEYS = 65_536
_MAX_TENSORS = 65_536
_MAX_METADATA = 1 << 27  # in bytes; the largest vocabularies take some 2^24
_MAX_KEPT = 1024  # numbers of an array that are read: enough for one a layer
_ALIGNMENT = 32  # ggml asserts that a mapped buffer starts at a multiple of it


class DamageError(Exception):
    """What is wrong with the file, and what would be right; the caller adds the path."""


def require(condition: bool, what: str, value: object, right: str) -> None:
    """Raise a DamageError where a condition does not hold."""
    if not condition:
        raise DamageError(f"{what} is {shown(value)}; expected {right}")


def shown(value: object) -> str:
    """A value in a few printable characters."""
    text = str(value) if isinstance(value, int | float) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def shown_path(path: Path) -> str:
    """A path in one printable line."""
    return str(path) if str(path).isprintable() else repr(str(path))


def regular_size(path: Path) -> int:
    """The file's size in bytes. Looks before opening: opening a pipe would wait for a writer."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise DamageError("is a directory; expected a GGUF file")
    if not stat.S_ISREG(status.st_mode):
        raise DamageError("is a pipe, a socket or a device; expected a GGUF file")
    require(
        status.st_size >= START.size,
        "its size in bytes",
        status.st_size,
        f"a GGUF file, {START.size} or more",
    )
    return status.st_size


def check_start(start: bytes) -> int:
    """Check the file's first bytes. Returns the version of the format."""
    magic, version, n_tensors, n_keys = START.unpack(start)
    require(magic == b"GGUF", "its magic number", magic, "b'GGUF'")
    swapped = version != 0 and version & 0xFFFF == 0
    require(not swapped, "its byte order", "big-endian", "little-endian (convert the model for this machine)")
    require(version in (2, 3), "its GGUF version", version, "2 or 3")
    require(n_tensors <= _MAX_TENSORS, "its number of tensors", n_tensors, f"at most {_MAX_TENSORS}")
    require(n_keys <= _MAX_KEYS, "its number of metadata keys", n_keys, f"at most {_MAX_KEYS}")
    return int(version)


class Array(NamedTuple):
    """An array of the metadata: its length, and its values where they are wanted."""

    length: int
    values: list[Any] | None


class Tensor(NamedTuple):
    """A tensor's type, by ggml's name, its four dimensions, and its first and last byte in the file."""

    kind: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_gguf(file: BinaryIO) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The metadata and the tensors, as ggml's own reader sees them.

    The reader gets the file's beginning only, which bounds what a false length can make it allocate.
    """
    ggml = gguf()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        beginning = np.frombuffer(content, np.uint8, min(len(content), _MAX_METADATA))
        handle = ggml.gguf_init_from_buffer(beginning.ctypes.data, len(beginning), GgufParams(no_alloc=True))
        del beginning  # or the mapping could not be closed
    if not handle:
        raise DamageError("its metadata is damaged or cut short; expected a whole GGUF file (download it again)")
    try:
        n_keys, n_tensors = ggml.gguf_get_n_kv(handle), ggml.gguf_get_n_tensors(handle)
        metadata = {_decoded(ggml.gguf_get_key(handle, i)): _value(handle, i) for i in range(n_keys)}
        names = [_decoded(ggml.gguf_get_tensor_name(handle, i)) for i in range(n_tensors)]
        tensors = {name: _tensor(handle, i) for i, name in enumerate(names)}
        # Longer names may hide behind a NUL: ggml would take the first of two, this dict the last.
        repeated = len(metadata) < n_keys or len(tensors) < n_tensors
        require(not repeated, "a key or a tensor's name", "repeated", "each only once")
        alignment = ggml.gguf_get_alignment(handle) if tensors else _ALIGNMENT
        require(alignment % _ALIGNMENT == 0, "general.alignment", alignment, f"a multiple of {_ALIGNMENT}")
    finally:
        ggml.gguf_free(handle)
    return metadata, tensors


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def _value(handle: int, key: int) -> Any:
    ggml = gguf()
    kind = ggml.gguf_get_kv_type(handle, key)
    if kind == _STRING:
        return _decoded(ggml.gguf_get_val_str(handle, key))
    if kind != _ARRAY:
        layout = _NUMBERS[kind]
        return layout.unpack(ctypes.string_at(ggml.gguf_get_val_data(handle, key), layout.size))[0]
    element, length = ggml.gguf_get_arr_type(handle, key), ggml.gguf_get_arr_n(handle, key)
    if element == _STRING:
        wanted = ggml.gguf_get_key(handle, key) == b"tokenizer.ggml.tokens"
        return Array(length, [ggml.gguf_get_arr_str(handle, key, i) for i in range(length)] if wanted else None)
    if length > _MAX_KEPT:
        return Array(length, None)
    layout = _NUMBERS[element]
    data = ctypes.string_at(ggml.gguf_get_arr_data(handle, key), layout.size * length) if length else b""
    return Array(length, [number for (number,) in layout.iter_unpack(data)])


def _tensor(handle: int, index: int) -> Tensor:
    ggml = gguf()
    start = ggml.gguf_get_data_offset(handle) + ggml.gguf_get_tensor_offset(handle, index)
    return Tensor(
        kind=_decoded(ggml.ggml_type_name(ggml.gguf_get_tensor_type(handle, index))),
        shape=tuple(ggml.gguf_get_tensor_ne(handle, index)[:4]),
        start=start,
        end=start + ggml.gguf_get_tensor_size(handle, index),
    )
