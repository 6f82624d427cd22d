"""A sequence's tokens and cells as a file: a line of JSON, the tokens (int32), llama.cpp's own state of them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ContextError
from ..storage import write_whole
from .devices import llama_cpp_version

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_FORMAT = "entropix-edge prompt cache 1"
_LONGEST_HEADER = 4096


def write_state(path: Path, model: str, tokens: Sequence[int], state: bytes | memoryview) -> None:
    """Write a file that `read_state` reads. What was there is replaced at the end, or stays whole.

    Args:
        path: of the file.
        model: the model's fingerprint.
        tokens: that the cells hold.
        state: from `Context.save`.

    Raises:
        OSError: it cannot be written.
        ContextError: the file holds something else, perhaps the model.
    """
    if path.is_file():
        with path.open("rb") as file:
            if line := file.readline(_LONGEST_HEADER):
                _header(line, path)
    held = np.asarray(tokens, np.int32).tobytes()
    header = {
        "format": _FORMAT,
        "model": model,
        "llama_cpp": llama_cpp_version(),
        "tokens": len(tokens),
        "checksum": _checksum(held, state),
    }
    write_whole(path, [json.dumps(header).encode() + b"\n", held, state], durable=False)


def read_state(path: Path, model: str) -> tuple[list[int], bytes]:
    """The tokens and the state in a file; none of either in an empty one, which is a cache not begun yet.

    Raises:
        OSError: it cannot be read.
        ContextError: it is damaged, or another model's or llama.cpp's.
    """
    with path.open("rb") as file:
        line = file.readline(_LONGEST_HEADER)
        if not line:
            return [], b""
        header = _header(line, path)
        if header["model"] != model:
            raise ContextError(
                f"the prompt cache {path} is of another model ({header['model']}, this one is {model}): "
                "give each model a file of its own"
            )
        if header["llama_cpp"] != llama_cpp_version():
            raise ContextError(
                f"the prompt cache {path} is of llama-cpp-python {header['llama_cpp']}, "
                f"this is {llama_cpp_version()}: remove the file to start over"
            )
        held = file.read(4 * header["tokens"])
        state = file.read()
    if _checksum(held, state) != header["checksum"]:
        raise ContextError(f"the prompt cache {path} is damaged (its checksum differs): remove the file")
    return [int(token) for token in np.frombuffer(held, np.int32)], state


def _header(line: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    known = isinstance(header, dict) and header.get("format") == _FORMAT
    if not known or not {"model", "llama_cpp", "checksum"} < header.keys() or not _is_count(header.get("tokens")):
        raise ContextError(f"{path} is not a prompt cache: give one that was saved, an empty file, or a new path")
    return dict(header)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value < 2**31


def _checksum(held: bytes, state: bytes | memoryview) -> str:
    digest = hashlib.blake2b(held, digest_size=16)
    digest.update(state)
    return digest.hexdigest()
