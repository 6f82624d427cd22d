"""An open context: the KV cache, the batch, the decode, and what it leaves behind."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import time
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import ContextError, Hint
from ..types import Row
from .attention import AttentionTap
from .bindings import llama
from .library import Watch, fresh_errors, llama_functions
from .lifetime import Handle, forget_handles, has_computed, watch_for_forks
from .machine import available_memory, default_threads
from .memory import Shape, check_cache_types, plan, predict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from ..engine_config import CacheType
    from ..types import AttentionMetrics, Cell, Logits
    from .model import Model

logger = logging.getLogger("entropix_edge")

_FLASH = {
    "auto": llama.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
_ABORTED = 2
_new = tuple.__new__  # what a named tuple's own way to be made comes to, without a function of Python's
_NO_ABORT = llama.ggml_abort_callback()  # a null pointer


def _flash_type(wanted: str, shape: Shape) -> int:
    """What llama.cpp is asked for: what somebody said, else what was planned."""
    if wanted == "auto" and not shape.flash_attention:
        reason = "it would round an f32 cache" if shape.pooled else "single tokens of many parts are faster without it"
        logger.debug("flash attention is off: %s", reason)
    return int(_FLASH[wanted if shape.flash_attention else "off"])


class Batch:
    """llama.cpp's batch over arrays of our own, filled anew for each decode.

    Args:
        size: most tokens.

    Attributes:
        struct: what llama.cpp takes.
    """

    def __init__(self, size: int) -> None:
        tokens, positions, sequences, counts = np.ones((4, size), np.int32)
        rows = np.zeros(size, np.int8)
        addresses = sequences.ctypes.data + sequences.itemsize * np.arange(size, dtype=np.uintp)
        self.struct = llama.llama_batch(
            token=tokens.ctypes.data_as(ctypes.POINTER(llama.llama_token)),
            pos=positions.ctypes.data_as(ctypes.POINTER(llama.llama_pos)),
            n_seq_id=counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=addresses.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(llama.llama_seq_id))),
            logits=rows.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )
        self._constant = counts, addresses  # the struct points at them
        # setting a number through a memoryview touches a fraction of the code that an array's own way does
        self._tokens, self._positions, self._sequences, self._rows = (
            tokens.data,
            positions.data,
            sequences.data,
            rows.data,
        )

    def fill(self, cells: Sequence[Cell]) -> list[int]:
        """Make `struct` hold these tokens; the places of those whose rows are wanted."""
        wanted = []
        for index, (token, position, sequence, is_wanted) in enumerate(cells):
            self._tokens[index] = token
            self._positions[index] = position
            self._sequences[index] = sequence
            self._rows[index] = is_wanted
            if is_wanted:
                wanted.append(index)
        self.struct.n_tokens = len(cells)
        return wanted


class Context:
    """A KV cache over a model, for a number of sequences. A context manager.

    Args:
        model: stays open as long as the context.
        n_ctx: cells of all sequences together.
        batch_size: most tokens a decode; None for the default.
        ubatch_size: most tokens that are computed at once, and so a decode; None for no limit of its own.
        sequences: how many sequences may live at once.
        threads: for single tokens; None for the machine's cores.
        threads_batch: for prompts; None for the same.
        flash_attention: "auto", "on" or "off".
        layers: layers whose attention is watched.
        cache_types: of the cache's keys and values. Flash attention would round what it reads of f32.
        pooled: all sequences share one pool of cells, and a fork copies nothing. Else each has a part of its own:
            a fork copies it, and no sequence's tokens are computed beside those of the others, only to be masked.
        cancelled: asked before each decode and during each long one; True stops it.

    Attributes:
        swaps: whether cached prefixes may be swapped out, see `decoding.protocols.Decoder`.
        room: cells that one sequence may hold.

    Raises:
        ContextError: no memory for it, or attention cannot be read. Every method: it is closed, or belongs to the
            process that this one was forked from.
    """

    handle: Any = Handle()
    _memory: Any = Handle()

    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int,
        batch_size: int | None = None,
        ubatch_size: int | None = None,
        sequences: int = 1,
        threads: int | None = None,
        threads_batch: int | None = None,
        flash_attention: str = "auto",
        layers: Sequence[int] = (),
        cache_types: tuple[CacheType, CacheType] = ("f16", "f16"),
        pooled: bool = True,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.model = model
        self.sequences = sequences
        shape = plan(
            n_ctx,
            model.n_head,
            batch_size=batch_size,
            ubatch_size=ubatch_size,
            sequences=sequences,
            flash_attention=flash_attention,
            watched=bool(layers),
            cache_types=cache_types,
            pooled=pooled,
        )
        self.n_batch = shape.n_batch
        check_cache_types(model.header, cache_types)
        self._check_memory(shape)
        self._watch = Watch(cancelled)
        self._abort = llama.ggml_abort_callback(self._watch.asked)
        self.threads = threads or default_threads()
        params = self._params(shape, threads_batch)
        params.flash_attn_type = _flash_type(flash_attention, shape)
        self.tap = self._watch_layers(layers, shape, params) if layers else None
        self._tap = self.tap  # llama.cpp holds its address until the end
        self._stack = contextlib.ExitStack()
        watch_for_forks(self)
        self._errors = errors = fresh_errors()
        handle = llama.llama_init_from_model(model.handle, params)
        if not handle:
            reason = "; ".join(list(errors)[:2]) or "llama.cpp gives no reason"
            raise ContextError(f"a context of {n_ctx} tokens could not be made: {reason}")
        self.handle = handle
        self._stack.callback(llama.llama_free, handle)
        model.contexts.add(self)
        model.loras.apply(handle)
        self._stoppable = False
        self.n_ctx: int = n_ctx  # llama.cpp rounds up; what was asked for is the limit
        self.swaps = pooled and not model.gpu_layers  # a device's memory is taken whole at once, not as it is touched
        self.room: int = n_ctx if pooled else n_ctx // sequences
        self.decode_seconds = 0.0  # spent in llama.cpp so far
        self._memory = llama.llama_get_memory(self.handle)
        self._get_logits = llama_functions().llama_get_logits_ith
        self._batch = Batch(self.n_batch)
        self._row_type = ctypes.c_float * model.n_vocab
        self._rows: dict[int, Logits] = {}  # by address: llama.cpp seldom moves its buffer

    def _check_memory(self, shape: Shape) -> None:
        """Refuse what cannot fit: the system might grant it, and end the process when it is used."""
        if self.model.force:
            return
        needed, available = predict(self.model.header, shape).context, available_memory()
        if available is not None and needed > available:
            raise ContextError(
                f"a context of {shape.n_ctx} tokens needs about {needed / 2**30:.1f} GiB "
                f"and {available / 2**30:.1f} GiB are free",
                hint=Hint("lower {}", "ctx_size", "lower"),
            )

    def _params(self, shape: Shape, threads_batch: int | None) -> Any:
        """What llama.cpp is asked for."""
        params = llama.llama_context_default_params()
        params.n_ctx = shape.n_ctx
        params.n_batch = params.n_ubatch = shape.n_batch
        params.n_seq_max = params.n_outputs_max = shape.sequences
        params.n_threads = self.threads
        params.n_threads_batch = threads_batch or self.threads
        params.kv_unified = shape.pooled
        params.type_k, params.type_v = shape.type_k, shape.type_v
        params.no_perf = True
        return params

    def _watch_layers(self, layers: Sequence[int], shape: Shape, params: Any) -> AttentionTap:
        """A tap that llama.cpp will call."""
        model, parts = self.model, 0 if shape.pooled else shape.sequences
        tap = AttentionTap(layers, model.n_layer, model.n_head, shape.n_ctx, shape.sequences, parts)
        params.cb_eval, params.cb_eval_user_data = tap.callback, tap.user_data
        return tap

    # --- decoding -------------------------------------------------------------------------------

    def decode(self, cells: Sequence[Cell]) -> list[Row] | None:
        """Decode up to `n_batch` tokens; the rows of the wanted ones, in order, valid until the next call.

        Returns None where `cancelled` forbade or stopped it; the sequences are then as they were before.

        Raises:
            ContextError: the cache is full, or llama.cpp failed.
        """
        if not 0 < len(cells) <= self.n_batch:
            raise ContextError(f"{len(cells)} tokens do not fit a batch of {self.n_batch}")
        if self._watch.asked(None):  # llama.cpp asks only during long decodes
            self._watch.settle()
            return None
        wanted = self._batch.fill(cells)
        if len(wanted) > self.sequences:
            raise ContextError(
                f"{len(wanted)} rows are wanted: a context of {self.sequences} sequences gives at most as many"
            )
        if (len(cells) > 1) != self._stoppable:
            self._let_stop(len(cells) > 1)
        if not self.decode_seconds:
            has_computed()
        if self.tap:
            self.tap.expect(wanted, cells)
        errors = self._errors
        if errors:
            errors.clear()
        start = time.perf_counter()
        code = llama.llama_decode(self.handle, self._batch.struct)
        if code == _ABORTED:
            self._forget(cells)
            self._watch.settle()
            return None
        if code:
            self._forget(cells)
            reason = "the context is full" if code == 1 else "; ".join(list(errors)[:2]) or f"code {code}"
            raise ContextError(f"llama.cpp could not decode {len(cells)} tokens: {reason}")
        seen = self._attention() if self.tap and wanted else None
        rows: list[Row] = []
        for index in wanted:
            rows.append(_new(Row, (self._logits(index), seen[len(rows)] if seen else None)))
        self.decode_seconds += time.perf_counter() - start  # what a device still computes is waited for in `_logits`
        return rows

    def _let_stop(self, wanted: bool) -> None:
        """Let `cancelled` be asked during decodes, or not: llama.cpp asks some 500 times, 1 to 3 % of one token."""
        llama.llama_set_abort_callback(self.handle, self._abort if wanted else _NO_ABORT, None)
        self._stoppable = wanted

    def _attention(self) -> list[AttentionMetrics] | None:
        """What the tap saw; where the model's graph shows no attention, a warning once and then nothing."""
        assert self.tap
        try:
            return self.tap.collect()
        except ContextError as error:
            logger.warning("%s; attention counts as 0 in every formula", error)
            self.tap.expect((), ())
            self.tap = None
            return None

    def _logits(self, index: int) -> Logits:
        address = self._get_logits(self.handle, index)
        if not address:
            raise ContextError(f"llama.cpp gave no logits for token {index} of the batch")
        row = self._rows.get(address)
        if row is None:
            memory: Any = self._row_type.from_address(address)
            row = self._rows[address] = np.frombuffer(memory, np.float32)
        return row

    def _forget(self, cells: Iterable[Cell]) -> None:
        """Drop whatever an unfinished decode left in the cache."""
        starts: dict[int, int] = {}
        for cell in cells:
            starts[cell.sequence] = min(cell.position, starts.get(cell.sequence, cell.position))
        for sequence, position in starts.items():
            self.truncate(sequence, position)

    # --- sequences --------------------------------------------------------------------------------

    def fork(self, source: int, target: int) -> None:
        """Let an empty sequence hold all that another holds. Nothing is computed, and in a pool nothing copied."""
        llama.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def truncate(self, sequence: int, position: int = 0) -> bool:
        """Drop a sequence's cells from a position on. False, and nothing done, where that is impossible.

        A recurrent state cannot be rewound, and a sliding window only while it still holds what the
        tokens before `position` attend to. Dropping everything is always possible.
        """
        if position > 0:
            kept_from = llama.llama_memory_seq_pos_min(self._memory, sequence)
            window = llama.llama_model_n_swa(self.model.handle)
            if kept_from > max(0, position - window):
                return False
        return bool(llama.llama_memory_seq_rm(self._memory, sequence, position, -1))

    def used(self, sequence: int) -> int:
        """How many positions a sequence holds."""
        return int(llama.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def save(self, sequence: int) -> memoryview:
        """What a sequence's cells hold, in llama.cpp's own format."""
        state = np.empty(llama.llama_state_seq_get_size(self.handle, sequence), np.uint8)
        written = llama.llama_state_seq_get_data(self.handle, _bytes_of(state), state.size, sequence)
        return state.data[:written]

    def load(self, sequence: int, state: bytes | memoryview) -> bool:
        """Let an empty sequence hold what `save` gave. False, and nothing done, where it does not fit this context."""
        held = np.frombuffer(state, np.uint8)
        read = llama.llama_state_seq_set_data(self.handle, _bytes_of(held), held.size, sequence)
        if read != held.size:
            self.truncate(sequence)
        return bool(read == held.size)

    def close(self) -> None:
        """Free the context and its batch."""
        forget_handles(self)
        self._stack.close()

    def abandon(self, reason: str) -> None:
        """Leave the context to the process that opened it: every later use raises a ContextError with this reason."""
        forget_handles(self, reason)
        self._stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _bytes_of(array: npt.NDArray[np.uint8]) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
