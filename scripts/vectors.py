"""What the compiler makes of the kernels, on x86-64 and on ARM: `.venv/bin/python scripts/vectors.py`.

Prints, a line each, a kernel, an instruction set, and how many of its instructions work on vectors of floats. None
means that a loop is computed a number at a time: a division that could raise, an index that could be negative.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile

os.environ["NUMBA_OPT"] = "0"  # the code before it was made for this processor
os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()

import llvmlite.binding as llvm
import numpy as np

from entropix_edge.metrics import kernels

_ROW = np.zeros(1000, np.float32)
_HEADS = np.zeros((1, 2, 8), np.float32)
CALLS = {
    "describe_row": (_ROW,),
    "leading": (_ROW, 5),
    "_partition": (_ROW, np.float32(0), np.float32(1)),
    "describe_attention": (_HEADS.reshape(2, 1, 8), 0, _HEADS, 0, 1.0, np.zeros(8, np.float32), np.zeros(4)),
}
TARGETS = {  # triple, processor, an arithmetic instruction on a vector
    "x86-64": ("x86_64-unknown-linux-gnu", "x86-64-v3", r"\bv(?!mov)\w+ps\s.*%ymm"),
    "aarch64": ("aarch64-unknown-linux-gnu", "cortex-a72", r"\bf\w+\s+v\d+\.4s"),
}


def assembly(code: str, triple: str, processor: str) -> str:
    """Machine code for a processor, as numba would have it: optimised as far as LLVM goes."""
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=processor, opt=3)
    module = llvm.parse_assembly(re.sub(r"target (triple|datalayout) = .*", "", code))
    module.triple = triple
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return str(machine.emit_assembly(module))


def main() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    for name, arguments in CALLS.items():
        kernel = getattr(kernels, name)
        kernel(*arguments)
        (code,) = kernel.inspect_llvm().values()
        for target, (triple, processor, pattern) in TARGETS.items():
            print(name, target, len(re.findall(pattern, assembly(code, triple, processor))))
    shutil.rmtree(os.environ["NUMBA_CACHE_DIR"])


if __name__ == "__main__":
    main()
