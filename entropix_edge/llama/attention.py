"""The attention tap: what the heads of chosen layers attend to, read while llama.cpp computes it."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import llama_cpp.llama_cpp as llama
import numpy as np

from .. import native
from ..errors import ContextError
from ..native import layout
from ..types import AttentionMetrics
from .library import address_of, ggml
from .tensor import check_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

_PADDING = 256  # llama.cpp rounds the attended cells up to a multiple of this


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
        self.callback = ctypes.cast(native.TAP.address("observe"), llama.ggml_backend_sched_eval_callback)
        self.user_data = ctypes.c_void_p(self._state.ctypes.data)

    def _make_state(self) -> npt.NDArray[np.int64]:
        state = np.zeros(layout.N_SLOTS, np.int64)
        state[layout.LAYER_MASK] = self._mask.ctypes.data
        state[layout.N_LAYER] = self._mask.size
        state[layout.TOKENS] = self._tokens.ctypes.data
        state[layout.SCORES] = self._scores.ctypes.data
        state[layout.SCORES_CAPACITY] = self._scores.size
        state[layout.SCRATCH] = self._scratch.ctypes.data
        state[layout.SCRATCH_CAPACITY] = self._scratch.size
        state[layout.MEAN] = self._mean.ctypes.data
        state[layout.MEAN_CAPACITY] = self._mean.size
        state[layout.RESULTS] = self._results.ctypes.data
        state[layout.TENSOR_GET] = address_of(ggml().ggml_backend_tensor_get)
        state[layout.IS_HOST] = address_of(ggml().ggml_backend_buffer_is_host)
        return state

    def always_copy(self) -> None:
        """Read host memory through the path meant for devices, so that it can be tested without one."""
        self._state[layout.ALWAYS_COPY] = 1

    def expect(self, tokens: Sequence[int]) -> None:
        """Name the places in the next batch whose attention is wanted. None are wanted of no places."""
        for slot, token in enumerate(tokens):
            self._places[slot] = token
        state = self._slots
        state[layout.N_ROWS] = len(tokens)
        state[layout.PENDING] = -1
        state[layout.LAYERS_SEEN] = 0
        state[layout.FAULT] = 0

    def collect(self) -> list[AttentionMetrics]:
        """The metrics of the expected rows, in their order, after the decode.

        Raises:
            ContextError: the model's graph has no such attention.
        """
        fault, seen = self._slots[layout.FAULT], self._slots[layout.LAYERS_SEEN]
        if fault:
            raise ContextError(f"this model's attention cannot be read: {layout.FAULTS[fault]}")
        if seen != len(self.layers):
            raise ContextError(
                f"this model's attention cannot be read: {seen} of {len(self.layers)} wanted layers show it"
            )
        sums, found = self._sums, []
        for slot in range(self._slots[layout.N_ROWS]):
            means = (sums[slot, 0] / seen, sums[slot, 1] / seen, sums[slot, 2] / seen, sums[slot, 3] / seen)
            found.append(AttentionMetrics(*means))
        return found
