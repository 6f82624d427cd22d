"""What the heads of a layer attend to, as four numbers."""

from __future__ import annotations

import numpy as np
from numba import njit

from .elementary import BLOCK, FLAGS, PLAIN, TINY, log2


@njit(fastmath=FLAGS, **PLAIN)
def describe_attention(weights, stride, scores, n_head, n_kv, scale, mean, out):
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
