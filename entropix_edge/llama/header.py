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
from typing import Any, cast

import llama_cpp.llama_cpp as llama

from ..errors import ModelFileError, ModelNotFoundError
from .gguf import START, Array, DamageError, Tensor, check_start, read_gguf, regular_size, require, shown, shown_path

_MAX_BLOCKS = 512  # LLAMA_MAX_LAYERS
_MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
_MAX_LENGTH = 1 << 24  # of an embedding, a feed-forward layer, a head
_MAX_CONTEXT = (1 << 31) - 1

_UNSPECIFIED = 0xFFFFFFFF  # LLAMA_POOLING_TYPE_UNSPECIFIED
_UTF8_BYTES = (*range(1, 0xC0), *range(0xC2, 0xF5))

# BOS and EOS where the file names none.
_DEFAULT_IDS = {"llama": (1, 2), "gpt2": (11, 11), "bert": (101, None), "plamo2": (1, 2), "t5": (None, 1)}

# `general.type` of what goes with a model.
_NOT_A_MODEL = {
    "adapter": "is a LoRA adapter, not a model; expected the model that it was made for",
    "imatrix": "is an importance matrix, not a model; expected the model that was quantised with it",
    "mmproj": "is a multimodal projector, not a model; expected the language model that it belongs to",
}

# No kernel multiplies by these; i32 only where it routes tokens to experts.
_NO_WEIGHTS = {"q8_1", "q8_K", "i8", "i16", "i32", "i64", "f64"}

# fmt: off
_EMBEDDERS = frozenset([
    "bert", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "llama-embed", "modern-bert",
    "neo-bert", "nomic-bert", "nomic-bert-moe", "t5encoder",
])

# Encoders with decoders, diffusion, speech, pictures, drafts: decoding alone fails or aborts.
_OTHER_KINDS = frozenset([
    "clip", "dflash", "dream", "eagle3", "gemma4-assistant", "llada", "llada-moe", "pockettts", "qwen3tts",
    "rnd1", "t5", "wavtokenizer-dec",
])

# Their graphs assert that keys, values and the rotated part of a head are of one length.
_WHOLE_HEAD_ROTATED = frozenset([
    "apertus", "arcee", "arctic", "baichuan", "chameleon", "codeshell", "cogvlm", "cohere2moe", "dbrx",
    "deci", "deepseek", "dots1", "dream", "ernie4_5", "ernie4_5-moe", "exaone", "exaone-moe", "exaone4",
    "falcon", "granite", "granite_swa", "granitemoe", "graniteswitch", "grok", "grovemoe", "hunyuan-dense",
    "hunyuan-moe", "hunyuan_vl", "hy_v3", "internlm2", "jais2", "llada", "llada-moe", "llama",
    "llama-embed", "llama4", "maincoder", "mellum", "minicpm", "mistral3", "olmo", "olmo2", "olmoe",
    "orion", "paddleocr", "pangu-embedded", "plamo", "pockettts", "qwen2", "qwen2moe", "qwen2vl", "qwen3",
    "qwen3moe", "qwen3tts", "qwen3vl", "qwen3vlmoe", "rnd1", "seed_oss", "smallthinker", "smollm3",
    "starcoder2", "talkie", "xverse",
])
# fmt: on


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
        context_length: in tokens, as trained.
        vocabulary_size: in tokens.
        tokenizer_model: llama.cpp's name of the tokenizer's kind, such as `gpt2`.
        tokenizer_pre: llama.cpp's name of the pre-tokenizer.
        absent_tokens: "bos" and "eos" with the id that the file gives, where the vocabulary has no such token.
        chat_template: the Jinja source.
        n_tensors: how many tensors there are in this file.
        tensor_types: how many tensors of each type.
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
    context_length: int | None
    vocabulary_size: int | None
    tokenizer_model: str | None
    tokenizer_pre: str | None
    absent_tokens: tuple[tuple[str, int], ...]
    chat_template: str | None
    n_tensors: int
    tensor_types: Mapping[str, int] = field(hash=False)
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
        _check_tensors(tensors, size)
        model = _Model(metadata, tensors)
        model.check()
        return model.header(path, size, version)
    except DamageError as damage:
        raise ModelFileError(f"{shown_path(path)}: {damage}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise ModelNotFoundError(f"{shown_path(path)}: no such file; expected a GGUF file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelFileError(f"{shown_path(path)}: cannot be read ({reason}); expected a GGUF file") from None


def _check_tensors(tensors: Mapping[str, Tensor], size: int) -> None:
    """Hold each tensor against the file's `size` in bytes, and against what ggml can compute with."""
    for name, (kind, shape, start, end) in tensors.items():
        what = f"tensor {shown(name)}"
        require(min(shape) > 0, f"the shape of {what}", shape, "no dimension of 0")
        right = f"at most the file's {size} bytes (download it again)"
        require(start <= end <= size, f"the last byte of {what}", end, right)
        weights = kind not in _NO_WEIGHTS or "tid2eid" in name
        require(weights, f"the type of {what}", kind, "a type that weights have")
        if shape[1:] == (1, 1, 1) and not name.startswith("cls"):
            require(kind == "f32", f"the type of {what}", kind, "f32, as of all that have one dimension")


class _Model:
    """The metadata and the tensors, held against each other and against what llama.cpp asserts."""

    def __init__(self, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self._metadata = metadata
        self._tensors = tensors
        self._architecture = self._text("general.architecture")
        tokens = metadata.get("tokenizer.ggml.tokens")
        self._tokens: list[bytes] | None = tokens.values if isinstance(tokens, Array) else None
        names = (name.split(".") for name in tensors if name.startswith("blk."))
        self._blocks = {int(parts[1]) for parts in names if parts[1].isdecimal()}

    def check(self) -> None:
        if self._number("split.no") not in (None, 0):
            return  # a later part: all of this is in the first
        self._check_type()
        kind = self._architecture
        writes = kind is not None and kind not in _OTHER_KINDS
        require(writes, "general.architecture", kind, "one that writes token after token, such as 'llama'")
        self._check_tokens()
        self._check_special_tokens()
        if self._tensors:
            self._check_blocks()
            self._check_sizes()
            self._check_heads()
            self._check_experts()
            self._check_rotation()
            self._check_window()
            self._check_numbers()

    def header(self, path: Path, size: int, version: int) -> Header:
        return Header(
            path=path,
            file_size=size,
            version=version,
            architecture=self._architecture,
            name=self._text("general.name"),
            licence=self._text("general.license"),
            quantisation=self._quantisation(),
            parameters=sum(math.prod(tensor.shape) for tensor in self._tensors.values()),
            n_layers=self._count("block_count"),
            n_heads=max(self._each_block("attention.head_count"), default=None),
            n_heads_kv=max(self._each_block("attention.head_count_kv"), default=None),
            n_embd=self._count("embedding_length"),
            context_length=self._count("context_length"),
            vocabulary_size=None if self._tokens is None else len(self._tokens),
            tokenizer_model=self._text("tokenizer.ggml.model"),
            tokenizer_pre=self._text("tokenizer.ggml.pre"),
            absent_tokens=self._absent_tokens(),
            chat_template=self._text("tokenizer.chat_template"),
            n_tensors=len(self._tensors),
            tensor_types=MappingProxyType(dict(Counter(tensor.kind for tensor in self._tensors.values()))),
            vocabulary_only=not self._tensors,
            embedding_only=self._embeds(),
            is_split=(self._number("split.count") or 0) > 1,
        )

    def _text(self, key: str) -> str | None:
        value = self._metadata.get(key)
        require(value is None or isinstance(value, str), key, value, "a text")
        return cast("str | None", value)

    def _number(self, key: str) -> int | None:
        value = self._metadata.get(key)
        require(value is None or type(value) is int, key, value, "a whole number")
        return cast("int | None", value)

    def _own(self, key: str) -> str:
        """The metadata's name of a key of this architecture."""
        return f"{self._architecture}.{key}"

    def _count(self, key: str) -> int | None:
        return self._number(self._own(key))

    def _hold(self, key: str, good: bool, value: object, right: str) -> None:
        require(good, self._own(key), value, right)

    def _bounded(self, key: str, lowest: int, highest: int) -> int | None:
        value = self._count(key)
        self._hold(key, value is None or lowest <= value <= highest, value, f"{lowest} to {highest}")
        return value

    def _needed(self, key: str, lowest: int, highest: int) -> int:
        value = self._bounded(key, lowest, highest)
        self._hold(key, value is not None, value, f"{lowest} to {highest}")
        return value or 0

    def _each_block(self, key: str) -> list[int]:
        """A number for each block: the metadata holds one for all, or a list. Empty where it holds none."""
        value = self._metadata.get(self._own(key))
        if not isinstance(value, Array):
            count = self._count(key)
            return [] if count is None else [count] * min(self._count("block_count") or 1, _MAX_BLOCKS)
        numbers = value.values or []
        good = all(isinstance(number, int) and 0 <= number <= _MAX_LENGTH for number in numbers)
        self._hold(key, good, numbers, f"whole numbers, 0 to {_MAX_LENGTH}")
        n_blocks = self._count("block_count")
        self._hold(key, value.length == n_blocks, f"{value.length} numbers", f"{n_blocks}, one for each block")
        return numbers

    def _quantisation(self) -> str | None:
        label = _file_types().get((self._number("general.file_type") or 0) & ~llama.LLAMA_FTYPE_GUESSED)
        if "general.file_type" in self._metadata and label:
            return label
        weights: Counter[str] = Counter()
        for tensor in self._tensors.values():
            weights[tensor.kind] += math.prod(tensor.shape)
        return weights.most_common(1)[0][0].upper() if weights else None

    def _embeds(self) -> bool:
        pooled = self._count("pooling_type") not in (None, 0, _UNSPECIFIED)
        acausal = self._metadata.get(self._own("attention.causal")) is False
        return self._architecture in _EMBEDDERS or pooled or acausal

    def _check_tokens(self) -> None:
        """llama.cpp asserts that no two tokens are alike, as C strings, the empty ones numbered."""
        kind = self._text("tokenizer.ggml.model")
        require(kind not in (None, "none", "no_vocab"), "tokenizer.ggml.model", kind, "a tokenizer such as 'gpt2'")
        n_tokens = len(self._tokens or ())
        require(n_tokens > 0, "tokenizer.ggml.tokens", self._tokens, "a list of texts")
        known = set(self._tokens or ())
        if b"" in known:
            known = {token or b"[EMPTY_%d]" % index for index, token in enumerate(self._tokens or ())}
        require(len(known) == n_tokens, "the number of different tokens", len(known), f"all {n_tokens}")
        for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
            array = self._metadata.get(key, Array(n_tokens, None))
            length = array.length if isinstance(array, Array) else None
            require(length == n_tokens, f"the length of {key}", length, f"{n_tokens}, as of the tokens")
        if kind == "llama":  # its tokenizer throws, through C, at a byte that it cannot write
            missing = [byte for byte in _UTF8_BYTES if known.isdisjoint((b"<0x%02X>" % byte, bytes([byte])))]
            require(not missing, "the number of bytes without a token", len(missing), "0")

    def _absent_tokens(self) -> tuple[tuple[str, int], ...]:
        n_tokens = len(self._tokens or ())
        named = ((name, self._number(f"tokenizer.ggml.{name}_token_id")) for name in ("bos", "eos"))
        return tuple((name, token) for name, token in named if token is not None and not 0 <= token < n_tokens)

    def _check_special_tokens(self) -> None:
        """Where the tokenizer adds BOS or EOS they must be known; one outside of the vocabulary is not added."""
        kind, n_tokens = self._text("tokenizer.ggml.model"), len(self._tokens or ())
        for name, default in zip(("bos", "eos"), _DEFAULT_IDS.get(str(kind), (None, None)), strict=True):
            key, flag = f"tokenizer.ggml.{name}_token_id", f"tokenizer.ggml.add_{name}_token"
            if self._number(key) is None and self._metadata.get(flag, kind == "llama" and name == "bos"):
                right = f"an id of the vocabulary, 0 to {n_tokens - 1}, as {flag} asks for"
                require(default is not None and default < n_tokens, key, default, right)

    def _check_type(self) -> None:
        kind = self._text("general.type")
        kind = "mmproj" if self._architecture == "clip" else kind
        if kind in _NOT_A_MODEL:
            raise DamageError(_NOT_A_MODEL[kind])

    def _check_sizes(self) -> None:
        self._needed("context_length", 1, _MAX_CONTEXT)
        length = self._needed("embedding_length", 1, _MAX_LENGTH)
        for number in self._each_block("feed_forward_length"):
            self._hold("feed_forward_length", 0 <= number <= _MAX_LENGTH, number, f"0 to {_MAX_LENGTH}")
        table = self._tensors.get("token_embd.weight")
        if table:
            n_tokens = len(self._tokens or ())
            self._hold("embedding_length", table.shape[0] == length, length, f"token_embd's {table.shape[0]}")
            require(table.shape[1] == n_tokens, "the number of tokens", n_tokens, f"token_embd's {table.shape[1]}")

    def _check_blocks(self) -> None:
        n_blocks = self._needed("block_count", 1, _MAX_BLOCKS)
        n_extra = self._bounded("nextn_predict_layers", 0, n_blocks) or 0
        if self._blocks and (self._number("split.count") or 0) <= 1:
            present = max(self._blocks) + 1
            good = n_blocks - n_extra <= present <= n_blocks
            self._hold("block_count", good, n_blocks, f"{present}, the blocks that the file has")

    def _check_heads(self) -> None:
        heads = self._each_block("attention.head_count")
        heads_kv = self._each_block("attention.head_count_kv") or heads
        for block in sorted(self._blocks):
            names = (f"blk.{block}.{name}.weight" for name in ("attn_q", "attn_k", "attn_qkv"))
            if self._tensors.keys().isdisjoint(names):
                continue
            n_heads, n_kv = (counts[block] if block < len(counts) else 0 for counts in (heads, heads_kv))
            self._hold("attention.head_count", 0 < n_heads <= _MAX_LENGTH, n_heads, f"1 to {_MAX_LENGTH}")
            right = f"a divisor of head_count, {n_heads}"
            self._hold("attention.head_count_kv", n_kv > 0 and n_heads % n_kv == 0, n_kv, right)

    def _check_experts(self) -> None:
        n_experts = self._bounded("expert_count", 0, _MAX_EXPERTS) or 0
        each = self._each_block("expert_used_count")
        used, lowest = max(each, default=0), min(n_experts, 1)
        self._hold("expert_used_count", lowest <= used <= n_experts, used, f"{lowest} to {n_experts}")
        for block, number in enumerate(each):
            routed = f"blk.{block}.ffn_down_exps.weight" in self._tensors
            self._hold("expert_used_count", number > 0 or not routed, number, "1 or more where there are experts")
        groups = self._bounded("expert_group_count", 0, max(n_experts - 1, 0)) or 0
        if groups > 1:
            right = f"a divisor of expert_count, {n_experts}"
            self._hold("expert_group_count", n_experts % groups == 0, groups, right)
            self._needed("expert_group_used_count", 1, groups - 1)

    def _check_rotation(self) -> None:
        """Hold the parts of a head against each other."""
        n_heads = (self._each_block("attention.head_count") or [0])[0]
        if n_heads == 0:
            return
        n_embd = self._count("embedding_length") or 0
        length = self._bounded("attention.key_length", 1, _MAX_LENGTH)
        if length is None:
            right = f"a divisor of embedding_length, {n_embd}"
            self._hold("attention.head_count", n_embd % n_heads == 0, n_heads, right)
            length = n_embd // n_heads
        value_length = self._bounded("attention.value_length", 1, _MAX_LENGTH) or n_embd // n_heads
        rotated = self._check_rotated("", length, value_length, length)
        length = self._bounded("attention.key_length_swa", 1, _MAX_LENGTH) or length
        value_length = self._bounded("attention.value_length_swa", 1, _MAX_LENGTH) or value_length
        self._check_rotated("_swa", length, value_length, rotated)
        sections = self._metadata.get(self._own("rope.dimension_sections"))
        if isinstance(sections, Array):
            self._hold("rope.dimension_sections", any(sections.values or ()), sections.values, "a length above 0")

    def _check_rotated(self, ending: str, length: int, value_length: int, default: int) -> int:
        """Hold a head's rotated part against its whole. Returns its length."""
        key = f"rope.dimension_count{ending}"
        rotated = self._count(key)
        rotated = default if rotated is None else rotated
        lowest = 0 if self._architecture == "glm5-next" else 2  # elsewhere ggml never ends at 0
        good = lowest <= rotated <= length and rotated % 2 == 0
        self._hold(key, good, rotated, f"even, {lowest} to {length}")
        if self._architecture in _WHOLE_HEAD_ROTATED:
            right = f"the length of a head's keys, {length}"
            self._hold(f"attention.value_length{ending}", value_length == length, value_length, right)
            self._hold(key, rotated == length, rotated, right)
        return rotated

    def _check_window(self) -> None:
        """With a sliding window there must be blocks that use it."""
        key = "attention.sliding_window_pattern"
        pattern = self._metadata.get(self._own(key))
        if not self._count("attention.sliding_window"):
            return
        n_blocks = self._count("block_count")
        sliding = any((pattern.values or [])[:n_blocks]) if isinstance(pattern, Array) else pattern != 1
        self._hold(key, sliding, pattern, "a pattern with a block that slides")

    def _check_numbers(self) -> None:
        scaling = self._text(self._own("rope.scaling.type"))
        known = scaling in (None, "none", "linear", "yarn", "longrope")
        self._hold("rope.scaling.type", known, scaling, "none, linear, yarn or longrope")
        for key, value in self._metadata.items():
            if isinstance(value, float) and key.startswith(f"{self._architecture}."):
                require(math.isfinite(value), key, value, "a finite number")
                require(value >= 0 or not key.endswith("epsilon"), key, value, "0 or more")


@cache
def _file_types() -> Mapping[int, str]:
    """llama.cpp's labels of `general.file_type`."""
    names = (name for name in vars(llama) if name.startswith(("LLAMA_FTYPE_ALL_", "LLAMA_FTYPE_MOSTLY_")))
    return {getattr(llama, name): name.split("_", 3)[3] for name in names}
