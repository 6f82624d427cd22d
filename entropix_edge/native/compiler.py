"""What makes a unit's machine code: it imports numba, and runs in a process of its own."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from functools import cache
from importlib import import_module
from typing import Any

import llvmlite.binding as llvm
from numba import cfunc, config, types
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen

from .link import pack, target_machine
from .signatures import SIGNATURES

_TYPES = {
    None: types.void,
    ctypes.c_int64: types.int64,
    ctypes.c_double: types.float64,
    ctypes.c_bool: types.boolean,
}

# All that the code may call by name: C's own mathematics and memory functions, and Python's for numbers as objects.
_EXTERNAL = re.compile(
    r"(llvm\..*|mem(set|cpy|move)|(exp|log|floor)f?|PyLong_(AsVoidPtr|FromLongLong)|PyFloat_AsDouble)$"
)

# What numba's runtime does where a function raised, or where memory that was allocated is freed.
_NEVER_CALLED = re.compile(r"(Py\w+|numba_\w+|NRT_(Free|MemInfo_call_dtor))$")


def make_no_machine_code() -> None:
    """From here on numba stops at LLVM's language, where `code_of` takes it: for a process that does nothing else.

    Else it makes machine code of every function that another calls, and nobody runs it.
    """
    JITCodeLibrary._finalize_specific = lambda _library: None
    JITCodeLibrary.get_pointer_to_function = lambda library, _name: library._ensure_finalized() or 0
    JITCPUCodegen.set_env = lambda *_: None
    JITCodeLibrary._optimize_functions = JITCodeLibrary._optimize_final_module = lambda *_: None  # `optimised` does


@cache
def functions_of(unit: str) -> dict[str, Any]:
    """The C functions of a unit, compiled."""
    disabled, config.DISABLE_JIT = config.DISABLE_JIT, 0  # who debugs code of their own with it does not mean ours
    try:
        module = import_module(f".{unit}", __package__)
        compiled = {}
        for name, (result, *arguments) in SIGNATURES[unit].items():
            signature = _TYPES[result](*(_TYPES[argument] for argument in arguments))
            compiled[name] = cfunc(signature, error_model="numpy")(getattr(module, name))
    finally:
        config.DISABLE_JIT = disabled
    return compiled


def code_of(unit: str) -> str:
    """A unit's functions in LLVM's language, with nothing in them that is there only where numba is.

    Raises:
        RuntimeError: a function allocates, or calls what it must not.
    """
    module = llvm.parse_assembly("declare void @llvm.trap()")
    for function in functions_of(unit).values():
        module.link_in(llvm.parse_assembly(function.inspect_llvm()))
    code = str(module)
    called = [item.name for item in module.functions if item.is_declaration and not _EXTERNAL.match(item.name)]
    for name in set(called):
        if not _NEVER_CALLED.match(name):
            raise RuntimeError(f"{unit} calls {name}: a kernel allocates nothing and calls only C by name")
        trap = r"define internal \1 {\n  call void @llvm.trap()\n  unreachable\n}"
        code = re.sub(rf"^declare (.*@{name}\(.*)$", trap, code, flags=re.MULTILINE)
    return code


def optimised(code: str, machine: Any) -> Any:
    """A module of code, as fast as LLVM makes it on a machine."""
    module = llvm.parse_assembly(re.sub(r"target (triple|datalayout) = .*", "", code))
    module.triple = machine.triple
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = options.loop_unrolling = True
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return module


def compile_unit(unit: str) -> bytes:
    """A unit's machine code, for this processor, as `link.pack` packs it.

    Raises:
        RuntimeError: a function allocates, or calls what it must not.
    """
    machine_code = target_machine().emit_object(optimised(code_of(unit), target_machine()))
    symbols = {name: function.native_name for name, function in functions_of(unit).items()}
    return pack(bytes(machine_code), symbols)


def write(code: bytes) -> None:
    """Hand machine code to the process that asked for it."""
    with os.fdopen(sys.stdout.fileno(), "wb", closefd=False) as file:
        file.write(code)
