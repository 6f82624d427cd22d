"""Addresses as what kernels index and call.

Plain pointers are the plainest of all to LLVM, and the quickest for numba to compile. A function that is called by its
address leaves no name in the machine code, so that it links before the function's library is there.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_word, _double = types.int64, types.float64


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


def _call(result, *parameters):
    """What an intrinsic gives back that calls the function at an address, its first argument, with the others."""

    def generate(context, builder, signature, arguments):
        returned = ir.VoidType() if result == types.void else context.get_value_type(result)
        kind = ir.FunctionType(returned, [context.get_value_type(parameter) for parameter in parameters])
        value = builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value() if result == types.void else value

    return result(_word, *parameters), generate


@intrinsic
def tensor_get(typing_context, address, tensor, destination, offset, n_bytes):
    """Call `ggml_backend_tensor_get` at an address."""
    return _call(types.void, _word, _word, _word, _word)


@intrinsic
def buffer_is_host(typing_context, address, buffer):
    """Call `ggml_backend_buffer_is_host` at an address."""
    return _call(types.uint8, _word)


@intrinsic
def to_float(typing_context, address, source, destination, count):
    """Call a `ggml_to_float_t` at an address."""
    return _call(types.void, _word, _word, _word)


@intrinsic
def cap_scores(typing_context, address, scores, count, scale, cap):
    """Call the kernel `cap_scores` at an address."""
    return _call(types.void, _word, _word, _double, _double)


@intrinsic
def softmax(typing_context, address, scores, bias, count, scale, slope, sink, weights):
    """Call the kernel `softmax` at an address."""
    return _call(types.void, _word, _word, _word, _double, _double, _double, _word)


@intrinsic
def describe_attention(typing_context, address, weights, stride, scores, n_head, n_kv, scale, mean, out):
    """Call the kernel `attention` at an address."""
    return _call(types.void, _word, _word, _word, _word, _word, _double, _word, _word)
