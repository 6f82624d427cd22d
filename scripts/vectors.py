"""What the compiler makes of the kernels, on x86-64 and on ARM: `.venv/bin/python scripts/vectors.py`.

Prints, a line each, a unit of kernels, an instruction set, and how many of its instructions work on vectors of floats.
Few mean that a loop is computed a number at a time: a division that could raise, an index that could be negative.
"""

from __future__ import annotations

import os
import re

os.environ["NUMBA_OPT"] = "0"  # the code before it was made for this processor

import llvmlite.binding as llvm

from entropix_edge.native.compiler import code_of, optimised
from entropix_edge.native.signatures import SIGNATURES

TARGETS = {  # triple, processor, an arithmetic instruction on a vector
    "x86-64": ("x86_64-unknown-linux-gnu", "x86-64-v3", r"\bv(?!mov)\w+ps\s.*%ymm"),
    "aarch64": ("aarch64-unknown-linux-gnu", "cortex-a72", r"\bf\w+\s+v\d+\.4s"),
}


def main() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    for unit in SIGNATURES:
        code = code_of(unit)
        for target, (triple, processor, pattern) in TARGETS.items():
            machine = llvm.Target.from_triple(triple).create_target_machine(cpu=processor, opt=3)
            assembly = machine.emit_assembly(optimised(code, machine))
            print(unit, target, len(re.findall(pattern, assembly)))


if __name__ == "__main__":
    main()
