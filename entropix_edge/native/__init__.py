"""Machine code: kernels that numba compiles once on a machine, loaded without numba from then on.

Importing numba and reading its own cache takes 0.3 s and 38 MiB, and longer on a small machine; all that a reply needs
of it is the code that it made. So numba runs in processes of their own, what they made is kept in a file, and llvmlite
links it into this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy.typing as npt

logger = logging.getLogger("entropix_edge")

_word, _float64, _bool = ctypes.c_int64, ctypes.c_double, ctypes.c_bool  # an address is a word

# The C functions of each unit, name → result, arguments. `kernels.py` and `tap.py` define them.
SIGNATURES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "kernels": {
        "describe": (None, _word, _word, _word),
        "draw": (_word, _word, _word, _float64, _float64, _word, _float64, _float64, _float64, _word),
    },
    "tap": {
        "observe": (_bool, _word, _bool, _word),
        "attention": (None, _word, _word, _word, _word, _word, _float64, _word, _word),
    },
}


# ggml's functions that a unit calls. `llama` says where they are, before the unit is linked.
EXTERNALS: Mapping[str, tuple[str, ...]] = {
    "kernels": (),
    "tap": ("ggml_backend_tensor_get", "ggml_backend_buffer_is_host"),
}


class Unit:
    """The functions of one compilation unit, as attributes; compiled or loaded when the first is used.

    Args:
        name: a key of `SIGNATURES`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._addresses: dict[str, int] = {}

    def address(self, function: str) -> int:
        """Where a function begins."""
        if not self._addresses:
            prepare([self])
        return self._addresses[function]

    def __getattr__(self, function: str) -> Any:
        signature = SIGNATURES[self.name].get(function)
        if signature is None:
            raise AttributeError(function)
        # the interpreter's lock stays held: calls are short, and giving it away takes longer than some of them
        called = ctypes.PYFUNCTYPE(*signature)(self.address(function))
        setattr(self, function, called)
        return called

    def link(self, code: bytes) -> bool:
        """Take up machine code as `compiler.compile_unit` packs it. False, and nothing done, where it is damaged.

        Raises:
            RuntimeError: what it calls is not there yet.
        """
        absent = [name for name in EXTERNALS[self.name] if not llvm.address_of_symbol(name)]
        if absent:  # LLVM would call nothing, or end the process
            raise RuntimeError(f"{self.name} calls {', '.join(absent)}: import entropix_edge.llama first")
        head, _, machine_code = code.partition(b"\n")
        try:
            header = json.loads(head)
            symbols = {name: header["symbols"][name] for name in SIGNATURES[self.name]}
            if header["sha256"] != digest(machine_code, symbols):
                return False
        except (ValueError, KeyError, TypeError):
            return False
        engine = _engine()
        engine.add_object_file(llvm.ObjectFileRef.from_data(machine_code))
        engine.finalize_object()
        self._addresses = {name: engine.get_function_address(symbol) for name, symbol in symbols.items()}
        return True

    @property
    def is_linked(self) -> bool:
        """Whether its functions can be called."""
        return bool(self._addresses)


KERNELS = Unit("kernels")
TAP = Unit("tap")
_lock = threading.Lock()


def prepare(units: Iterable[Unit]) -> None:
    """Link units into this process: from the cache, else compiled at the same time, each by a process of its own."""
    with _lock, contextlib.ExitStack() as stack:
        missing = [unit for unit in units if not unit.is_linked and not _link_cached(unit)]
        compilers = [stack.enter_context(_compiling(unit)) for unit in missing]
        for unit, process in zip(missing, compilers, strict=True):
            code, complaint = process.communicate() if process else (b"", b"no process could be started")
            if not unit.link(code):
                logger.debug("%s is compiled in this process: %s", unit.name, complaint.decode("utf-8", "replace"))
                from .compiler import compile_unit

                code = compile_unit(unit.name)
                if not unit.link(code):
                    raise RuntimeError(f"{unit.name}: what was compiled cannot be linked")
            _keep(unit, code)


def digest(machine_code: bytes, symbols: Mapping[str, str]) -> str:
    """What tells whether machine code came back whole."""
    return hashlib.sha256(repr(sorted(symbols.items())).encode() + machine_code).hexdigest()


def add_symbol(name: str, address: int) -> None:
    """Say where one of the `EXTERNALS` is."""
    llvm.add_symbol(name, address)


# --- the cache ------------------------------------------------------------------------------------------


def _folders() -> Iterator[Path]:
    """Where machine code may be kept: where numba's users say, beside the sources, in the user's cache."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(chosen)
        return
    yield Path(__file__).parent / "__pycache__"
    with contextlib.suppress(RuntimeError):  # a user without a home
        cache_home = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
        yield Path(os.environ.get("XDG_CACHE_HOME") or cache_home) / "entropix-edge"


@cache
def _key() -> str:
    """What machine code depends on: its sources, the compiler, the processor."""
    facts = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        facts.update(source.read_bytes())
    processor = (llvm.get_default_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())
    facts.update(repr((llvmlite.__version__, *processor)).encode())
    return facts.hexdigest()[:16]


def _link_cached(unit: Unit) -> bool:
    for folder in _folders():
        try:
            code = (folder / f"{unit.name}-{_key()}.o").read_bytes()
        except OSError:
            continue
        if unit.link(code):
            return True
    return False


def _keep(unit: Unit, code: bytes) -> None:
    """Keep machine code in the first folder that can be written; nowhere, where none can.

    Whoever may read the folder may read it: a system's installation is compiled once, for all its users.
    """
    for folder in _folders():
        partial = folder / f"{unit.name}-{os.urandom(8).hex()}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(code)
            partial.replace(folder / f"{unit.name}-{_key()}.o")
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        else:
            return


# --- compiling and linking ------------------------------------------------------------------------------

# One optimisation of the whole at the end takes less time than one of every function.
_NUMBA = {"NUMBA_OPT": "0"}


@contextlib.contextmanager
def _compiling(unit: Unit) -> Iterator[subprocess.Popen[bytes] | None]:
    """A Python that compiles a unit and writes it to its output; None where it cannot be started."""
    program = f"from {__name__}.compiler import compile_unit, write; write(compile_unit({unit.name!r}))"
    if not sys.executable:
        yield None
        return
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", program],  # what lies in the working folder is none of our modules
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | _NUMBA,
        )
    except (OSError, ValueError):
        yield None
        return
    with process:
        try:
            yield process
        finally:
            process.kill()


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


# --- what kernels work on -------------------------------------------------------------------------------


class Scratch:
    """Memory that the kernels work in, and where the row is that they look at.

    Args:
        n_vocab: logits of the longest row.

    Attributes:
        numbers: float64: 8 results, a count among them int64; n_vocab weights; int64 indices; values and maxima.
        address: of the first.
        results: the first 8.
    """

    __slots__ = ("_row", "_row_address", "address", "n_vocab", "numbers", "results")

    def __init__(self, n_vocab: int) -> None:
        self.n_vocab = n_vocab
        self.numbers: npt.NDArray[np.float64] = np.empty(8 + 3 * n_vocab + 16, np.float64)
        self.address: int = self.numbers.ctypes.data
        self.results: memoryview = self.numbers[:8].data
        self._row: npt.NDArray[np.float32] | None = None
        self._row_address = 0

    def survivors(self, n_vocab: int, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Copies of the first so many indices and weights that the last draw left, for a row of `n_vocab` logits."""
        weights, indices = self.numbers[8 : 8 + 2 * n_vocab].reshape(2, n_vocab)
        return indices.view(np.int64)[:count].copy(), weights[:count].copy()

    def address_of(self, logits: npt.NDArray[np.float32]) -> int:
        """Where a row begins. Asking numpy costs more than what is done there; mostly it is the row of last time.

        Raises:
            TypeError: it is not a contiguous row of float32, or empty.
        """
        if logits is not self._row:
            if logits.dtype != np.float32 or logits.strides != (4,) or not logits.size:
                raise TypeError(
                    "logits are a contiguous row of float32, "
                    f"not {logits.dtype} of shape {logits.shape} with strides {logits.strides}"
                )
            self._row_address = logits.ctypes.data
            self._row = logits
        return self._row_address


_own = threading.local()


def scratch(n_vocab: int) -> Scratch:
    """This thread's scratch, large enough for rows of so many logits. The next call of a kernel writes over it."""
    found: Scratch | None = getattr(_own, "scratch", None)
    if found is None or found.n_vocab < n_vocab:
        found = _own.scratch = Scratch(n_vocab)
    return found
