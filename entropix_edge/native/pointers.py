"""Addresses as pointers that kernels index: to LLVM the plainest of all, and the quickest for numba to compile."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic


def _pointer_to(kind: Any) -> Any:
    @intrinsic
    def pointer(typing_context, address):
        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return pointer


bytes_at = _pointer_to(types.uint8)
ints_at = _pointer_to(types.int32)
words_at = _pointer_to(types.int64)
floats_at = _pointer_to(types.float32)
doubles_at = _pointer_to(types.float64)
