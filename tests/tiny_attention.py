"""Tiny models whose layers add nothing, and their attention in numpy: what reaches every layer is the embedding.

So a layer's queries and keys are known to float32's precision, however llama.cpp computes what attention gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from tiny_gguf import CHATML, Attention, Shape, Weights, add_tokenizer, finish, random_weights

from entropix_edge.metrics import attention_reference
from entropix_edge.types import AttentionMetrics

Array = npt.NDArray[np.float64]

N_EXPERT = 2
_ADDED = ("attn_output.weight", "ffn_down.weight")  # what a layer adds to what reaches it


@dataclass(frozen=True)
class Kind:
    """How an architecture attends.

    Attributes:
        architecture: llama.cpp's name.
        rotary: which numbers of a head turn together: neighbours, halves, or none.
        window: tokens that every other layer sees, the first among them; 0 for no window.
        cap: of the scores; 0 for none.
        bias: ALiBi's largest; 0 for none.
        sinks: whether each head has one.
    """

    architecture: str
    rotary: str = "neighbours"
    window: int = 0
    cap: float = 0.0
    bias: float = 0.0
    sinks: bool = False


LLAMA = Kind("llama")
GEMMA = Kind("gemma2", rotary="halves", window=5, cap=3.0)
REFACT = Kind("refact", rotary="none", bias=8.0)
GPT = Kind("gpt-oss", rotary="halves", window=5, sinks=True)
KINDS = (LLAMA, GEMMA, REFACT, GPT)


@dataclass(frozen=True)
class Still:
    """A tiny model whose layers add nothing."""

    kind: Kind
    shape: Shape
    weights: Weights

    @classmethod
    def random(cls, kind: Kind, shape: Shape | None = None) -> Still:
        """One with random weights."""
        shape = shape or Shape()
        weights = random_weights(shape, seed=44)
        random = np.random.default_rng(45)
        for layer in range(shape.n_layer):
            for name in _ADDED:
                weights[f"blk.{layer}.{name}"] = np.zeros_like(weights[f"blk.{layer}.{name}"])
            if kind.sinks:
                weights[f"blk.{layer}.attn_sinks.weight"] = random.normal(size=shape.n_head).astype(np.float32)
        return cls(kind, shape, weights)

    def write(self, path: Path) -> Path:
        """Write it as a GGUF file."""
        shape, kind = self.shape, self.kind
        writer = gguf.GGUFWriter(path, kind.architecture)
        writer.add_name("tiny")
        writer.add_file_type(0)
        writer.add_context_length(shape.n_ctx)
        writer.add_embedding_length(shape.n_embd)
        writer.add_block_count(shape.n_layer)
        writer.add_feed_forward_length(shape.n_ff)
        writer.add_head_count(shape.n_head)
        writer.add_head_count_kv(shape.n_head_kv)
        writer.add_key_length(shape.head)
        writer.add_value_length(shape.head)
        writer.add_layer_norm_rms_eps(1e-5)
        if kind.window:
            writer.add_sliding_window(kind.window)
        if kind.cap:
            writer.add_attn_logit_softcapping(kind.cap)
        add_tokenizer(writer, CHATML)
        weights = self.weights
        if kind is GEMMA:
            weights = _with_post_norms(weights, shape)
        if kind is GPT:
            writer.add_expert_count(N_EXPERT)
            writer.add_expert_used_count(1)
            writer.add_expert_feed_forward_length(shape.n_ff)
            weights = _with_experts(weights, shape)
        for name, data in weights.items():
            writer.add_tensor(name, data)
        return finish(writer, path)

    def attention(self, tokens: list[int], layer: int, stored: Callable[[Array], Array]) -> Attention:
        """One layer's scores and weights.

        Args:
            tokens: of one sequence.
            layer: from 0.
            stored: what keys, (n_tokens, n_head_kv, head), have become when they are read.
        """
        shape, kind = self.shape, self.kind
        x = self.weights["token_embd.weight"].astype(np.float64)[tokens]
        if kind is GEMMA:
            x = x * np.sqrt(shape.n_embd)
        x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5)
        q = self._project(x, f"blk.{layer}.attn_q.weight", shape.n_head)
        k = stored(self._project(x, f"blk.{layer}.attn_k.weight", shape.n_head_kv))
        k = np.repeat(k, shape.n_head // shape.n_head_kv, axis=1)
        scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(shape.head)
        if kind.cap:
            scores = kind.cap * np.tanh(scores / kind.cap)
        distance = np.arange(len(tokens))[:, None] - np.arange(len(tokens))[None, :]
        seen = distance >= 0
        if kind.window and layer % 2 == 0:
            seen &= distance < kind.window
        masked = np.where(seen, scores - self._slopes()[:, None, None] * distance, -np.inf)
        sinks = self.weights[f"blk.{layer}.attn_sinks.weight"] if kind.sinks else np.full(shape.n_head, -np.inf)
        sinks = np.broadcast_to(sinks[:, None, None], (*masked.shape[:2], 1))
        p = np.exp(masked)
        return Attention(scores, p / (p.sum(axis=-1, keepdims=True) + np.exp(sinks)))

    def metrics(self, tokens: list[int], layers: tuple[int, ...], stored: Callable[[Array], Array]) -> AttentionMetrics:
        """The last position's metrics, averaged over layers, by the definitions."""
        found = []
        for layer in layers:
            seen = self.attention(tokens, layer, stored)
            found.append(attention_reference(seen.weights[:, -1], seen.scores[:, -1]))
        columns = zip(*((m.entropy, m.varentropy, m.agreement, m.interaction_strength) for m in found), strict=True)
        return AttentionMetrics(*(float(np.mean(column)) for column in columns))

    def _project(self, x: Array, name: str, heads: int) -> Array:
        return _rotated((x @ self.weights[name].astype(np.float64).T).reshape(len(x), heads, -1), self.kind.rotary)

    def _slopes(self) -> Array:
        """ALiBi's: a geometric series for the largest power of two of heads, and for the rest the one between."""
        heads = self.shape.n_head
        whole = 2 ** int(np.log2(heads))
        steps = [h + 1.0 if h < whole else h - whole + 0.5 for h in range(heads)]
        return np.asarray(2.0 ** (-self.kind.bias * np.array(steps) / whole)) * (self.kind.bias > 0)


def half(keys: Array) -> Array:
    """What an F16 cache keeps, and what llama.cpp makes of an F32 cache for flash attention."""
    return keys.astype(np.float32).astype(np.float16).astype(np.float64)


def exact(keys: Array) -> Array:
    """What an F32 cache keeps."""
    return keys


def _rotated(x: Array, rotary: str) -> Array:
    """Rotary positions, base 10,000."""
    if rotary == "none":
        return x
    tokens, _heads, size = x.shape
    angle = np.arange(tokens)[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
    cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    first = np.s_[..., 0::2] if rotary == "neighbours" else np.s_[..., : size // 2]
    second = np.s_[..., 1::2] if rotary == "neighbours" else np.s_[..., size // 2 :]
    out = np.empty_like(x)
    out[first] = x[first] * cos - x[second] * sin
    out[second] = x[first] * sin + x[second] * cos
    return out


def _with_post_norms(weights: Weights, shape: Shape) -> Weights:
    """As Gemma 2 wants them."""
    found = {name: data for name, data in weights.items() if name != "output.weight"}
    for layer in range(shape.n_layer):
        for name in ("post_attention_norm", "post_ffw_norm"):
            found[f"blk.{layer}.{name}.weight"] = np.ones(shape.n_embd, np.float32)
    return found


def _with_experts(weights: Weights, shape: Shape) -> Weights:
    """As gpt-oss wants them: no expert says anything."""
    found = {name: data for name, data in weights.items() if ".ffn_" not in name}
    for layer in range(shape.n_layer):
        block = f"blk.{layer}"
        found[f"{block}.post_attention_norm.weight"] = np.ones(shape.n_embd, np.float32)
        found[f"{block}.attn_output.bias"] = np.zeros(shape.n_embd, np.float32)
        found[f"{block}.ffn_gate_inp.weight"] = np.ones((N_EXPERT, shape.n_embd), np.float32)
        found[f"{block}.ffn_gate_inp.bias"] = np.zeros(N_EXPERT, np.float32)
        for name, rows, columns in (("gate", shape.n_ff, shape.n_embd), ("up", shape.n_ff, shape.n_embd)):
            found[f"{block}.ffn_{name}_exps.weight"] = np.ones((N_EXPERT, rows, columns), np.float32)
            found[f"{block}.ffn_{name}_exps.bias"] = np.zeros((N_EXPERT, rows), np.float32)
        found[f"{block}.ffn_down_exps.weight"] = np.zeros((N_EXPERT, shape.n_embd, shape.n_ff), np.float32)
        found[f"{block}.ffn_down_exps.bias"] = np.zeros((N_EXPERT, shape.n_embd), np.float32)
    return found
