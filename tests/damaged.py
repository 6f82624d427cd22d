"""A tiny sound GGUF file, and the damage that files suffer, on purpose or not.

As a program it is the guinea pig: it loads what `read_header` accepts, and may die of it.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import llama_cpp.llama_cpp as llama
import numpy as np

from entropix_edge.errors import EntropixError
from entropix_edge.llama.header import read_header

N_LAYERS, N_EMBD, N_HEADS, N_HEADS_KV, N_FF = 2, 64, 4, 2, 96
TOKENS = [
    "<unk>",
    "<s>",
    "</s>",
    *(f"<0x{byte:02X}>" for byte in range(256)),
    *(f"▁{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
    *"abcdefghijklmno",
]
TOKEN_TYPES = [2, 3, 3, *[6] * 256, *[1] * (len(TOKENS) - 259)]

Patch = Callable[[bytearray], None]


def write_good(path: Path, *, with_sizes: bool = True, with_weights: bool = True) -> Path:
    """A llama of two layers with an SPM tokenizer and random weights: some 400 kB."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_license("mit")
    writer.add_file_type(0)
    writer.add_uint32("general.alignment", 32)
    if with_sizes:
        _add_sizes(writer)
    _add_tokenizer(writer)
    if with_weights:
        _add_weights(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_sizes(writer: Any) -> None:
    writer.add_context_length(512)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(N_LAYERS)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_HEADS_KV)
    writer.add_rope_dimension_count(N_EMBD // N_HEADS)
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(1.0)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(0)


def _add_tokenizer(writer: Any) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([-float(index) for index in range(len(TOKENS))])
    writer.add_token_types(TOKEN_TYPES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages[0].content }}")


def _add_weights(writer: Any) -> None:
    generator = np.random.default_rng(440)
    for name, shape in _shapes().items():
        data = generator.normal(0, 0.1, shape) if len(shape) > 1 else np.ones(shape)
        writer.add_tensor(name, data.astype(np.float32))


def _shapes() -> dict[str, tuple[int, ...]]:
    kv = N_EMBD // N_HEADS * N_HEADS_KV
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(TOKENS), N_EMBD),
        "output_norm.weight": (N_EMBD,),
        "output.weight": (len(TOKENS), N_EMBD),
    }
    for block in range(N_LAYERS):
        parts: dict[str, tuple[int, ...]] = {
            "attn_norm": (N_EMBD,),
            "attn_q": (N_EMBD, N_EMBD),
            "attn_k": (kv, N_EMBD),
            "attn_v": (kv, N_EMBD),
            "attn_output": (N_EMBD, N_EMBD),
            "ffn_norm": (N_EMBD,),
            "ffn_gate": (N_FF, N_EMBD),
            "ffn_up": (N_FF, N_EMBD),
            "ffn_down": (N_EMBD, N_FF),
        }
        shapes |= {f"blk.{block}.{name}.weight": shape for name, shape in parts.items()}
    return shapes


def write_other(path: Path, kind: str | None, architecture: str, *, tokenizer: bool = False) -> Path:
    """A file that goes with a model: an adapter, an importance matrix, a projector."""
    writer = gguf.GGUFWriter(path, architecture)
    if kind is not None:
        writer.add_type(kind)
    if tokenizer:
        _add_tokenizer(writer)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", np.ones((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def data_offset(good: Path) -> int:
    """Where the tensors' data begins, in bytes."""
    return good.stat().st_size - sum(4 * int(np.prod(shape)) for shape in _shapes().values())


def damaged_files(directory: Path, good: Path) -> dict[str, Path]:
    """Damaged copies of `good`, a file of `write_good`, by what is wrong with them."""
    content = good.read_bytes()
    files = {}
    for name, patch in _patches(len(content)).items():
        damaged = bytearray(content)
        patch(damaged)
        files[name] = directory / f"{name}.gguf"
        files[name].write_bytes(damaged)
    return files


def _patches(size: int) -> dict[str, Patch]:
    patches: dict[str, Patch] = {
        "empty": _cut(0),
        "cut in its first bytes": _cut(20),
        "cut at 100 bytes": _cut(100),
        "cut in its metadata": _cut(5000),
        "cut in its tensors": _cut(size // 2),
        "cut by a byte": _cut(size - 1),
        "text": _put(0, b"Once upon a time, there was a little file that was not a model.\n" * 40),
        "magic": _put(0, b"GGML"),
        "version 0": _put(4, struct.pack("<I", 0)),
        "version 1": _put(4, struct.pack("<I", 1)),
        "version 9": _put(4, struct.pack("<I", 9)),
        "big-endian": _put(4, struct.pack(">I", 3)),
        "tensors 2^60": _put(8, struct.pack("<Q", 1 << 60)),
        "tensors -1": _put(8, b"\xff" * 8),
        "one tensor more": _one_more(8),
        "keys 2^60": _put(16, struct.pack("<Q", 1 << 60)),
        "one key more": _one_more(16),
        "key length 2^60": _put(24, struct.pack("<Q", 1 << 60)),
        "name length 2^60": _value("general.name", struct.pack("<Q", 1 << 60)),
        "architecture unlike its keys": _value("general.architecture", struct.pack("<Q5s", 5, b"qwen2")),
        "tokens 2^60": _value("tokenizer.ggml.tokens", struct.pack("<Q", 1 << 60), skip=4),
        "tokens 2^29": _value("tokenizer.ggml.tokens", struct.pack("<Q", 1 << 29), skip=4),
        "tokens 0": _value("tokenizer.ggml.tokens", struct.pack("<Q", 0), skip=4),
        "scores 2^40": _value("tokenizer.ggml.scores", struct.pack("<Q", 1 << 40), skip=4),
        "array of arrays": _value("tokenizer.ggml.tokens", struct.pack("<I", 9)),
        "two tokens alike": _replace(b"<0x41>", b"<0x42>"),
        "a byte without a token": _replace(b"<0x41>", b"<0y41>"),
        "key repeated": _replace(b"llama.rope.freq_base", b"llama.context_length"),
        "tensor name repeated": _replace(b"blk.1.attn_q.weight", b"blk.0.attn_q.weight"),
        "tokenizer unknown to itself": _replace(b"tokenizer.ggml.model", b"tokenizer.ggml.medal"),
        "tensor shape 0": _tensor("output_norm.weight", 4, struct.pack("<Q", 0)),
        "tensor shape 2^62": _tensor("output_norm.weight", 4, struct.pack("<Q", 1 << 62)),
        "tensor shape -1": _tensor("output_norm.weight", 4, b"\xff" * 8),
        "tensor dimensions 9": _tensor("output_norm.weight", 0, struct.pack("<I", 9)),
        "tensor type 99": _tensor("output_norm.weight", 12, struct.pack("<I", 99)),
        "norm of integers": _tensor("output_norm.weight", 12, struct.pack("<I", 26)),
        "weight of integers": _tensor("blk.1.attn_q.weight", 20, struct.pack("<I", 26)),
        "tensor offset 2^63": _tensor("output_norm.weight", 16, struct.pack("<Q", 1 << 63)),
        "norm epsilon -1": _value("llama.attention.layer_norm_rms_epsilon", struct.pack("<f", -1)),
        "norm epsilon nan": _value("llama.attention.layer_norm_rms_epsilon", struct.pack("<f", float("nan"))),
        "rope scaling": _replace(b"linear", b"lunear"),
    }
    counts = {
        "llama.block_count": (0, 1, 3, 513, 2**31 - 1, 2**32 - 1),
        "llama.attention.head_count": (0, 3, 5, 2**31 - 1),
        "llama.attention.head_count_kv": (0, 3, 2**31 - 1),
        "llama.embedding_length": (0, 63, 2**31 - 1),
        "llama.feed_forward_length": (2**31 - 1,),
        "llama.context_length": (0, 2**32 - 1),
        "llama.rope.dimension_count": (0, 15, 14, 18, 2**31 - 1),
        "llama.expert_count": (1, 2000),
        "general.alignment": (0, 1, 16, 33, 2**31),
    }
    for key, numbers in counts.items():
        patches |= {f"{key} {number}": _value(key, struct.pack("<I", number)) for number in numbers}
    return patches


def _cut(length: int) -> Patch:
    def patch(content: bytearray) -> None:
        del content[length:]

    return patch


def _put(position: int, data: bytes) -> Patch:
    def patch(content: bytearray) -> None:
        content[position : position + len(data)] = data

    return patch


def _one_more(position: int) -> Patch:
    def patch(content: bytearray) -> None:
        content[position] += 1

    return patch


def _value(key: str, data: bytes, *, skip: int = 0) -> Patch:
    """Write `data` over a key's value, `skip` bytes into it."""

    def patch(content: bytearray) -> None:
        name = struct.pack("<Q", len(key)) + key.encode()
        _put(content.index(name) + len(name) + 4 + skip, data)(content)

    return patch


def _tensor(name: str, skip: int, data: bytes) -> Patch:
    """Write `data` over what follows a tensor's name: dimensions, shape, type, offset."""

    def patch(content: bytearray) -> None:
        _put(content.index(name.encode()) + len(name) + skip, data)(content)

    return patch


def _replace(old: bytes, new: bytes) -> Patch:
    assert len(old) == len(new)

    def patch(content: bytearray) -> None:
        _put(content.index(old), new)(content)

    return patch


def corruptions(good: Path, seed: int, count: int) -> list[tuple[str, bytes]]:
    """Seeded random damage to everything before the tensors' data, each with its description."""
    content, end = good.read_bytes(), data_offset(good)
    generator = np.random.default_rng(seed)
    return [_corrupt(content, end, generator) for _ in range(count)]


def _corrupt(content: bytes, end: int, generator: Any) -> tuple[str, bytes]:
    damaged = bytearray(content)
    kinds = {"bit": 0.3, "byte": 0.2, "bytes": 0.15, "number": 0.25, "cut": 0.05, "swap": 0.05}
    kind = generator.choice(list(kinds), p=list(kinds.values()))
    position = int(generator.integers(0, end - 16))
    if kind == "bit":
        damaged[position] ^= 1 << int(generator.integers(0, 8))
    elif kind == "byte":
        damaged[position] = int(generator.integers(0, 256))
    elif kind == "bytes":
        for place in generator.integers(0, end, int(generator.integers(2, 9))):
            damaged[int(place)] = int(generator.integers(0, 256))
    elif kind == "number":
        number = int(generator.choice([0, 1, 2, 3, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1]))
        damaged[position : position + 4] = struct.pack("<I", number)
    elif kind == "cut":
        del damaged[position:]
    else:
        damaged[position : position + 8] = damaged[position + 8 : position + 16]
    return f"{kind} at {position}", bytes(damaged)


def main(good: Path, seed: int, first: int, count: int) -> None:
    """Try corrupted copies of `good`, in its folder. Prints each before it is tried, and its fate."""
    silent = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(silent, None)
    llama.llama_backend_init()
    trial = good.with_name(f"trial-{seed}-{first}.gguf")
    for index, (description, content) in enumerate(corruptions(good, seed, count)):
        if index < first:
            continue
        print(index, description, end=" ", flush=True)
        trial.write_bytes(content)
        try:
            read_header(trial)
        except EntropixError as error:
            print("refused" if "\n" not in str(error) else "in many lines", flush=True)
        else:
            print("used" if use(trial) else "rejected", flush=True)


def use(path: Path) -> bool:
    """Load a model, tokenize, decode a prompt and a token. False if llama.cpp reports an error."""
    parameters = llama.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        return False
    try:
        return _generate(model)
    finally:
        llama.llama_model_free(model)


def _generate(model: Any) -> bool:
    parameters = llama.llama_context_default_params()
    parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = 256, 64, 64
    parameters.n_threads = parameters.n_threads_batch = 1
    context = llama.llama_init_from_model(model, parameters)
    if not context:
        return False
    vocabulary = llama.llama_model_get_vocab(model)
    text = "abc ÄÖ猫\n\t<s> I had\x01".encode()
    tokens = (llama.llama_token * 64)()
    n_tokens = llama.llama_tokenize(vocabulary, text, len(text), tokens, 64, True, True)
    buffer = b"\0" * 64
    for token in range(llama.llama_vocab_n_tokens(vocabulary)):
        llama.llama_token_to_piece(vocabulary, token, buffer, 64, 0, True)
        llama.llama_vocab_is_eog(vocabulary, token)
    for ids in (tokens[: max(n_tokens, 1)], [5]):
        batch = (llama.llama_token * len(ids))(*ids)
        if llama.llama_decode(context, llama.llama_batch_get_one(batch, len(ids))) == 0:
            llama.llama_get_logits_ith(context, -1)[0]
    llama.llama_free(context)
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
