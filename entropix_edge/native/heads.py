"""The arithmetic of attention: capped scores, weights, and what the heads of a layer attend to as four numbers."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .elementary import BLOCK, FLAGS, FLOOR, PLAIN, TINY, exp, log2
from .pointers import doubles_at, floats_at


@njit(fastmath=FLAGS, **PLAIN)
def _cap(scores, count, scale, cap):
    """cap·tanh(scale·score / cap), in place."""
    factor = np.float32(-2.0 * abs(scale) / cap)
    for i in range(count):
        x = scores[i]
        d = abs(x) * factor
        e = exp(FLOOR if d < FLOOR else d)
        size = cap * (np.float32(1.0) - e) / (np.float32(1.0) + e)
        scores[i] = size if (x < np.float32(0.0)) == (scale < np.float32(0.0)) else -size


@njit(fastmath=FLAGS | {"nnan"}, **PLAIN)
def _largest(scores, bias, count, scale, slope):
    largest = scores[0] * scale + bias[0] * slope
    for i in range(count):
        x = scores[i] * scale + bias[i] * slope
        largest = x if x > largest else largest
    return largest


@njit(fastmath=FLAGS, **PLAIN)
def _weigh(scores, bias, count, scale, slope, sink, weights):
    """e^(score + bias), over their sum and the sink's."""
    largest = max(_largest(scores, bias, count, scale, slope), sink)
    total = math.exp(np.float64(sink) - np.float64(largest))
    start = 0
    while start < count:
        block = np.float32(0.0)
        for i in range(start, min(start + BLOCK, count)):
            d = scores[i] * scale + bias[i] * slope - largest
            e = exp(FLOOR if d < FLOOR else d)
            e = e if d > FLOOR else np.float32(0.0)
            weights[i] = e
            block += e
        total += block
        start += BLOCK
    inverse = np.float32(1.0 / total)
    for i in range(count):
        weights[i] *= inverse


@njit(fastmath=FLAGS, **PLAIN)
def _describe(weights, stride, scores, n_head, n_kv, scale, mean, out):
    """Add one query's attention metrics in one layer to `out`.

    Args:
        weights: float32, post-softmax, n_kv of each head.
        stride: from one head's weights to the next one's.
        scores: float32, before scale and mask, shape (n_head, n_kv).
        n_head: heads of the layer.
        n_kv: cells, masked ones included.
        scale: of the scores.
        mean: scratch, float32, at least n_kv long.
        out: float64, four numbers: entropy (bits), varentropy (bits²), agreement, interaction strength.
    """
    for j in range(n_kv):
        mean[j] = np.float32(0.0)
    entropy_sum = 0.0
    entropy_square_sum = 0.0
    for h in range(n_head):
        entropy = 0.0
        start = 0
        while start < n_kv:
            total = np.float32(0.0)
            for j in range(start, min(start + BLOCK, n_kv)):
                p = weights[h * stride + j]
                mean[j] += p
                total += p * log2(p if p > TINY else TINY)
            entropy -= total
            start += BLOCK
        entropy_sum += entropy
        entropy_square_sum += entropy * entropy
    attended = 0
    for j in range(n_kv):
        attended += 1 if mean[j] > np.float32(0.0) else 0
    if attended == 0:
        return
    inverse_heads = np.float32(1.0 / n_head)
    difference = 0.0
    strength = 0.0
    for h in range(n_head):
        block_difference = np.float32(0.0)
        block_strength = np.float32(0.0)
        for j in range(n_kv):
            seen = mean[j] > np.float32(0.0)
            block_difference += np.float32(abs(weights[h * stride + j] - mean[j] * inverse_heads))
            block_strength += np.float32(abs(scores[h * n_kv + j])) if seen else np.float32(0.0)
        difference += block_difference
        strength += block_strength
    mean_entropy = entropy_sum / n_head
    out[0] += max(mean_entropy, 0.0)
    out[1] += max(entropy_square_sum / n_head - mean_entropy * mean_entropy, 0.0)
    out[2] += difference / (n_head * attended)
    out[3] += strength * abs(scale) / (n_head * attended)


# --- the C functions: `signatures.SIGNATURES` -----------------------------------------------------


def cap_scores(scores, count, scale, cap):
    """`_cap` of scores at an address."""
    _cap(floats_at(scores), count, np.float32(scale), np.float32(cap))


def softmax(scores, bias, count, scale, slope, sink, weights):
    """`_weigh` of numbers at these addresses."""
    scale, slope, sink = np.float32(scale), np.float32(slope), np.float32(sink)
    _weigh(floats_at(scores), floats_at(bias), count, scale, slope, sink, floats_at(weights))


def attention(weights, stride, scores, n_head, n_kv, scale, mean, out):
    """`_describe` of one query at these addresses."""
    _describe(floats_at(weights), stride, floats_at(scores), n_head, n_kv, scale, floats_at(mean), doubles_at(out))
