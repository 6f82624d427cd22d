"""The attention tap: what the heads of chosen layers attend to, read while llama.cpp computes it."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from .. import native
from ..errors import ContextError
from ..native import layout
from ..types import AttentionMetrics
from .bindings import llama
from .library import TypeTraits, address_of, ggml
from .memory import PADDING, TAP_KEYS, TAP_STAGE
from .tensor import check_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ..types import Cell


_new = tuple.__new__  # what a named tuple's own way to be made comes to, without a function of Python's


class AttentionTap:
    """Reduces the attention of wanted rows to metrics, in the scheduler's own thread.

    Args:
        layers: layer numbers to watch; each metric is averaged over them.
        n_layer: layers of the model.
        n_head: most heads of a layer.
        n_ctx: cells of the context.
        rows: most rows wanted of one decode.
        parts: parts of the cache, each a sequence's own; 0 for one pool.

    Raises:
        ContextError: this llama.cpp keeps its tensors in another way.
    """

    def __init__(self, layers: Sequence[int], n_layer: int, n_head: int, n_ctx: int, rows: int, parts: int = 0) -> None:
        flash = check_layout()
        self.layers = tuple(layers)
        n_kv = -(-n_ctx // PADDING) * PADDING
        self._mask = np.zeros(n_layer, np.uint8)
        self._mask[list(layers)] = 1
        self._tokens, self._sequences = np.zeros((2, rows), np.int32)
        self._done = np.zeros(parts, np.int32)
        # memory that is never touched is never taken
        self._scores = np.empty(rows * n_head * n_kv, np.float32)  # of several rows only without flash attention
        self._scratch = np.empty(n_head * n_kv, np.float32)
        self._mean = np.empty(n_kv, np.float32)
        self._cells = np.empty(n_kv, np.int32)
        self._keys = np.empty(TAP_KEYS, np.float32)
        self._stage = np.empty(TAP_STAGE, np.uint8)
        self._results = np.zeros((rows, 4), np.float64)
        self._state = self._make_state(flash)
        # a number through a memoryview touches a fraction of the code that an array's own way does
        self._slots, self._places, self._sums = self._state.data, self._tokens.data, self._results.ravel().data
        self._parts = parts
        self.callback = ctypes.cast(native.TAP.address("observe"), llama.ggml_backend_sched_eval_callback)
        self.user_data = ctypes.c_void_p(self._state.ctypes.data)

    def _make_state(self, flash: int) -> npt.NDArray[np.int64]:
        state = np.zeros(layout.N_SLOTS, np.int64)
        state[layout.N_LAYER] = self._mask.size
        state[layout.N_WATCHED] = len(self.layers)
        state[layout.N_PARTS] = self._done.size
        state[layout.SCORES_CAPACITY] = self._scores.size
        state[layout.SCRATCH_CAPACITY] = self._scratch.size
        state[layout.MEAN_CAPACITY] = self._mean.size
        state[layout.KEYS_CAPACITY] = self._keys.size
        state[layout.STAGE_CAPACITY] = self._stage.size
        arrays: dict[int, npt.NDArray[np.generic]] = {
            layout.LAYER_MASK: self._mask,
            layout.TOKENS: self._tokens,
            layout.SEQUENCES: self._sequences,
            layout.DONE: self._done,
            layout.SCORES: self._scores,
            layout.SCRATCH: self._scratch,
            layout.MEAN: self._mean,
            layout.CELLS: self._cells,
            layout.KEYS: self._keys,
            layout.STAGE: self._stage,
            layout.RESULTS: self._results,
            layout.TO_FLOAT: _conversions(),
        }
        for slot, array in arrays.items():
            state[slot] = array.ctypes.data
        state[layout.N_TYPES] = _conversions().size
        state[layout.FLASH_OP] = flash
        state[layout.TENSOR_GET] = address_of(ggml().ggml_backend_tensor_get)
        state[layout.CAP_SCORES] = native.KERNELS.address("cap_scores")
        state[layout.SOFTMAX] = native.KERNELS.address("softmax")
        state[layout.DESCRIBE] = native.KERNELS.address("attention")
        state[layout.IS_HOST] = address_of(ggml().ggml_backend_buffer_is_host)
        return state

    def always_copy(self) -> None:
        """Read host memory through the path meant for devices, so that it can be tested without one."""
        self._state[layout.ALWAYS_COPY] = 1

    def expect(self, tokens: Sequence[int], batch: Sequence[Cell]) -> None:
        """Name the places in the next batch whose attention is wanted. None are wanted of no places."""
        for slot, token in enumerate(tokens):
            self._places[slot] = token
        state = self._slots
        state[layout.N_ROWS] = len(tokens)
        state[layout.N_BATCH] = len(batch)
        state[layout.PENDING] = -1
        state[layout.LAYERS_SEEN] = 0
        state[layout.ROWS_SEEN] = 0
        state[layout.FAULT] = 0
        if self._parts:
            self._place_in_parts(tokens, batch)

    def _place_in_parts(self, tokens: Sequence[int], batch: Sequence[Cell]) -> None:
        """Name the wanted rows by their sequence and their place among its tokens."""
        self._done[:] = 0
        counts = dict.fromkeys(range(self._done.size), 0)
        places = []
        for cell in batch:
            places.append(counts[cell.sequence])
            counts[cell.sequence] += 1
        for slot, token in enumerate(tokens):
            self._sequences[slot] = batch[token].sequence
            self._places[slot] = places[token]

    def collect(self) -> list[AttentionMetrics]:
        """The metrics of the expected rows, in their order, after the decode.

        Raises:
            ContextError: the model's graph has no such attention.
        """
        fault, rows = self._slots[layout.FAULT], self._slots[layout.N_ROWS]
        if fault:
            raise ContextError(f"this model's attention cannot be read: {layout.FAULTS[fault]}")
        n_layers = len(self.layers)
        if self._slots[layout.ROWS_SEEN] != rows * n_layers:
            seen = self._slots[layout.ROWS_SEEN] // rows
            raise ContextError(f"this model's attention cannot be read: {seen} of {n_layers} wanted layers show it")
        sums, found = self._sums, []
        for start in range(0, 4 * rows, 4):
            means = (
                sums[start] / n_layers,
                sums[start + 1] / n_layers,
                sums[start + 2] / n_layers,
                sums[start + 3] / n_layers,
            )
            found.append(_new(AttentionMetrics, means))
        return found


@cache
def _conversions() -> npt.NDArray[np.int64]:
    """For each of ggml's types, the address of the function that makes float32 of it, or 0."""
    found = np.zeros(llama.GGML_TYPE_COUNT, np.int64)
    for number in range(found.size):
        traits: TypeTraits = ggml().ggml_get_type_traits(number).contents
        found[number] = traits.to_float or 0
    return found
