"""A look at a GGUF file before llama.cpp is trusted with it.

llama.cpp ends the whole process on some damaged files. So ggml's own reader judges the metadata
here, without allocating the tensors; then come the conditions that llama.cpp asserts, or divides
by, rather than reports.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType

from ..errors import ModelFileError, ModelNotFoundError
from .architectures import EMBEDDERS
from .bindings import llama
from .gguf import START, Array, DamageError, check_start, read_gguf, regular_size, shown_path
from .metadata import Metadata
from .soundness import check_file

_RECURRENT = ("ssm_", "shortconv", "time_mix")  # tensors of layers with a state
_KEYS = ("attn_k.", "attn_kv_", "attn_k_")  # and of those with cells
_UNSPECIFIED = 0xFFFFFFFF  # LLAMA_POOLING_TYPE_UNSPECIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a GGUF file says of itself; None where it does not say.

    Attributes:
        path: the file.
        file_size: in bytes.
        version: of the GGUF format, 2 or 3.
        architecture: llama.cpp's name, such as `qwen2`.
        name: the model's own name.
        licence: its licence, as the file names it.
        quantisation: llama.cpp's label, such as `Q4_K_M`.
        parameters: how many weights there are in this file.
        n_layers: blocks of the transformer.
        n_heads: query heads; where layers differ, the most.
        n_heads_kv: key and value heads; where layers differ, the most.
        n_embd: the embedding's length.
        n_ff: numbers between the two halves of a feed-forward layer, all used experts together; the most of a layer.
        key_length: of a head; where layers differ, the most.
        value_length: likewise.
        cell_lengths: for each layer, how many numbers a token's keys and its values are; (0, 0) where it keeps none.
        n_masks: how many masks there are: one for all layers, and one for those with a sliding window.
        context_length: in tokens, as trained.
        vocabulary_size: in tokens.
        tokenizer_model: llama.cpp's name of the tokenizer's kind, such as `gpt2`.
        tokenizer_pre: llama.cpp's name of the pre-tokenizer.
        absent_tokens: "bos" and "eos" with the id that the file gives, where the vocabulary has no such token.
        chat_template: the Jinja source.
        n_merges: pairs of tokens that a tokenizer of byte pairs joins.
        n_tensors: how many tensors there are in this file.
        tensor_types: how many tensors of each type.
        matrices: bytes of the matrices that are multiplied, by type; those whose rows come in eights.
        vocabulary_only: there is a tokenizer and no weights.
        embedding_only: the model turns text into vectors or scores, and cannot generate.
        is_split: the file is one part of several.
    """

    path: Path
    file_size: int
    version: int
    architecture: str | None
    name: str | None
    licence: str | None
    quantisation: str | None
    parameters: int
    n_layers: int | None
    n_heads: int | None
    n_heads_kv: int | None
    n_embd: int | None
    n_ff: int | None
    key_length: int | None
    value_length: int | None
    cell_lengths: tuple[tuple[int, int], ...]
    n_masks: int
    context_length: int | None
    vocabulary_size: int | None
    tokenizer_model: str | None
    tokenizer_pre: str | None
    absent_tokens: tuple[tuple[str, int], ...]
    chat_template: str | None
    n_merges: int
    n_tensors: int
    tensor_types: Mapping[str, int] = field(hash=False)
    matrices: Mapping[str, int] = field(hash=False)
    vocabulary_only: bool
    embedding_only: bool
    is_split: bool


def read_header(path: Path) -> Header:
    """Read a GGUF file's header, and check what llama.cpp would die of.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelFileError: it cannot be read, is not GGUF, is damaged, or is of a kind that cannot be loaded.
    """
    try:
        size = regular_size(path)
        with path.open("rb") as file:
            version = check_start(file.read(START.size))
            metadata, tensors = read_gguf(file)
        found = _Described(metadata, tensors)
        check_file(found, size)
        return found.header(path, size, version)
    except DamageError as damage:
        raise ModelFileError(f"{shown_path(path)}: {damage}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise ModelNotFoundError(f"{shown_path(path)}: no such file; expected a GGUF file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelFileError(f"{shown_path(path)}: cannot be read ({reason}); expected a GGUF file") from None


class _Described(Metadata):
    """The metadata as a Header."""

    def header(self, path: Path, size: int, version: int) -> Header:
        return Header(
            path=path,
            file_size=size,
            version=version,
            architecture=self.architecture,
            name=self.text("general.name"),
            licence=self.text("general.license"),
            quantisation=self._quantisation(),
            parameters=sum(math.prod(tensor.shape) for tensor in self.tensors.values()),
            n_layers=self.count("block_count"),
            n_heads=max(self.each_block("attention.head_count"), default=None),
            n_heads_kv=max(self.each_block("attention.head_count_kv"), default=None),
            n_embd=self.count("embedding_length"),
            n_ff=self._feed_forward(),
            key_length=max((length[0] for length in self._head_lengths()), default=None),
            value_length=max((length[1] for length in self._head_lengths()), default=None),
            cell_lengths=self._cell_lengths(),
            n_masks=2 if self.count("attention.sliding_window") else 1,
            context_length=self.count("context_length"),
            vocabulary_size=None if self.tokens is None else len(self.tokens),
            tokenizer_model=self.text("tokenizer.ggml.model"),
            tokenizer_pre=self.text("tokenizer.ggml.pre"),
            absent_tokens=self._absent_tokens(),
            chat_template=self.text("tokenizer.chat_template"),
            n_merges=self._merges(),
            n_tensors=len(self.tensors),
            tensor_types=MappingProxyType(dict(Counter(tensor.kind for tensor in self.tensors.values()))),
            matrices=MappingProxyType(self._matrices()),
            vocabulary_only=not self.tensors,
            embedding_only=self._embeds(),
            is_split=(self.number("split.count") or 0) > 1,
        )

    def _merges(self) -> int:
        merges = self.metadata.get("tokenizer.ggml.merges")
        return merges.length if isinstance(merges, Array) else 0

    def _matrices(self) -> Counter[str]:
        output = "output.weight" if "output.weight" in self.tensors else "token_embd.weight"
        found: Counter[str] = Counter()
        for name, tensor in self.tensors.items():
            if (name.startswith("blk.") or name == output) and tensor.shape[1] > 1 and tensor.shape[1] % 8 == 0:
                found[tensor.kind] += tensor.end - tensor.start
        return found

    def _feed_forward(self) -> int | None:
        widths = self.each_block("feed_forward_length")
        experts = max(self.each_block("expert_feed_forward_length"), default=0)
        together = experts * max(self.each_block("expert_used_count"), default=0)
        return max(*widths, together) if widths else together or None

    def _head_lengths(self) -> list[tuple[int, int]]:
        """For each block, the length of a head's keys and of its values."""
        heads = self.each_block("attention.head_count")
        if not heads or not heads[0]:
            return []
        whole = (self.count("embedding_length") or 0) // heads[0]
        names = ("attention.key_length", "attention.value_length")
        lengths = [whole if (length := self.count(name)) is None else length for name in names]
        sliding = [self.count(f"{name}_swa") or length for name, length in zip(names, lengths, strict=True)]
        pattern = self.metadata.get(self.own("attention.sliding_window_pattern"))
        slides = (pattern.values or []) if isinstance(pattern, Array) else []
        longest = [max(pair) for pair in zip(lengths, sliding, strict=True)]
        known = [sliding if slide else lengths for slide in slides[: len(heads)]]
        return [(keys, values) for keys, values in known + [longest] * (len(heads) - len(known))]

    def _cell_lengths(self) -> tuple[tuple[int, int], ...]:
        heads = self.each_block("attention.head_count_kv") or self.each_block("attention.head_count")
        recurrent = self.metadata.get(self.own("attention.recurrent_layers"))
        recurs = (recurrent.values or []) if isinstance(recurrent, Array) else []
        latent = bool(self.count("attention.key_length_mla") and self.count("attention.value_length_mla"))
        without = (self.count("attention.shared_kv_layers") or 0) + (self.count("nextn_predict_layers") or 0)
        kept = []
        for block, (count, (keys, values)) in enumerate(zip(heads, self._head_lengths(), strict=False)):
            attends = block < len(heads) - without and not any(recurs[block : block + 1]) and not self._recurs(block)
            kept.append((count * keys, 0 if latent else count * values) if attends else (0, 0))
        return tuple(kept)

    def _recurs(self, block: int) -> bool:
        """Whether a block has a state instead of cells, as its tensors tell."""
        parts = self.parts.get(block, set())
        return any(part.startswith(_RECURRENT) for part in parts) and not any(part.startswith(_KEYS) for part in parts)

    def _absent_tokens(self) -> tuple[tuple[str, int], ...]:
        n_tokens = len(self.tokens or ())
        named = ((name, self.number(f"tokenizer.ggml.{name}_token_id")) for name in ("bos", "eos"))
        return tuple((name, token) for name, token in named if token is not None and not 0 <= token < n_tokens)

    def _quantisation(self) -> str | None:
        label = _file_types().get((self.number("general.file_type") or 0) & ~llama.LLAMA_FTYPE_GUESSED)
        if "general.file_type" in self.metadata and label:
            return label
        weights: Counter[str] = Counter()
        for tensor in self.tensors.values():
            weights[tensor.kind] += math.prod(tensor.shape)
        return weights.most_common(1)[0][0].upper() if weights else None

    def _embeds(self) -> bool:
        pooled = self.count("pooling_type") not in (None, 0, _UNSPECIFIED)
        acausal = self.metadata.get(self.own("attention.causal")) is False
        return self.architecture in EMBEDDERS or pooled or acausal


@cache
def _file_types() -> Mapping[int, str]:
    """llama.cpp's labels of `general.file_type`."""
    names = (name for name in vars(llama) if name.startswith(("LLAMA_FTYPE_ALL_", "LLAMA_FTYPE_MOSTLY_")))
    return {getattr(llama, name): name.split("_", 3)[3] for name in names}
