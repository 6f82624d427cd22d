"""Elementary functions in forms that the compiler can vectorise, and what every kernel is compiled with.

`fastmath=True` would let the compiler assume that no number is infinite; `FLAGS` keep NaN and −inf meaningful.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FLAGS = {"contract", "reassoc", "nsz", "arcp", "afn"}
# No division that raises. What Python would call them by is not made: it takes a fifth of the time to compile.
PLAIN = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "no_rewrites": True}

BLOCK = 512  # terms summed in float32 before a double takes over: relative error near 1e-7
FLOOR = np.float32(-87.0)  # e^x of less leaves float32's normal range, and counts as nothing
TINY = np.float32(1.2e-38)

_LOG2E = np.float32(1.4426950408889634)
_HALF_TO_FLOAT = np.float32(2.0**112)  # between the two formats' exponents


@njit(fastmath=FLAGS, **PLAIN)
def exp(x):
    """e^x for float32 −87 ≤ x ≤ 0 to 2e-7: 2^n by exponent bits, 2^f by a fitted polynomial."""
    t = x * _LOG2E
    n = np.floor(t + np.float32(0.5))
    f = t - n
    p = np.float32(1.339086336507e-03)
    p = p * f + np.float32(9.676031918356e-03)
    p = p * f + np.float32(5.550357114219e-02)
    p = p * f + np.float32(2.402210748531e-01)
    p = p * f + np.float32(6.931471880262e-01)
    p = p * f + np.float32(1.0)
    bits = (np.int32(n) + np.int32(127)) << np.int32(23)
    return p * np.int32(bits).view(np.float32)


@njit(fastmath=FLAGS, **PLAIN)
def log2(x):
    """log2 of a positive normal float32 to 1e-7: exponent bits, and 2·artanh(z)/ln 2 of the rest."""
    bits = np.float32(x).view(np.int32)
    shifted = bits - np.int32(0x3F3504F3)  # so that the mantissa lies in [√½, √2)
    exponent = shifted >> np.int32(23)
    mantissa = np.int32(bits - (exponent << np.int32(23))).view(np.float32)
    z = (mantissa - np.float32(1.0)) / (mantissa + np.float32(1.0))
    z2 = z * z
    series = np.float32(1.0) + z2 * (np.float32(1 / 3) + z2 * (np.float32(1 / 5) + z2 * np.float32(1 / 7)))
    return np.float32(exponent) + np.float32(2.8853900817779268) * z * series


@njit(fastmath=FLAGS, **PLAIN)
def half(bits):
    """The float32 of a finite float16's bits: no instruction for it is on every processor, and this is as quick."""
    wide = np.uint32(bits)
    size = np.uint32((wide & np.uint32(0x7FFF)) << np.uint32(13)).view(np.float32) * _HALF_TO_FLOAT
    sign = np.uint32((wide & np.uint32(0x8000)) << np.uint32(16))
    return np.uint32(np.float32(size).view(np.uint32) | sign).view(np.float32)
