"""The attention tap: what the heads of chosen layers attend to, read while llama.cpp computes it."""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
from typing import TYPE_CHECKING

import llama_cpp.llama_cpp as llama
import numpy as np

from ..errors import ContextError
from ..types import AttentionMetrics
from . import tap
from .tensor import check_layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

_PADDING = 256  # llama.cpp rounds the attended cells up to a multiple of this


def prepare_tap() -> None:
    """Compile the callback, or read it from numba's cache."""
    tap.callback()


@contextlib.contextmanager
def preparing_tap() -> Iterator[None]:
    """Prepare the callback while something else is done: where it must be compiled, in a process beside this one.

    numba compiles one function at a time in a process, and this one takes as long as all others together.
    """
    helper = None if tap.is_compiled() else _compile_elsewhere()
    try:
        yield
        if helper:
            helper.wait()
    finally:
        if helper:
            helper.kill()
            helper.wait()
    prepare_tap()


def _compile_elsewhere() -> subprocess.Popen[bytes] | None:
    """Another Python that fills numba's cache; None where it cannot be started."""
    if not sys.executable:
        return None
    program = f"from {__name__} import prepare_tap; prepare_tap()"
    with contextlib.suppress(OSError):
        return subprocess.Popen(
            [sys.executable, "-P", "-c", program],  # what lies in the working folder is none of our modules
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return None


class AttentionTap:
    """Reduces the attention of wanted rows to metrics, in the scheduler's own thread.

    Args:
        layers: layer numbers to watch; each metric is averaged over them.
        n_layer: layers of the model.
        n_head: most heads of a layer.
        n_ctx: cells of the context.
        rows: most rows wanted of one decode.

    Raises:
        ContextError: this llama.cpp keeps its tensors in another way.
    """

    def __init__(self, layers: Sequence[int], n_layer: int, n_head: int, n_ctx: int, rows: int) -> None:
        check_layout()
        self.layers = tuple(layers)
        n_kv = -(-n_ctx // _PADDING) * _PADDING
        self._mask = np.zeros(n_layer, np.uint8)
        self._mask[list(layers)] = 1
        self._tokens = np.zeros(rows, np.int32)
        self._scores = np.empty(rows * n_head * n_kv, np.float32)
        self._scratch = np.empty(n_head * n_kv, np.float32)
        self._mean = np.empty(n_kv, np.float32)
        self._results = np.zeros((rows, 4), np.float64)
        self._state = self._make_state()
        # a number through a memoryview touches a fraction of the code that an array's own way does
        self._slots, self._places, self._sums = self._state.data, self._tokens.data, self._results.data
        self._observe = tap.callback()
        self.callback = ctypes.cast(self._observe.address, llama.ggml_backend_sched_eval_callback)
        self.user_data = ctypes.c_void_p(self._state.ctypes.data)

    def _make_state(self) -> npt.NDArray[np.int64]:
        state = np.zeros(tap.N_SLOTS, np.int64)
        state[tap.LAYER_MASK] = self._mask.ctypes.data
        state[tap.N_LAYER] = self._mask.size
        state[tap.TOKENS] = self._tokens.ctypes.data
        state[tap.SCORES] = self._scores.ctypes.data
        state[tap.SCORES_CAPACITY] = self._scores.size
        state[tap.SCRATCH] = self._scratch.ctypes.data
        state[tap.SCRATCH_CAPACITY] = self._scratch.size
        state[tap.MEAN] = self._mean.ctypes.data
        state[tap.MEAN_CAPACITY] = self._mean.size
        state[tap.RESULTS] = self._results.ctypes.data
        return state

    def always_copy(self) -> None:
        """Read host memory through the path meant for devices, so that it can be tested without one."""
        self._state[tap.ALWAYS_COPY] = 1

    def expect(self, tokens: Sequence[int]) -> None:
        """Name the places in the next batch whose attention is wanted. None are wanted of no places."""
        for slot, token in enumerate(tokens):
            self._places[slot] = token
        state = self._slots
        state[tap.N_ROWS] = len(tokens)
        state[tap.PENDING] = -1
        state[tap.LAYERS_SEEN] = 0
        state[tap.FAULT] = 0

    def collect(self) -> list[AttentionMetrics]:
        """The metrics of the expected rows, in their order, after the decode.

        Raises:
            ContextError: the model's graph has no such attention.
        """
        fault, seen = self._slots[tap.FAULT], self._slots[tap.LAYERS_SEEN]
        if fault:
            raise ContextError(f"this model's attention cannot be read: {tap.FAULTS[fault]}")
        if seen != len(self.layers):
            raise ContextError(
                f"this model's attention cannot be read: {seen} of {len(self.layers)} wanted layers show it"
            )
        sums, found = self._sums, []
        for slot in range(self._slots[tap.N_ROWS]):
            means = (sums[slot, 0] / seen, sums[slot, 1] / seen, sums[slot, 2] / seen, sums[slot, 3] / seen)
            found.append(AttentionMetrics(*means))
        return found
