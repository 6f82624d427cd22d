"""llama.cpp's shared libraries: loaded once, their log captured, their functions typed."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import sys
from collections import deque
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bindings import after_package, llama

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

logger = logging.getLogger("entropix_edge.llama")

_WARNING, _ERROR, _CONTINUED = 3, 4, 5
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, _WARNING: logging.INFO, _ERROR: logging.INFO}


class _Log:
    """llama.cpp's log: every line to `logging`, the last errors and warnings kept for messages."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self.warnings: deque[str] = deque(maxlen=8)
        self._level = 0
        self._line = ""
        self.callback = llama.llama_log_callback(self._receive)

    def _receive(self, level: int, text: bytes, _user_data: object) -> None:
        """Called from C: an exception could go nowhere but the terminal."""
        with contextlib.suppress(Exception):
            self._level = self._level if level == _CONTINUED else level
            self._line += text.decode("utf-8", "replace")
            while "\n" in self._line:
                line, self._line = self._line.split("\n", 1)
                self._take(line.strip())

    def _take(self, line: str) -> None:
        if not line:
            return
        if self._level == _ERROR:
            self.errors.append(line)
        if self._level == _WARNING:
            self.warnings.append(line)
        logger.log(_LEVELS.get(self._level, logging.DEBUG), line)


_log = _Log()


def _take_log() -> None:
    llama.llama_log_set(_log.callback, ctypes.c_void_p(0))


_take_log()
after_package.append(_take_log)


def fresh_errors() -> deque[str]:
    """The error lines that llama.cpp logs from now on."""
    _log.errors.clear()
    return _log.errors


def fresh_warnings() -> deque[str]:
    """The warnings that llama.cpp logs from now on."""
    _log.warnings.clear()
    return _log.warnings


@cache
def initialise() -> None:
    """Start llama.cpp's backends, once a process."""
    llama.llama_backend_init()


def library_path(stem: str) -> Path:
    """The file of a library that is loaded, or would be.

    A wheel holds no links, so each library lies in it under several names, which the system takes for several
    libraries, each with its own devices and settings. llama_cpp loads libllama under the plain name; libllama names
    ggml's libraries with their version.
    """
    folder = Path(llama.__file__).parent / "lib"
    ending, versioned = ("dylib", f"lib{stem}.0.dylib") if sys.platform == "darwin" else ("so", f"lib{stem}.so.0")
    if stem != "llama" and (folder / versioned).exists():
        return folder / versioned
    return folder / f"lib{stem}.{ending}"


def _load(stem: str, signatures: dict[str, tuple[Any, ...]], kind: type[ctypes.CDLL] = ctypes.CDLL) -> Any:
    """A library of llama.cpp's wheel, its functions typed: name → result, arguments."""
    library = kind(str(library_path(stem)))
    for name, (result, *arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@cache
def ggml() -> Any:
    """The library of tensors and backends."""
    return _load("ggml-base", _SIGNATURES)


@cache
def ggml_devices() -> Any:
    """The library that knows the registered devices."""
    return _load("ggml", _DEVICE_SIGNATURES)


@cache
def llama_functions() -> Any:
    """Functions of llama.cpp whose results llama_cpp wraps more than a step needs."""
    return _load("llama", {"llama_get_logits_ith": (_pointer, _pointer, ctypes.c_int32)})


@cache
def gguf() -> Any:
    """The reader of GGUF files. Its calls are many and quick, so the interpreter's lock stays held."""
    return _load("ggml-base", _GGUF_SIGNATURES, ctypes.PyDLL)


def address_of(function: Any) -> int:
    """The address of a function that was loaded with ctypes."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class InitParams(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class TypeTraits(ctypes.Structure):
    """ggml_type_traits, but for its end."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
    )


class GgufParams(ctypes.Structure):
    """gguf_init_params."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


_pointer, _size, _int64, _text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, ctypes.c_char_p

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "ggml_set_abort_callback": (_pointer, _pointer),
    "ggml_log_set": (None, llama.llama_log_callback, _pointer),
    "ggml_init": (_pointer, InitParams),
    "ggml_free": (None, _pointer),
    "ggml_row_size": (_size, ctypes.c_int, _int64),
    "ggml_new_tensor_3d": (_pointer, _pointer, ctypes.c_int, _int64, _int64, _int64),
    "ggml_view_1d": (_pointer, _pointer, _pointer, _int64, _size),
    "ggml_flash_attn_ext": (_pointer, *[_pointer] * 5, *[ctypes.c_float] * 3),
    "ggml_op_desc": (_text, _pointer),
    "ggml_op_name": (_text, ctypes.c_int),
    "ggml_get_type_traits": (ctypes.POINTER(TypeTraits), ctypes.c_int),
    "ggml_soft_max_ext": (_pointer, _pointer, _pointer, _pointer, ctypes.c_float, ctypes.c_float),
    "ggml_set_name": (_pointer, _pointer, ctypes.c_char_p),
    "ggml_get_name": (_pointer, _pointer),
    "ggml_get_data": (_pointer, _pointer),
    "ggml_backend_tensor_get": (None, _pointer, _pointer, _size, _size),
    "ggml_backend_buffer_is_host": (ctypes.c_bool, _pointer),
    "ggml_backend_buffer_free": (None, _pointer),
    "ggml_backend_alloc_ctx_tensors_from_buft": (_pointer, _pointer, _pointer),
    "ggml_backend_dev_name": (ctypes.c_char_p, _pointer),
    "ggml_backend_dev_description": (ctypes.c_char_p, _pointer),
    "ggml_backend_dev_type": (ctypes.c_int, _pointer),
    "ggml_backend_dev_memory": (None, _pointer, ctypes.POINTER(_size), ctypes.POINTER(_size)),
    "ggml_backend_dev_buffer_type": (_pointer, _pointer),
}

_DEVICE_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "ggml_backend_dev_count": (_size,),
    "ggml_backend_dev_get": (_pointer, _size),
    "ggml_backend_register": (None, _pointer),
}

_GGUF_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "gguf_init_from_buffer": (_pointer, _pointer, _size, GgufParams),
    "gguf_free": (None, _pointer),
    "gguf_get_alignment": (_size, _pointer),
    "gguf_get_data_offset": (_size, _pointer),
    "gguf_get_n_kv": (_int64, _pointer),
    "gguf_get_key": (_text, _pointer, _int64),
    "gguf_get_kv_type": (ctypes.c_int, _pointer, _int64),
    "gguf_get_val_str": (_text, _pointer, _int64),
    "gguf_get_val_data": (_pointer, _pointer, _int64),
    "gguf_get_arr_type": (ctypes.c_int, _pointer, _int64),
    "gguf_get_arr_n": (_size, _pointer, _int64),
    "gguf_get_arr_str": (_text, _pointer, _int64, _size),
    "gguf_get_arr_data": (_pointer, _pointer, _int64),
    "gguf_get_n_tensors": (_int64, _pointer),
    "gguf_get_tensor_name": (_text, _pointer, _int64),
    "gguf_get_tensor_ne": (ctypes.POINTER(ctypes.c_int64), _pointer, _int64),
    "gguf_get_tensor_type": (ctypes.c_int, _pointer, _int64),
    "gguf_get_tensor_offset": (_size, _pointer, _int64),
    "gguf_get_tensor_size": (_size, _pointer, _int64),
    "ggml_type_name": (_text, ctypes.c_int),
}


ggml().ggml_log_set(_log.callback, None)  # gguf's reader logs to ggml, not to llama.cpp


class Watch:
    """Asks, from inside a call into C, whether to stop; keeps an exception that was raised meanwhile.

    An exception cannot pass through C. So a Ctrl-C that falls into the callback stops the call, and is raised
    again by `settle` when it has returned.
    """

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self._raised: BaseException | None = None
        self._answers = self._answer(cancelled)
        next(self._answers)
        self.asked: Callable[[object], bool] = self._answers.send
        """For C to call. Python handles signals as it enters a function, before any `try` in it; a generator goes on
        inside its own."""

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.asked(None)

    def _answer(self, cancelled: Callable[[], bool]) -> Generator[bool, object]:
        while True:
            try:
                while True:
                    yield self._raised is not None or cancelled()
            except GeneratorExit:
                return
            except BaseException as error:
                self._raised = error

    def settle(self) -> None:
        """Raise what was kept."""
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised
