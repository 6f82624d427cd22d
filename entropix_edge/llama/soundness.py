"""What llama.cpp would die of: conditions on a file that it asserts, or divides by, rather than reports."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import cache

from . import architectures
from .devices import llama_cpp_version
from .gguf import Array, DamageError, Tensor, require, shown
from .metadata import MAX_BLOCKS, MAX_LENGTH, Metadata

logger = logging.getLogger("entropix_edge")

_MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
_MAX_CONTEXT = (1 << 31) - 1
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


def check_file(metadata: Metadata, size: int) -> None:
    """Check what llama.cpp is about to be trusted with.

    Args:
        metadata: of the file.
        size: of the file, in bytes.

    Raises:
        DamageError: the first condition that does not hold.
    """
    warn_of_another_llama_cpp()
    _check_tensors(metadata.tensors, size)
    if metadata.number("split.no") in (None, 0):  # of a later part all else is in the first
        _Checks(metadata.metadata, metadata.tensors).check()


@cache
def warn_of_another_llama_cpp() -> None:
    """Say once that the lists of architectures are another llama.cpp's."""
    if llama_cpp_version() != architectures.MADE_FOR:
        logger.warning(
            "files are checked for llama-cpp-python %s and this is %s: a damaged one may end the process",
            architectures.MADE_FOR,
            llama_cpp_version(),
        )


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


class _Checks(Metadata):
    """The metadata and the tensors, held against each other."""

    def check(self) -> None:
        self._check_type()
        kind = self.architecture
        writes = kind is not None and kind not in architectures.OTHERS
        require(writes, "general.architecture", kind, "one that writes token after token, such as 'llama'")
        self._check_tokens()
        self._check_special_tokens()
        if self.tensors:
            self._check_blocks()
            self._check_sizes()
            self._check_heads()
            self._check_experts()
            self._check_rotation()
            self._check_window()
            self._check_numbers()

    def _check_type(self) -> None:
        kind = self.text("general.type")
        kind = "mmproj" if self.architecture == "clip" else kind
        if kind in _NOT_A_MODEL:
            raise DamageError(_NOT_A_MODEL[kind])

    def _check_tokens(self) -> None:
        """llama.cpp asserts that no two tokens are alike, as C strings, the empty ones numbered."""
        kind = self.text("tokenizer.ggml.model")
        require(kind not in (None, "none", "no_vocab"), "tokenizer.ggml.model", kind, "a tokenizer such as 'gpt2'")
        n_tokens = len(self.tokens or ())
        require(n_tokens > 0, "tokenizer.ggml.tokens", self.tokens, "a list of texts")
        known = set(self.tokens or ())
        if b"" in known:
            known = {token or b"[EMPTY_%d]" % index for index, token in enumerate(self.tokens or ())}
        require(len(known) == n_tokens, "the number of different tokens", len(known), f"all {n_tokens}")
        for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
            array = self.metadata.get(key, Array(n_tokens, None))
            length = array.length if isinstance(array, Array) else None
            require(length == n_tokens, f"the length of {key}", length, f"{n_tokens}, as of the tokens")
        if kind == "llama":  # its tokenizer throws, through C, at a byte that it cannot write
            missing = [byte for byte in _UTF8_BYTES if known.isdisjoint((b"<0x%02X>" % byte, bytes([byte])))]
            require(not missing, "the number of bytes without a token", len(missing), "0")

    def _check_special_tokens(self) -> None:
        """Where the tokenizer adds BOS or EOS they must be known; one outside of the vocabulary is not added."""
        kind, n_tokens = self.text("tokenizer.ggml.model"), len(self.tokens or ())
        for name, default in zip(("bos", "eos"), _DEFAULT_IDS.get(str(kind), (None, None)), strict=True):
            key, flag = f"tokenizer.ggml.{name}_token_id", f"tokenizer.ggml.add_{name}_token"
            if self.number(key) is None and self.metadata.get(flag, kind == "llama" and name == "bos"):
                right = f"an id of the vocabulary, 0 to {n_tokens - 1}, as {flag} asks for"
                require(default is not None and default < n_tokens, key, default, right)

    def _check_blocks(self) -> None:
        n_blocks = self.needed("block_count", 1, MAX_BLOCKS)
        n_extra = self.bounded("nextn_predict_layers", 0, n_blocks) or 0
        if self.parts and (self.number("split.count") or 0) <= 1:
            present = max(self.parts) + 1
            good = n_blocks - n_extra <= present <= n_blocks
            self.hold("block_count", good, n_blocks, f"{present}, the blocks that the file has")

    def _check_sizes(self) -> None:
        self.needed("context_length", 1, _MAX_CONTEXT)
        length = self.needed("embedding_length", 1, MAX_LENGTH)
        for number in self.each_block("feed_forward_length"):
            self.hold("feed_forward_length", 0 <= number <= MAX_LENGTH, number, f"0 to {MAX_LENGTH}")
        table = self.tensors.get("token_embd.weight")
        if table:
            n_tokens = len(self.tokens or ())
            self.hold("embedding_length", table.shape[0] == length, length, f"token_embd's {table.shape[0]}")
            require(table.shape[1] == n_tokens, "the number of tokens", n_tokens, f"token_embd's {table.shape[1]}")

    def _check_heads(self) -> None:
        heads = self.each_block("attention.head_count")
        heads_kv = self.each_block("attention.head_count_kv") or heads
        for block in sorted(self.parts):
            names = (f"blk.{block}.{name}.weight" for name in ("attn_q", "attn_k", "attn_qkv"))
            if self.tensors.keys().isdisjoint(names):
                continue
            n_heads, n_kv = (counts[block] if block < len(counts) else 0 for counts in (heads, heads_kv))
            self.hold("attention.head_count", 0 < n_heads <= MAX_LENGTH, n_heads, f"1 to {MAX_LENGTH}")
            right = f"a divisor of head_count, {n_heads}"
            self.hold("attention.head_count_kv", n_kv > 0 and n_heads % n_kv == 0, n_kv, right)

    def _check_experts(self) -> None:
        n_experts = self.bounded("expert_count", 0, _MAX_EXPERTS) or 0
        each = self.each_block("expert_used_count")
        used, lowest = max(each, default=0), min(n_experts, 1)
        self.hold("expert_used_count", lowest <= used <= n_experts, used, f"{lowest} to {n_experts}")
        for block, number in enumerate(each):
            routed = f"blk.{block}.ffn_down_exps.weight" in self.tensors
            self.hold("expert_used_count", number > 0 or not routed, number, "1 or more where there are experts")
        groups = self.bounded("expert_group_count", 0, max(n_experts - 1, 0)) or 0
        if groups > 1:
            right = f"a divisor of expert_count, {n_experts}"
            self.hold("expert_group_count", n_experts % groups == 0, groups, right)
            self.needed("expert_group_used_count", 1, groups - 1)

    def _check_rotation(self) -> None:
        """Hold the parts of a head against each other."""
        n_heads = (self.each_block("attention.head_count") or [0])[0]
        if n_heads == 0:
            return
        n_embd = self.count("embedding_length") or 0
        length = self.bounded("attention.key_length", 1, MAX_LENGTH)
        if length is None:
            right = f"a divisor of embedding_length, {n_embd}"
            self.hold("attention.head_count", n_embd % n_heads == 0, n_heads, right)
            length = n_embd // n_heads
        value_length = self.bounded("attention.value_length", 1, MAX_LENGTH) or n_embd // n_heads
        rotated = self._check_rotated("", length, value_length, length)
        length = self.bounded("attention.key_length_swa", 1, MAX_LENGTH) or length
        value_length = self.bounded("attention.value_length_swa", 1, MAX_LENGTH) or value_length
        self._check_rotated("_swa", length, value_length, rotated)
        sections = self.metadata.get(self.own("rope.dimension_sections"))
        if isinstance(sections, Array):
            self.hold("rope.dimension_sections", any(sections.values or ()), sections.values, "a length above 0")

    def _check_rotated(self, ending: str, length: int, value_length: int, default: int) -> int:
        """Hold a head's rotated part against its whole. Returns its length."""
        key = f"rope.dimension_count{ending}"
        rotated = self.count(key)
        rotated = default if rotated is None else rotated
        lowest = 0 if self.architecture == "glm5-next" else 2  # elsewhere ggml never ends at 0
        good = lowest <= rotated <= length and rotated % 2 == 0
        self.hold(key, good, rotated, f"even, {lowest} to {length}")
        if self.architecture in architectures.WHOLE_HEAD_ROTATED:
            right = f"the length of a head's keys, {length}"
            self.hold(f"attention.value_length{ending}", value_length == length, value_length, right)
            self.hold(key, rotated == length, rotated, right)
        return rotated

    def _check_window(self) -> None:
        """With a sliding window there must be blocks that use it."""
        key = "attention.sliding_window_pattern"
        pattern = self.metadata.get(self.own(key))
        if not self.count("attention.sliding_window"):
            return
        n_blocks = self.count("block_count")
        sliding = any((pattern.values or [])[:n_blocks]) if isinstance(pattern, Array) else pattern != 1
        self.hold(key, sliding, pattern, "a pattern with a block that slides")

    def _check_numbers(self) -> None:
        scaling = self.text(self.own("rope.scaling.type"))
        known = scaling in (None, "none", "linear", "yarn", "longrope")
        self.hold("rope.scaling.type", known, scaling, "none, linear, yarn or longrope")
        for key, value in self.metadata.items():
            if isinstance(value, float) and key.startswith(f"{self.architecture}."):
                require(math.isfinite(value), key, value, "a finite number")
                require(value >= 0 or not key.endswith("epsilon"), key, value, "0 or more")
