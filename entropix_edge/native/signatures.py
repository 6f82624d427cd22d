"""The C functions of each unit: name → result, arguments. `kernels.py` and `tap.py` define them.

What every token calls is a function of Python's own kind, `BUILTIN`: ctypes would take as long as the kernel to get
there, after a decode that has emptied the caches.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_word, _float64, _bool = ctypes.c_int64, ctypes.c_double, ctypes.c_bool  # an address is a word

BUILTIN = (_word, _word, _word, _word)
"""Object `self`, the address of the arguments' addresses, how many → the new result: METH_FASTCALL of the C API."""

SIGNATURES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "kernels": {
        "describe": BUILTIN,
        "draw": BUILTIN,
        "cap_scores": (None, _word, _word, _float64, _float64),
        "softmax": (None, _word, _word, _word, _float64, _float64, _float64, _word),
        "attention": (None, _word, _word, _word, _word, _word, _float64, _word, _word),
    },
    "tap": {
        "observe": (_bool, _word, _bool, _word),
    },
}
