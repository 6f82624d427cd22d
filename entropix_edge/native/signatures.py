"""The C functions of each unit: name → result, arguments. `kernels.py` and `tap.py` define them."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_word, _float64, _bool = ctypes.c_int64, ctypes.c_double, ctypes.c_bool  # an address is a word

SIGNATURES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "kernels": {
        "describe": (_word, _word, _word, _word),
        "draw": (_word, _word, _word, _float64, _float64, _word, _float64, _float64, _float64, _word),
    },
    "tap": {
        "observe": (_bool, _word, _bool, _word),
        "attention": (None, _word, _word, _word, _word, _word, _float64, _word, _word),
    },
}
