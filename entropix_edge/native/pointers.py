"""Addresses as what kernels index and call.

Plain pointers are the plainest of all to LLVM, and the quickest for numba to compile. A function that is called by its
address leaves no name in the machine code, so that it links before the function's library is there.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_word = types.int64


def _pointer_to(kind: Any) -> Any:
    @intrinsic
    def pointer(typing_context, address):
        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return pointer


bytes_at = _pointer_to(types.uint8)
halves_at = _pointer_to(types.uint16)
ints_at = _pointer_to(types.int32)
words_at = _pointer_to(types.int64)
floats_at = _pointer_to(types.float32)
doubles_at = _pointer_to(types.float64)

# Numbers from and to objects of Python's, by its stable C API.
as_word = types.ExternalFunction("PyLong_AsVoidPtr", _word(_word))
as_double = types.ExternalFunction("PyFloat_AsDouble", types.float64(_word))
from_word = types.ExternalFunction("PyLong_FromLongLong", _word(_word))


@intrinsic
def tensor_get(typing_context, address, tensor, destination, offset, n_bytes):
    """Call `ggml_backend_tensor_get` at an address."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [context.get_value_type(_word)] * 4)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(_word, _word, _word, _word, _word), generate


@intrinsic
def buffer_is_host(typing_context, address, buffer):
    """Call `ggml_backend_buffer_is_host` at an address."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(context.get_value_type(types.uint8), [context.get_value_type(_word)])
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])

    return types.uint8(_word, _word), generate


@intrinsic
def to_float(typing_context, address, source, destination, count):
    """Call a `ggml_to_float_t` at an address."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [context.get_value_type(_word)] * 3)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(_word, _word, _word, _word), generate
