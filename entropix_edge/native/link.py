"""Machine code into this process: LLVM's linker, and the form in which code is kept."""

from __future__ import annotations

import ctypes
import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def pack(machine_code: bytes, symbols: Mapping[str, str]) -> bytes:
    """A line of JSON, then an object file.

    Args:
        machine_code: the object file.
        symbols: the functions in it, by the names that `link` gives them.
    """
    header = {"sha256": _digest(machine_code, symbols), "symbols": dict(symbols)}
    return json.dumps(header).encode() + b"\n" + machine_code


def link(code: bytes, functions: Iterable[str]) -> dict[str, int]:
    """The addresses of functions in what `pack` made; none, and nothing is done, where it is damaged."""
    head, _, machine_code = code.partition(b"\n")
    try:
        header = json.loads(head)
        symbols = {name: header["symbols"][name] for name in functions}
        if header["sha256"] != _digest(machine_code, symbols):
            return {}
    except (ValueError, KeyError, TypeError):
        return {}
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(machine_code))
    engine.finalize_object()
    return {name: engine.get_function_address(symbol) for name, symbol in symbols.items()}


class _MethodDef(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_METH_FASTCALL = 0x80
_definitions: list[_MethodDef] = []  # that functions point at


def builtin(name: str, address: int) -> Any:
    """Machine code as a function of Python's own kind, see `signatures.BUILTIN`. It checks no argument."""
    definition = _MethodDef(name.encode(), address, _METH_FASTCALL, None)
    _definitions.append(definition)
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.POINTER(_MethodDef), ctypes.c_void_p, ctypes.c_void_p)
    return make(("PyCFunction_NewEx", ctypes.pythonapi))(definition, None, None)


def _digest(machine_code: bytes, symbols: Mapping[str, str]) -> str:
    """What tells whether machine code came back whole."""
    return hashlib.sha256(repr(sorted(symbols.items())).encode() + machine_code).hexdigest()


@cache
def target_machine() -> Any:
    """LLVM's idea of this machine's processor."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True
    )


@cache
def _engine() -> Any:
    """LLVM's linker for this process."""
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
