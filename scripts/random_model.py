"""Write a model of a llama's shape with random Q4_0 weights: as fast as a trained one, and nothing to fetch.

Its logits are sharp enough that the strategy commits at most tokens. The tokenizer is another model's.

Usage: .venv/bin/python scripts/random_model.py TOKENIZER.gguf OUT.gguf [--layers 32 --embedding 4096 …]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np

BLOCK, BLOCK_BYTES = 32, 18  # of Q4_0: a float16 factor, then 32 numbers from 0 to 15 of which 8 is zero
DEVIATION = 4.6  # of those numbers
SHARPNESS = 12.0  # standard deviation of the logits


class Weights:
    """Random matrices, added to a writer."""

    def __init__(self, writer: gguf.GGUFWriter, seed: int = 1) -> None:
        self._writer = writer
        self._random = np.random.default_rng(seed)

    def matrix(self, name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        """A matrix that gives `gain` times its input's scale."""
        blocks = rows * columns // BLOCK
        data = self._random.integers(0, 256, (blocks, BLOCK_BYTES), np.uint8)
        factor = np.full((blocks, 1), gain / np.sqrt(columns) / DEVIATION, np.float16)
        data[:, :2] = factor.view(np.uint8)
        shaped = data.reshape(rows, columns // BLOCK * BLOCK_BYTES)
        self._writer.add_tensor(name, shaped, raw_dtype=gguf.GGMLQuantizationType.Q4_0)

    def norm(self, name: str, size: int) -> None:
        """The weights of a norm: ones."""
        self._writer.add_tensor(name, np.ones(size, np.float32))


def add_tokenizer(writer: gguf.GGUFWriter, source: Path) -> int:
    """Copy a model's tokenizer; the size of its vocabulary."""
    fields = gguf.GGUFReader(source).fields
    for name, field in fields.items():
        if name.startswith("tokenizer."):
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, inner)
    return len(fields["tokenizer.ggml.tokens"].data)


def write(source: Path, out: Path, *, layers: int, embedding: int, inner: int, heads: int, key_heads: int) -> None:
    writer = gguf.GGUFWriter(out, "llama")
    vocabulary = add_tokenizer(writer, source)
    writer.add_vocab_size(vocabulary)
    writer.add_context_length(32768)
    writer.add_embedding_length(embedding)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_rope_dimension_count(embedding // heads)
    writer.add_rope_freq_base(500_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    weights = Weights(writer)
    weights.matrix("token_embd.weight", vocabulary, embedding, gain=np.sqrt(embedding))
    weights.norm("output_norm.weight", embedding)
    weights.matrix("output.weight", vocabulary, embedding, gain=SHARPNESS)
    keys = embedding // heads * key_heads
    for layer in range(layers):
        block = f"blk.{layer}"
        weights.norm(f"{block}.attn_norm.weight", embedding)
        weights.matrix(f"{block}.attn_q.weight", embedding, embedding)
        weights.matrix(f"{block}.attn_k.weight", keys, embedding)
        weights.matrix(f"{block}.attn_v.weight", keys, embedding)
        weights.matrix(f"{block}.attn_output.weight", embedding, embedding, gain=0.3)
        weights.norm(f"{block}.ffn_norm.weight", embedding)
        weights.matrix(f"{block}.ffn_gate.weight", inner, embedding)
        weights.matrix(f"{block}.ffn_up.weight", inner, embedding)
        weights.matrix(f"{block}.ffn_down.weight", embedding, inner, gain=0.3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path, help="a GGUF file whose tokenizer is taken")
    parser.add_argument("out", type=Path)
    for name, size in (("layers", 32), ("embedding", 4096), ("inner", 14336), ("heads", 32), ("key-heads", 8)):
        parser.add_argument(f"--{name}", type=int, default=size, help=f"default: {size}")
    options = vars(parser.parse_args())
    write(options.pop("tokenizer"), options.pop("out"), **options)


if __name__ == "__main__":
    main()
