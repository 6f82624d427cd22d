"""Tiny models that the suite writes: random weights, a byte-level tokenizer, a ChatML template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORDS = [("Ġ", "t"), ("Ġ", "."), ("Ġ.", "."), ("Ġ..", ".")]  # merges: " t", " ...", and what leads there

Weights = dict[str, npt.NDArray[np.float32]]


def byte_letters() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {byte: chr(byte) for byte in plain}
    rest = (byte for byte in range(256) if byte not in letters)
    letters |= {byte: chr(256 + index) for index, byte in enumerate(rest)}
    return [letters[byte] for byte in range(256)]


TOKENS = [*CONTROL, *byte_letters(), *("".join(pair) for pair in WORDS)]
N_VOCAB = len(TOKENS)


@dataclass(frozen=True)
class Shape:
    """The sizes of a tiny llama."""

    n_layer: int = 3
    n_embd: int = 32
    n_head: int = 4
    n_head_kv: int = 2
    n_ff: int = 48
    n_ctx: int = 512

    @property
    def head(self) -> int:
        return self.n_embd // self.n_head


def random_weights(shape: Shape, seed: int = 440, sharpness: float = 1.0) -> Weights:
    """Weights of a llama. More `sharpness` makes its output more certain."""
    random = np.random.default_rng(seed)
    kv = shape.head * shape.n_head_kv

    def matrix(rows: int, columns: int, scale: float = 0.6) -> npt.NDArray[np.float32]:
        scaled = random.standard_normal((rows, columns)) * scale / np.sqrt(columns) * 3
        return np.asarray(scaled, np.float32)

    weights: Weights = {
        "token_embd.weight": random.standard_normal((N_VOCAB, shape.n_embd)).astype(np.float32),
        "output_norm.weight": np.ones(shape.n_embd, np.float32),
        "output.weight": matrix(N_VOCAB, shape.n_embd, sharpness),
    }
    for layer in range(shape.n_layer):
        weights |= {
            f"blk.{layer}.attn_norm.weight": np.ones(shape.n_embd, np.float32),
            f"blk.{layer}.attn_q.weight": matrix(shape.n_embd, shape.n_embd),
            f"blk.{layer}.attn_k.weight": matrix(kv, shape.n_embd),
            f"blk.{layer}.attn_v.weight": matrix(kv, shape.n_embd),
            f"blk.{layer}.attn_output.weight": matrix(shape.n_embd, shape.n_embd),
            f"blk.{layer}.ffn_norm.weight": np.ones(shape.n_embd, np.float32),
            f"blk.{layer}.ffn_gate.weight": matrix(shape.n_ff, shape.n_embd),
            f"blk.{layer}.ffn_up.weight": matrix(shape.n_ff, shape.n_embd),
            f"blk.{layer}.ffn_down.weight": matrix(shape.n_embd, shape.n_ff),
        }
    return weights


def write_llama(
    path: Path,
    shape: Shape | None = None,
    weights: Weights | None = None,
    *,
    template: str | None = CHATML,
    architecture: str = "llama",
    name: str = "tiny",
    bos: int = 0,
    eos: int = 2,
    adds_bos: bool = False,
) -> Path:
    """Write a tiny F32 llama (or, without weights' meaning, another architecture's header)."""
    shape = shape or Shape()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(name)
    writer.add_file_type(0)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_rope_dimension_count(shape.head)
    writer.add_layer_norm_rms_eps(1e-5)
    add_tokenizer(writer, template, bos=bos, eos=eos, adds_bos=adds_bos)
    for name, data in (weights or random_weights(shape)).items():
        writer.add_tensor(name, data)
    return finish(writer, path)


def write_vocabulary(path: Path) -> Path:
    """Write the tokenizer and nothing else."""
    writer = gguf.GGUFWriter(path, "llama")
    add_tokenizer(writer, None)
    return finish(writer, path)


def finish(writer: Any, path: Path) -> Path:
    """Write what the writer was given."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokenizer(writer: Any, template: str | None, *, bos: int = 0, eos: int = 2, adds_bos: bool = False) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(CONTROL) + [1] * (N_VOCAB - len(CONTROL)))
    writer.add_token_merges([" ".join(pair) for pair in WORDS])
    writer.add_bos_token_id(bos)
    writer.add_eos_token_id(eos)
    writer.add_add_bos_token(adds_bos)
    if template is not None:
        writer.add_chat_template(template)


# --- the same model in numpy and float64 ----------------------------------------------------------


@dataclass(frozen=True)
class Attention:
    """One layer's attention of one sequence: scaled scores before the mask, and weights after it."""

    scores: npt.NDArray[np.float64]  # (n_head, n_tokens, n_tokens)
    weights: npt.NDArray[np.float64]


def forward(tokens: list[int], shape: Shape, weights: Weights) -> tuple[npt.NDArray[np.float64], list[Attention]]:
    """Logits (n_tokens, n_vocab) of a llama, and every layer's attention. Independent of llama.cpp."""
    w = {name: data.astype(np.float64) for name, data in weights.items()}
    x = w["token_embd.weight"][tokens]
    seen = []
    for layer in range(shape.n_layer):
        part = {name: w[f"blk.{layer}.{name}.weight"] for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        h = _norm(x, w[f"blk.{layer}.attn_norm.weight"])
        q = _rotate((h @ part["attn_q"].T).reshape(len(tokens), shape.n_head, shape.head))
        k = _rotate((h @ part["attn_k"].T).reshape(len(tokens), shape.n_head_kv, shape.head))
        v = (h @ part["attn_v"].T).reshape(len(tokens), shape.n_head_kv, shape.head)
        group = shape.n_head // shape.n_head_kv
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(shape.head)
        masked = np.where(np.tril(np.ones((len(tokens), len(tokens)), bool)), scores, -np.inf)
        p = np.exp(masked - masked.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        seen.append(Attention(scores, p))
        x = x + np.einsum("hts,shd->thd", p, v).reshape(len(tokens), -1) @ part["attn_output"].T
        h = _norm(x, w[f"blk.{layer}.ffn_norm.weight"])
        gate = h @ w[f"blk.{layer}.ffn_gate.weight"].T
        up = h @ w[f"blk.{layer}.ffn_up.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[f"blk.{layer}.ffn_down.weight"].T
    return _norm(x, w["output_norm.weight"]) @ w["output.weight"].T, seen


def _norm(x: npt.NDArray[np.float64], weight: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5) * weight)


def _rotate(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotary positions: neighbouring pairs, base 10,000."""
    tokens, _heads, size = x.shape
    angle = np.arange(tokens)[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
    cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    out = np.empty_like(x)
    out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
    return out


# --- another kind of model ------------------------------------------------------------------------


def write_mamba(path: Path, seed: int = 440) -> Path:
    """Write a tiny F32 Mamba: a model with a recurrent state and no attention."""
    random = np.random.default_rng(seed)
    n_embd, n_inner, n_state, n_conv, dt_rank, n_layer = 32, 64, 8, 4, 4, 2
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_name("tiny mamba")
    writer.add_file_type(0)
    writer.add_context_length(512)
    writer.add_embedding_length(n_embd)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(n_layer)
    writer.add_ssm_conv_kernel(n_conv)
    writer.add_ssm_inner_size(n_inner)
    writer.add_ssm_state_size(n_state)
    writer.add_ssm_time_step_rank(dt_rank)
    writer.add_layer_norm_rms_eps(1e-5)
    add_tokenizer(writer, CHATML)

    def put(name: str, *shape: int, scale: float = 1.0) -> None:
        data = random.standard_normal(shape) * scale / np.sqrt(shape[-1])
        writer.add_tensor(name, data.astype(np.float32))

    put("token_embd.weight", N_VOCAB, n_embd, scale=5.0)
    put("output.weight", N_VOCAB, n_embd, scale=5.0)
    writer.add_tensor("output_norm.weight", np.ones(n_embd, np.float32))
    for layer in range(n_layer):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", np.ones(n_embd, np.float32))
        put(f"{block}.ssm_in.weight", 2 * n_inner, n_embd)
        put(f"{block}.ssm_conv1d.weight", n_inner, n_conv)
        put(f"{block}.ssm_conv1d.bias", n_inner)
        put(f"{block}.ssm_x.weight", dt_rank + 2 * n_state, n_inner)
        put(f"{block}.ssm_dt.weight", n_inner, dt_rank)
        put(f"{block}.ssm_dt.bias", n_inner)
        rates = -np.tile(np.arange(1, n_state + 1, dtype=np.float32), (n_inner, 1))
        writer.add_tensor(f"{block}.ssm_a", rates)
        writer.add_tensor(f"{block}.ssm_d", np.ones(n_inner, np.float32))
        put(f"{block}.ssm_out.weight", n_embd, n_inner)
    return finish(writer, path)
