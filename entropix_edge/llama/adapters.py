"""LoRA adapters of a model: loaded once, applied to each of its contexts."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ContextError, ModelFileError, ModelNotFoundError
from ..storage import fingerprint
from .bindings import llama
from .gguf import START, DamageError, check_start, read_gguf, regular_size, require, shown_path
from .library import fresh_errors
from .metadata import Metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .header import Header


class Adapters:
    """The LoRA adapters of one model, each with its factor. llama.cpp frees them with the model.

    Args:
        model: llama.cpp's handle of it.
        header: the model file's.
        files: each with its factor.

    Attributes:
        identity: a text that differs where the adapters do; empty where there are none.

    Raises:
        ModelNotFoundError: no such file.
        ModelFileError: it is no adapter, or not one of this model.
    """

    def __init__(self, model: Any, header: Header, files: Sequence[tuple[str | os.PathLike[str], float]]) -> None:
        self._handles = [_load(model, header, Path(file)) for file, _scale in files]
        self._scales = [scale for _file, scale in files]
        self.identity = " ".join(f"{fingerprint(Path(file))}:{scale:g}" for file, scale in files)

    def apply(self, context: Any) -> None:
        """Let a context of the model compute with them.

        Raises:
            ContextError: llama.cpp refuses.
        """
        count = len(self._handles)
        if not count:
            return
        handles = (llama.llama_adapter_lora_p_ctypes * count)(*self._handles)
        if llama.llama_set_adapters_lora(context, handles, count, (ctypes.c_float * count)(*self._scales)):
            raise ContextError("llama.cpp cannot apply the LoRA adapters")


def _load(model: Any, header: Header, path: Path) -> Any:
    _check(header, path)
    errors = fresh_errors()
    handle = llama.llama_adapter_lora_init(model, os.fsencode(path))
    if not handle:
        reason = errors[-1].split(": ", 1)[-1] if errors else "it gives no reason"
        raise ModelFileError(f"{shown_path(path)}: llama.cpp cannot load this adapter: {reason}")
    return handle


def _check(header: Header, path: Path) -> None:
    """Hold an adapter's metadata against what llama.cpp asserts."""
    try:
        regular_size(path)
        with path.open("rb") as file:
            check_start(file.read(START.size))
            metadata = Metadata(*read_gguf(file))
        kind = metadata.text("general.type")
        require(kind == "adapter", "general.type", kind, "adapter (this is no LoRA adapter)")
        require(
            metadata.architecture == header.architecture,
            "general.architecture",
            metadata.architecture,
            f"{header.architecture}, as the model's",
        )
        require(metadata.text("adapter.type") == "lora", "adapter.type", metadata.text("adapter.type"), "lora")
        alpha = metadata.metadata.get("adapter.lora.alpha")
        require(isinstance(alpha, float), "adapter.lora.alpha", alpha, "a number")
    except DamageError as damage:
        raise ModelFileError(f"{shown_path(path)}: {damage}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise ModelNotFoundError(f"{shown_path(path)}: no such file; expected a LoRA adapter in GGUF") from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{shown_path(path)}: cannot be read ({error}); expected a LoRA adapter in GGUF") from None
