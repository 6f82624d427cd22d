"""The check that ggml keeps of a tensor what the attention tap reads where the tap looks for it."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Literal

from ..errors import ContextError, Hint
from ..native.layout import BUFFER, DATA, NAME, NB, NE, OP_PARAMS, TYPE, VIEW_SRC
from .library import InitParams, ggml, ggml_devices

_F32 = 0
_SHAPE = (6, 5, 3)
_SCALE = 0.625
_OFF: tuple[str, Literal["set"], str] = ("attention", "set", "off")


@cache
def check_layout() -> None:
    """Compare the tap's offsets with tensors made through ggml's public functions.

    Raises:
        ContextError: the library keeps its tensors in another way, so attention cannot be read.
    """
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        raise ContextError("attention cannot be read on a 32-bit machine", hint=Hint("use {}", *_OFF))
    library = ggml()
    context = library.ggml_init(InitParams(1 << 16, None, True))
    if not context:
        raise ContextError("attention cannot be read: ggml gave no memory for the layout check")
    buffer = None
    try:
        weights = library.ggml_new_tensor_3d(context, _F32, *_SHAPE)
        library.ggml_set_name(weights, b"kq-7")
        softmax = library.ggml_soft_max_ext(context, weights, None, _SCALE, 0.0)
        view = library.ggml_view_tensor(context, weights)
        cpu = ggml_devices().ggml_backend_dev_get(ggml_devices().ggml_backend_dev_count() - 1)
        buffer_type = library.ggml_backend_dev_buffer_type(cpu)
        buffer = library.ggml_backend_alloc_ctx_tensors_from_buft(context, buffer_type)
        width, height, depth = _SHAPE
        expected = {
            "type": (_int32(weights, TYPE), _F32),
            "buffer": (_word(weights, BUFFER), buffer),
            "ne": ([_word(weights, NE + 8 * i) for i in range(4)], [*_SHAPE, 1]),
            "nb": (
                [_word(weights, NB + 8 * i) for i in range(4)],
                [4, 4 * width, 4 * width * height, 4 * width * height * depth],
            ),
            "op_params": (ctypes.c_float.from_address(softmax + OP_PARAMS).value, _SCALE),
            "view_src": (_word(view, VIEW_SRC), weights),
            "data": (_word(weights, DATA), library.ggml_get_data(weights)),
            "name": (weights + NAME, library.ggml_get_name(weights)),
        }
    finally:
        if buffer:
            library.ggml_backend_buffer_free(buffer)
        library.ggml_free(context)
    moved = [name for name, (found, wanted) in expected.items() if found != wanted]
    if moved:
        raise ContextError(
            f"attention cannot be read, as this llama.cpp keeps {', '.join(moved)} of a tensor elsewhere",
            hint=Hint("use {}, or the llama-cpp-python version that entropix-edge names", *_OFF),
        )


def _word(address: int, offset: int) -> int:
    return ctypes.c_uint64.from_address(address + offset).value


def _int32(address: int, offset: int) -> int:
    return ctypes.c_int32.from_address(address + offset).value
