"""How many bytes a model and a context will take, before llama.cpp is asked for them: the one arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..engine_config import WHOLE_TYPES
from ..errors import ConfigError, ContextError, Hint
from .bindings import llama
from .devices import repacked_types
from .gguf import shown_path
from .library import ggml
from .machine import available_memory

if TYPE_CHECKING:
    from ..engine_config import CacheType
    from .header import Header

PADDING = 256  # llama.cpp rounds a sequence's cells up to a multiple of this
TAP_KEYS = 2**15  # float32 numbers: 64 keys of 512
TAP_STAGE = 2**20  # bytes that the taps copy from a device at once
_FLOAT, _HALF = 4, 2
_SCORE_BYTES = 64 * 2**20  # most bytes one layer's attention scores may take
_LARGEST_BATCH = 512
_SMALLEST_BATCH = 32
PROCESS = 95 * 2**20  # bytes of a process with Python, numpy and llama.cpp that has opened no model
_TOKEN, _MERGE = 250, 300  # bytes of llama.cpp's tables for each: scripts/fit
_TAP_RESULTS = 4  # float64 numbers of each wanted row


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Predicted bytes.

    Attributes:
        weights: the file, which is mapped or read.
        repacked: copies of mapped weights, laid out for this processor.
        vocabulary: the tokenizer's tables; measured per token and per merge.
        cache: keys and values of all cells, as llama.cpp allocates them. A recurrent layer's state, which is small
            and does not grow, is left out.
        compute: llama.cpp's buffer of intermediate results, within some 10 % for the transformers that most files
            are; other graphs may take more.
        logits: the rows that are read.
        taps: what the attention taps copy into.
    """

    weights: int
    repacked: int
    vocabulary: int
    cache: int
    compute: int
    logits: int
    taps: int

    @property
    def context(self) -> int:
        """What a context takes."""
        return self.cache + self.compute + self.logits + self.taps

    @property
    def model(self) -> int:
        """What a model takes without a context."""
        return self.weights + self.repacked + self.vocabulary

    @property
    def total(self) -> int:
        """All of it: what is added to a process that has done nothing yet."""
        return self.model + self.context


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A context, as far as its memory depends on it.

    Attributes:
        n_ctx: cells of all sequences together.
        n_batch: most tokens a decode.
        sequences: how many may live at once; as many rows can be wanted of a decode.
        pooled: the sequences share the cells; else each has an equal part.
        flash_attention: whether llama.cpp computes with it: then there are no attention scores.
        taps: whether attention is watched.
        type_k: llama.cpp's number of the type of the cache's keys.
        type_v: of its values.
    """

    n_ctx: int
    n_batch: int
    sequences: int = 1
    pooled: bool = True
    flash_attention: bool = False
    taps: bool = False
    type_k: int = llama.GGML_TYPE_F16
    type_v: int = llama.GGML_TYPE_F16

    @property
    def cells(self) -> int:
        """Cells that one sequence may attend to, rounded up as llama.cpp does."""
        every = _padded(self.n_ctx, PADDING)
        return every if self.pooled else _padded(every // self.sequences, PADDING)


def _default_batch(n_ctx: int, n_head: int, *, scores: bool) -> int:
    """Tokens a decode: 512, or fewer where attention's scores are kept, and a batch's would take too much room."""
    if not scores:
        return _LARGEST_BATCH
    fitting = _SCORE_BYTES // (_FLOAT * n_ctx * max(n_head, 1))
    return max(_SMALLEST_BATCH, min(_LARGEST_BATCH, fitting))


def plan(
    n_ctx: int,
    n_head: int,
    *,
    batch_size: int | None = None,
    ubatch_size: int | None = None,
    sequences: int = 1,
    flash_attention: str = "auto",
    watched: bool = False,
    cache_types: tuple[CacheType, CacheType] = ("f16", "f16"),
    pooled: bool = True,
) -> Shape:
    """The shape of a context that is opened so: arguments as of `Context`, `watched` where it watches any layer.

    Where nobody said, flash attention counts as on: llama.cpp turns it off only where a device lacks it. It is off for
    an f32 cache, which it would round, and in parts, whose single tokens are faster without it (1.4 times); but values
    in blocks cannot be read without it.
    """
    flash = flash_attention == "on"
    if flash_attention == "auto":
        flash = (pooled and "f32" not in cache_types) or cache_types[1] not in WHOLE_TYPES
    n_batch = batch_size or _default_batch(n_ctx, n_head, scores=watched and not flash)
    n_batch = min(n_batch, ubatch_size or n_batch, n_ctx)
    return Shape(
        n_ctx=n_ctx,
        n_batch=max(n_batch, sequences),
        sequences=sequences,
        pooled=pooled,
        flash_attention=flash,
        taps=watched,
        type_k=_number(cache_types[0]),
        type_v=_number(cache_types[1]),
    )


def _number(kind: CacheType) -> int:
    """llama.cpp's number of a type."""
    types = range(llama.GGML_TYPE_COUNT)
    return next(number for number in types if ggml().ggml_get_type_traits(number).contents.type_name == kind.encode())


def check_cache_types(header: Header, cache_types: tuple[CacheType, CacheType]) -> None:
    """Refuse types whose blocks do not divide a head's keys or values: llama.cpp cannot keep them.

    Raises:
        ConfigError: naming the type and those that fit.
    """
    for name, kind, length in zip("kv", cache_types, (header.key_length, header.value_length), strict=True):
        block = ggml().ggml_get_type_traits(_number(kind)).contents.blck_size
        if length and length % block:
            raise ConfigError(
                f"cache_type_{name} is {kind}, in blocks of {block}, and a head of this model has {length} numbers: "
                f"it must be one of {', '.join(WHOLE_TYPES)}"
            )


def predict(header: Header, shape: Shape, *, mmap: bool = True) -> Memory:
    """What a model takes with a context of that shape. What the header does not say counts as 0.

    Args:
        header: of the model's file.
        shape: of the context.
        mmap: whether the file is mapped: then weights that are repacked are there twice.
    """
    types = repacked_types() if mmap else ()
    return Memory(
        weights=header.file_size,
        repacked=sum(size for kind, size in header.matrices.items() if kind in types),
        vocabulary=_TOKEN * (header.vocabulary_size or 0) + _MERGE * header.n_merges,
        cache=_cache(header, shape),
        compute=_compute(header, shape),
        logits=_FLOAT * (header.vocabulary_size or 0) * shape.sequences,
        taps=_taps(header, shape) if shape.taps else 0,
    )


def _cache(header: Header, shape: Shape) -> int:
    """Each layer's keys and values; without flash attention the values lie transposed, all as long as the longest."""
    longest = max((values for _keys, values in header.cell_lengths), default=0)
    row = 0
    for keys, values in header.cell_lengths:
        row += ggml().ggml_row_size(shape.type_k, keys)
        row += ggml().ggml_row_size(shape.type_v, values if shape.flash_attention or not values else longest)
    return shape.cells * (1 if shape.pooled else shape.sequences) * row


def _compute(header: Header, shape: Shape) -> int:
    """The widest point of the graph of one batch: attention, feed-forward or output; and the mask, which stays."""
    tokens = _padded(shape.n_batch, shape.sequences)  # llama.cpp plans with as many of each sequence
    n_embd, n_ff, n_vocab = header.n_embd or 0, header.n_ff or 0, header.vocabulary_size or 0
    queries = (header.n_heads or 0) * (header.key_length or 0)
    kept = max((keys + values for keys, values in header.cell_lengths), default=0)
    scores = 0 if shape.flash_attention else shape.cells * (header.n_heads or 0)
    attention = tokens * (4 * n_embd + queries + kept + scores)
    feed_forward = tokens * (4 * n_embd + 3 * n_ff)
    output = shape.sequences * (n_vocab + n_embd)
    mask = shape.cells * tokens * (_HALF if shape.flash_attention else _FLOAT) if header.cell_lengths else 0
    return _FLOAT * max(attention, feed_forward, output) + mask * header.n_masks


def _taps(header: Header, shape: Shape) -> int:
    """Scores of each wanted row (with flash attention of one at a time), weights of one, its cells and results."""
    cells = _padded(shape.n_ctx, PADDING)
    rows = 1 if shape.flash_attention else shape.sequences
    every = (rows + 1) * cells * (header.n_heads or 0) + 2 * cells
    results = shape.sequences * (2 * _FLOAT + 8 * _TAP_RESULTS) + (header.n_layers or 0)
    return _FLOAT * (every + TAP_KEYS) + TAP_STAGE + results


def _padded(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def check_fit(header: Header, shape: Shape, memory: Memory, offloaded: float = 0.0) -> None:
    """Refuse what cannot fit, before the system grants it and ends the process when it is used.

    Args:
        header: of the model's file.
        shape: of the context.
        memory: that both are predicted to take.
        offloaded: the share of it that goes to devices.

    Raises:
        ContextError: with what to change.
    """
    available = available_memory()
    if available is None or memory.total * (1 - offloaded) <= available:
        return
    parts = f"{_told(memory.model)} for the model and {_told(memory.context)} for {shape.n_ctx} tokens of context"
    needs = f"{shown_path(header.path)} needs about {_told(memory.total)} ({parts}) and {_told(available)} are free"
    if memory.model * (1 - offloaded) < available:
        raise ContextError(needs, hint=Hint("lower {}, or force it", "ctx_size", "lower"))
    raise ContextError(f"{needs}: take a smaller model or quantisation, or force it")


def _told(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
