"""The check that ggml keeps of a tensor what the attention tap reads where the tap looks for it."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ContextError, Hint
from ..native.layout import BUFFER, DATA, F16, F32, NAME, NB, NE, OP, OP_PARAMS, SRC, TYPE, VIEW_OFFSET, VIEW_SRC
from .library import InitParams, ggml, ggml_devices

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTH, _HEIGHT, _DEPTH = _SHAPE = (6, 5, 3)
_PARAMS = (0.625, 0.0, 2.5)  # scale, ALiBi's bias, cap
_VIEW_OFFSET = 24
_OFF: tuple[str, Literal["set"], str] = ("attention", "set", "off")


@cache
def check_layout() -> int:
    """Compare the tap's offsets with tensors made through ggml's public functions.

    Returns:
        The number of the operation that is flash attention.

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
        keys = library.ggml_new_tensor_3d(context, F32, *_SHAPE)
        library.ggml_set_name(keys, b"kq-7")
        mask = library.ggml_new_tensor_3d(context, F16, _HEIGHT, _HEIGHT, 1)
        node = library.ggml_flash_attn_ext(context, keys, keys, keys, mask, *_PARAMS)
        view = library.ggml_view_1d(context, keys, _WIDTH, _VIEW_OFFSET)
        cpu = ggml_devices().ggml_backend_dev_get(ggml_devices().ggml_backend_dev_count() - 1)
        buffer_type = library.ggml_backend_dev_buffer_type(cpu)
        buffer = library.ggml_backend_alloc_ctx_tensors_from_buft(context, buffer_type)
        moved = list(dict.fromkeys(_moved(keys, mask, node, view, buffer)))
        number = _int32(node, OP)
    finally:
        if buffer:
            library.ggml_backend_buffer_free(buffer)
        library.ggml_free(context)
    if moved:
        raise ContextError(
            f"attention cannot be read, as this llama.cpp keeps {', '.join(moved)} of a tensor elsewhere",
            hint=Hint("use {}, or the llama-cpp-python version that entropix-edge names", *_OFF),
        )
    return number


def _moved(keys: int, mask: int, node: int, view: int, buffer: int) -> Iterator[str]:
    """What of a tensor is not where the tap looks for it.

    Args:
        keys: a tensor of `_SHAPE`.
        mask: a tensor of float16.
        node: a flash attention of both.
        view: into the first, from `_VIEW_OFFSET` on.
        buffer: in which they lie.
    """
    strides = [4, 4 * _WIDTH, 4 * _WIDTH * _HEIGHT, 4 * _WIDTH * _HEIGHT * _DEPTH]
    expected: list[tuple[str, Any, Any]] = [
        ("type", (_int32(keys, TYPE), _int32(mask, TYPE)), (F32, F16)),
        ("buffer", _word(keys, BUFFER), buffer),
        ("ne", [_word(keys, NE + 8 * i) for i in range(4)], [*_SHAPE, 1]),
        ("nb", [_word(keys, NB + 8 * i) for i in range(4)], strides),
        ("op", _flash_attention(node), b"FLASH_ATTN_EXT"),
        ("op_params", tuple(ctypes.c_float.from_address(node + OP_PARAMS + 4 * i).value for i in range(3)), _PARAMS),
        ("src", [_word(node, SRC + 8 * i) for i in range(5)], [keys, keys, keys, mask, 0]),
        ("view_src", _word(view, VIEW_SRC), keys),
        ("view_offs", _word(view, VIEW_OFFSET), _VIEW_OFFSET),
        ("data", _word(keys, DATA), ggml().ggml_get_data(keys)),
        ("name", keys + NAME, ggml().ggml_get_name(keys)),
    ]
    return (name for name, found, wanted in expected if found != wanted)


def _flash_attention(node: int) -> bytes | None:
    """What ggml calls the operation that the tap reads of a node; None where it reads another than ggml does."""
    described: bytes = ggml().ggml_op_desc(node)
    number = _int32(node, OP)
    known = 0 <= number < 256  # ggml looks the name up unchecked
    return described if known and ggml().ggml_op_name(number) == described else None


def _word(address: int, offset: int) -> int:
    return ctypes.c_uint64.from_address(address + offset).value


def _int32(address: int, offset: int) -> int:
    return ctypes.c_int32.from_address(address + offset).value
