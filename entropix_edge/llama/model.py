"""An open model: llama.cpp's handle, owned."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

from ..errors import ModelFileError
from .adapters import Adapters
from .bindings import llama
from .devices import device_list, model_params, offload, takers_of_layers
from .header import Header, read_header
from .library import Watch, fresh_errors, fresh_warnings, initialise
from .lifetime import Handle, forget_handles
from .memory import Shape, check_fit, plan, predict
from .rpc import connect
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

logger = logging.getLogger("entropix_edge")


class Model:
    """A GGUF model in memory. A context manager; `close` may be called twice.

    Args:
        path: of the file.
        gpu_layers: "auto", "all", or how many layers to offload.
        context: the context to leave room for on a device; asked once the file's header is read.
        mmap: map the file instead of reading it.
        mlock: keep the weights from being swapped out; a warning says where the system does not let us.
        rpc: workers, each `host:port`, whose devices are to be there too.
        devices: names of the devices that take layers; None for all.
        loras: adapters' files, each with the factor that it is applied with in every context.
        chat_template: in place of the file's own.
        vocabulary_only: load the tokenizer and nothing else.
        force: open it, and contexts on it, where memory is predicted not to suffice.
        cancelled: asked during the load; True stops it.

    Attributes:
        contexts: those made from it that are open.
        devices: those that layers are offloaded to, the processor not among them.
        loras: its adapters.

    Raises:
        ConfigError: there is no such device, or no RPC in this build.
        ContextError: a worker does not answer, or memory does not suffice.
        ModelNotFoundError: no such file.
        ModelFileError: the file is damaged, cannot generate text, or llama.cpp refuses it.
        KeyboardInterrupt: `cancelled` said so.
        ContextError: of methods, those of `vocabulary` too: it is closed.
    """

    handle: Any = Handle()

    def __init__(
        self,
        path: Path,
        *,
        gpu_layers: int | str = "auto",
        context: Callable[[Header], Shape] = lambda header: plan(4096, header.n_heads or 0),
        mmap: bool = True,
        mlock: bool = False,
        rpc: Sequence[str] = (),
        devices: Sequence[str] | None = None,
        loras: Sequence[tuple[str | os.PathLike[str], float]] = (),
        chat_template: str | None = None,
        vocabulary_only: bool = False,
        force: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        initialise()
        connect(rpc)
        self.path = path
        self.header: Header = read_header(path)
        if not vocabulary_only:
            _require_generator(self.header)
        self._stack = contextlib.ExitStack()
        params = model_params()
        params.vocab_only = vocabulary_only
        params.load_mode = _LOAD_MODES[mmap, mlock]
        takers = takers_of_layers(devices)
        if devices is not None:
            listed = device_list(takers)
            params.devices = ctypes.addressof(listed)
        self.gpu_layers, self.force = 0, force
        if not vocabulary_only:
            planned = context(self.header)
            memory = predict(self.header, planned, mmap=mmap)
            n_layers = self.header.n_layers or 0
            self.gpu_layers = offload(gpu_layers, n_layers, memory.total, takers) if gpu_layers != 0 else 0
            if not force:
                check_fit(self.header, planned, memory, self.gpu_layers / (n_layers + 1))
        self.devices = tuple(takers) if self.gpu_layers else ()
        params.n_gpu_layers = self.gpu_layers
        overrides = _without(self.header.absent_tokens)
        params.kv_overrides = overrides
        self.handle = handle = _load(path, params, cancelled)
        self._stack.callback(llama.llama_model_free, handle)
        self._chat_template = chat_template
        self.loras = Adapters(handle, self.header, loras)
        self._process = os.getpid()
        self.contexts: WeakSet[Any] = WeakSet()
        absent = [name for name, _token in self.header.absent_tokens]
        self.vocabulary = Vocabulary(llama.llama_model_get_vocab(handle), absent)
        # of a vocabulary alone, llama.cpp must not be asked these
        known = not vocabulary_only
        self.n_layer: int = llama.llama_model_n_layer(self.handle) if known else 0
        self.n_head: int = llama.llama_model_n_head(self.handle) if known else 0
        self.n_ctx_train: int = llama.llama_model_n_ctx_train(self.handle) if known else 0
        self.n_vocab: int = self.vocabulary.size

    @property
    def is_recurrent(self) -> bool:
        """Whether the model's state is not a list of cells (Mamba, RWKV and their like)."""
        return bool(llama.llama_model_is_recurrent(self.handle))

    @property
    def is_hybrid(self) -> bool:
        """Whether only some layers attend."""
        return bool(llama.llama_model_is_hybrid(self.handle))

    @property
    def description(self) -> str:
        """llama.cpp's words for it, such as `llama 135M Q4_1`."""
        buffer = ctypes.create_string_buffer(128)
        llama.llama_model_desc(self.handle, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    @property
    def size(self) -> int:
        """Bytes of all its tensors."""
        return int(llama.llama_model_size(self.handle))

    @property
    def chat_template(self) -> str | None:
        """The chat template that it was opened with, else the file's own."""
        if self._chat_template is not None:
            return self._chat_template
        found: bytes | None = llama.llama_model_chat_template(self.handle, None)
        return found.decode("utf-8", "replace") if found else None

    def close(self) -> None:
        """Free the model, and close the contexts that were made from it."""
        if os.getpid() != self._process:
            self._stack.pop_all()  # a device's memory is not the child's to free
        for context in list(self.contexts):
            context.close()
        self.vocabulary.close()
        forget_handles(self)
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


_LOAD_MODES = {
    (True, False): llama.LLAMA_LOAD_MODE_MMAP,
    (True, True): llama.LLAMA_LOAD_MODE_MMAP_MLOCK,
    (False, False): llama.LLAMA_LOAD_MODE_NONE,
    (False, True): llama.LLAMA_LOAD_MODE_MLOCK,
}  # by whether the file is mapped, and whether it is kept in memory


def _load(path: Path, params: Any, cancelled: Callable[[], bool]) -> Any:
    """llama.cpp's handle of the model in a file."""
    watch = Watch(cancelled)
    stop = llama.llama_progress_callback(lambda _progress, _data: not watch())
    params.progress_callback = stop
    errors, warnings = fresh_errors(), fresh_warnings()
    handle = llama.llama_model_load_from_file(os.fsencode(path), params)
    watch.settle()
    if not handle:
        if cancelled():
            raise KeyboardInterrupt
        raise ModelFileError(f"{path}: llama.cpp cannot load it: {_quote(list(errors))}")
    _say_unlocked(warnings)
    return handle


def _require_generator(header: Header) -> None:
    if header.vocabulary_only:
        raise ModelFileError(f"{header.path}: holds a vocabulary and no weights: it cannot generate text")
    if header.embedding_only:
        raise ModelFileError(f"{header.path}: a {header.architecture} model makes embeddings: it cannot generate text")


def _without(absent: Sequence[tuple[str, int]]) -> Any:
    """What of the metadata to override, so that llama.cpp adds no token which is not there; ends with an empty key."""
    overrides = (llama.llama_model_kv_override * (len(absent) + 1))()
    for override, (name, token) in zip(overrides, absent, strict=False):
        logger.warning("the file's %s token is %d, which its vocabulary does not have: there is none then", name, token)
        override.tag = llama.LLAMA_KV_OVERRIDE_TYPE_BOOL
        override.key = f"tokenizer.ggml.add_{name}_token".encode()
        override.value.val_bool = False
    return overrides


def _say_unlocked(warnings: Iterable[str]) -> None:
    """Say what llama.cpp says where weights could not be kept in memory."""
    for line in warnings:
        if "mlock" in line:
            logger.warning("the weights may be swapped out: %s", line.removeprefix("warning: "))


def _quote(lines: list[str]) -> str:
    texts = [line.split(": ", 1)[-1] if line.startswith("llama_") else line for line in lines]
    return "; ".join(texts[:2]) or "it gives no reason"
