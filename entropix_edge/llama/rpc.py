"""llama.cpp's RPC: devices of other machines take layers. Only in a build with `GGML_RPC=ON` (scripts/rpc)."""

from __future__ import annotations

import ctypes
import socket
from functools import cache
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, ContextError
from .library import ggml, ggml_devices, initialise, library_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PATIENCE = 3.0  # seconds for a worker's answer

_kept: list[Any] = []  # callbacks that ggml holds the addresses of


def has_rpc() -> bool:
    """Whether this build of llama.cpp has RPC."""
    return library_path("ggml-rpc").exists()


def connect(endpoints: Sequence[str]) -> None:
    """Make the devices of workers devices of this process; those it knows already are left as they are.

    Args:
        endpoints: each `host:port`.

    Raises:
        ConfigError: this build has no RPC.
        ContextError: a worker does not answer.
    """
    for endpoint in endpoints:
        _library()
        if not answers(endpoint):
            raise lost(endpoint)
        _connect(endpoint)


@cache
def _connect(endpoint: str) -> None:
    initialise()
    registry = _library().ggml_backend_rpc_add_server(endpoint.encode())
    if not registry:
        raise lost(endpoint)
    ggml_devices().ggml_backend_register(registry)


def answers(endpoint: str) -> bool:
    """Whether something listens there."""
    host, _, port = endpoint.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _PATIENCE):
            return True
    except OSError:
        return False


def lost(endpoint: str) -> ContextError:
    """The error that names a worker that does not answer."""
    return ContextError(f"the worker {endpoint} does not answer: start a worker there")


def serve(host: str, port: int, threads: int) -> None:
    """Compute for whoever connects, until the process is ended: on the devices that take layers, else on the CPU.

    Raises:
        ConfigError: this build has no RPC.
    """
    library = _library()
    initialise()
    registry = ggml_devices()
    every = [registry.ggml_backend_dev_get(index) for index in range(registry.ggml_backend_dev_count())]
    kinds = [ggml().ggml_backend_dev_type(handle) for handle in every]
    chosen = [handle for handle, kind in zip(every, kinds, strict=True) if kind in (1, 2)]
    chosen = chosen or [every[kinds.index(0)]]
    listed = (ctypes.c_void_p * len(chosen))(*chosen)
    library.ggml_backend_rpc_start_server(f"{host}:{port}".encode(), None, threads, len(chosen), listed)


def before_abort(call: Callable[[str], None]) -> None:
    """Have ggml call a function with its last words before it ends the process, instead of printing them."""

    def receive(message: bytes | None) -> None:
        call((message or b"").decode("utf-8", "replace").strip())

    callback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(receive)
    _kept.append(callback)
    ggml().ggml_set_abort_callback(callback)


@cache
def _library() -> Any:
    if not has_rpc():
        raise ConfigError("this build of llama.cpp has no RPC: make one with GGML_RPC=ON, as scripts/rpc does")
    library = ctypes.CDLL(str(library_path("ggml-rpc")))
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    library.ggml_backend_rpc_add_server.restype = pointer
    library.ggml_backend_rpc_add_server.argtypes = (text,)
    library.ggml_backend_rpc_start_server.restype = None
    library.ggml_backend_rpc_start_server.argtypes = (text, text, ctypes.c_size_t, ctypes.c_size_t, pointer)
    return library
