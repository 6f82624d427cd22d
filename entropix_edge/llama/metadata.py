"""A GGUF file's metadata by name, each value of the kind that it must be."""

from __future__ import annotations

from typing import Any, cast

from .gguf import Array, Tensor, require

MAX_BLOCKS = 512  # LLAMA_MAX_LAYERS
MAX_LENGTH = 1 << 24  # of an embedding, a feed-forward layer, a head


class Metadata:
    """The metadata and the tensors of a file. Every method raises a DamageError at a value of the wrong kind.

    Attributes:
        metadata: by key; of arrays the length, and the values where they are wanted.
        tensors: by name.
        architecture: llama.cpp's name.
        tokens: the vocabulary, None where there is none.
        parts: the tensors that each block of the transformer has here, such as `attn_q.weight`.
    """

    def __init__(self, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.metadata = metadata
        self.tensors = tensors
        self.architecture = self.text("general.architecture")
        tokens = metadata.get("tokenizer.ggml.tokens")
        self.tokens: list[bytes] | None = tokens.values if isinstance(tokens, Array) else None
        self.parts: dict[int, set[str]] = {}
        for name in tensors:
            prefix, _, rest = name.partition(".")
            block, _, part = rest.partition(".")
            if prefix == "blk" and block.isdecimal():
                self.parts.setdefault(int(block), set()).add(part)

    def text(self, key: str) -> str | None:
        """A text, None where the file does not say."""
        value = self.metadata.get(key)
        require(value is None or isinstance(value, str), key, value, "a text")
        return cast("str | None", value)

    def number(self, key: str) -> int | None:
        """A whole number, None where the file does not say."""
        value = self.metadata.get(key)
        require(value is None or type(value) is int, key, value, "a whole number")
        return cast("int | None", value)

    def own(self, key: str) -> str:
        """The metadata's name of a key of this architecture."""
        return f"{self.architecture}.{key}"

    def count(self, key: str) -> int | None:
        """A whole number under a key of this architecture."""
        return self.number(self.own(key))

    def hold(self, key: str, good: bool, value: object, right: str) -> None:
        """Raise a DamageError where a condition on this architecture's key does not hold."""
        require(good, self.own(key), value, right)

    def bounded(self, key: str, lowest: int, highest: int) -> int | None:
        """A whole number within limits, None where the file does not say."""
        value = self.count(key)
        self.hold(key, value is None or lowest <= value <= highest, value, f"{lowest} to {highest}")
        return value

    def needed(self, key: str, lowest: int, highest: int) -> int:
        """A whole number within limits, which the file must have."""
        value = self.bounded(key, lowest, highest)
        self.hold(key, value is not None, value, f"{lowest} to {highest}")
        return value or 0

    def each_block(self, key: str) -> list[int]:
        """A number for each block: the metadata holds one for all, or a list. Empty where it holds none."""
        value = self.metadata.get(self.own(key))
        if not isinstance(value, Array):
            count = self.count(key)
            return [] if count is None else [count] * min(self.count("block_count") or 1, MAX_BLOCKS)
        numbers = value.values or []
        good = all(isinstance(number, int) and 0 <= number <= MAX_LENGTH for number in numbers)
        self.hold(key, good, numbers, f"whole numbers, 0 to {MAX_LENGTH}")
        n_blocks = self.count("block_count")
        self.hold(key, value.length == n_blocks, f"{value.length} numbers", f"{n_blocks}, one for each block")
        return numbers
