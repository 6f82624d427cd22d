"""Every numba kernel of the project: plain loops over float32, vectorised by the compiler.

Bare: shapes, dtypes and finiteness are the business of the functions that call them. `fastmath=True`
would let the compiler assume that no logit is infinite; the flags below keep NaN and −inf meaningful.

A loop runs from 0 over a slice, never from a start inside an array: an index that could be negative, as far as the
compiler knows, makes it gather one number at a time.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

FLAGS = {"contract", "reassoc", "nsz", "arcp", "afn"}

_LOG2E = np.float32(1.4426950408889634)
_INV_LN2 = 1.4426950408889634
_BLOCK = 512  # terms summed in float32 before a double takes over: relative error near 1e-7
_FLOOR = np.float32(-87.0)  # e^x of less leaves float32's normal range, and counts as nothing
_TINY = np.float32(1.2e-38)
_SLACK = 1.0 - 1e-6  # shares that should be equal may differ by rounding
_FAN = 8  # numbers whose maximum decides whether any of them is looked at
_FIRST_LOOK = 64  # tokens sorted before it is known how many the filters keep


# --- elementary functions, in forms the compiler can vectorise ----------------------------------


@njit(inline="always")
def _exp(x):
    """e^x for float32 −87 ≤ x ≤ 0 to 2e-7: 2^n by exponent bits, 2^f by a fitted polynomial."""
    t = x * _LOG2E
    n = np.floor(t + np.float32(0.5))
    f = t - n
    p = np.float32(1.339086336507e-03)
    p = p * f + np.float32(9.676031918356e-03)
    p = p * f + np.float32(5.550357114219e-02)
    p = p * f + np.float32(2.402210748531e-01)
    p = p * f + np.float32(6.931471880262e-01)
    p = p * f + np.float32(1.0)
    bits = (np.int32(n) + np.int32(127)) << np.int32(23)
    return p * np.int32(bits).view(np.float32)


@njit(inline="always")
def _log2(x):
    """log2 of a positive normal float32 to 1e-7: exponent bits, and 2·artanh(z)/ln 2 of the rest."""
    bits = np.float32(x).view(np.int32)
    shifted = bits - np.int32(0x3F3504F3)  # so that the mantissa lies in [√½, √2)
    exponent = shifted >> np.int32(23)
    mantissa = np.int32(bits - (exponent << np.int32(23))).view(np.float32)
    z = (mantissa - np.float32(1.0)) / (mantissa + np.float32(1.0))
    z2 = z * z
    series = np.float32(1.0) + z2 * (np.float32(1 / 3) + z2 * (np.float32(1 / 5) + z2 * np.float32(1 / 7)))
    return np.float32(exponent) + np.float32(2.8853900817779268) * z * series


# --- the next-token distribution ----------------------------------------------------------------


@njit(cache=True)
def _fold(numbers):
    """Maxima of `_FAN` numbers each, that stand the result's length apart.

    So every step is one of whole vectors; the maximum of neighbours is not vectorised while NaN keeps its meaning.
    """
    width = (numbers.size + _FAN - 1) // _FAN
    maxima = numbers[:width].copy()
    for start in range(width, numbers.size, width):
        part = numbers[start : start + width]
        for i in range(part.size):
            maxima[i] = part[i] if part[i] > maxima[i] else maxima[i]
    return maxima


@njit(cache=True)
def _first_largest(numbers):
    """Index of the largest number, the lowest among equals; any, where one is NaN."""
    middle = _fold(numbers)
    top = _fold(middle)
    largest = top[0]
    for i in range(top.size):
        largest = top[i] if top[i] > largest else largest
    first = numbers.size - 1
    for i in range(top.size):
        if top[i] == largest:
            for j in range(i, middle.size, top.size):
                if middle[j] == largest:
                    for k in range(j, numbers.size, middle.size):
                        if numbers[k] == largest:
                            first = min(first, k)
    return first


@njit(cache=True, fastmath=FLAGS)
def describe_row(logits):
    """Index of the maximum, maximum, log-sum-exp (nats), entropy (bits) and varentropy (bits²).

    Two passes: the maximum; then Σe, Σe·d and Σe·d² with d = x − max. Ties break towards the lower
    index. A NaN, a +inf or a row of −inf makes the sums NaN, which the caller looks for.
    """
    size = logits.size
    best = _first_largest(logits)
    maximum = logits[best]

    total = 0.0
    first = 0.0
    second = 0.0
    for start in range(0, size, _BLOCK):
        block = logits[start : start + _BLOCK]
        block_total = np.float32(0.0)
        block_first = np.float32(0.0)
        block_second = np.float32(0.0)
        for i in range(block.size):
            d = block[i] - maximum
            d = _FLOOR if d < _FLOOR else d  # NaN compares false, and so stays
            e = _exp(d)
            block_total += e
            block_first += e * d
            block_second += e * d * d
        total += block_total
        first += block_first
        second += block_second
    mean = first / total
    log_total = math.log(total)
    entropy = (log_total - mean) * _INV_LN2
    varentropy = (second / total - mean * mean) * _INV_LN2 * _INV_LN2
    return best, float(maximum), maximum + log_total, max(entropy, 0.0), max(varentropy, 0.0)


# --- the filters and the draw -------------------------------------------------------------------


@njit(cache=True)
def _precedes(a, index_a, b, index_b):
    """Whether a comes before b: the larger first, the lower index among equals."""
    return a > b or (a == b and index_a < index_b)


@njit(cache=True)
def _sift_down(values, indices, root, size):
    """Restore a heap whose root comes last."""
    while True:
        child = 2 * root + 1
        if child >= size:
            return
        other = child + 1
        if other < size and _precedes(values[child], indices[child], values[other], indices[other]):
            child = other
        if _precedes(values[child], indices[child], values[root], indices[root]):
            return
        values[root], values[child] = values[child], values[root]
        indices[root], indices[child] = indices[child], indices[root]
        root = child


@njit(cache=True)
def _enter(values, indices, held, value, index):
    """Let a number into the best so far: a heap with the worst at its root, once it is full. How many there are now."""
    if held < values.size:
        values[held] = value
        indices[held] = index
        held += 1
        if held == values.size:
            for root in range(held // 2 - 1, -1, -1):
                _sift_down(values, indices, root, held)
    elif _precedes(value, index, values[0], indices[0]):
        values[0] = value
        indices[0] = index
        _sift_down(values, indices, 0, held)
    return held


@njit(cache=True)
def leading(logits, count):
    """Indices of the `count` largest logits, best first; none may be NaN.

    Maxima of maxima are logits too, so that at least `count` logits reach the count-th largest of them: only what
    reaches it is looked into.
    """
    middle = _fold(logits)
    top = _fold(middle)
    values = np.empty(count, np.float32)
    indices = np.empty(count, np.int64)
    least = np.float32(-np.inf)
    if count <= top.size:
        held = 0
        for i in range(top.size):
            if held < count or top[i] > values[0]:
                held = _enter(values, indices, held, top[i], i)
        least = values[0]
    held = 0
    for i in range(top.size):
        if top[i] < least:
            continue
        for j in range(i, middle.size, top.size):
            if middle[j] < least:
                continue
            for k in range(j, logits.size, middle.size):
                if logits[k] >= least:
                    held = _enter(values, indices, held, logits[k], k)
                    if held == count:
                        least = max(least, values[0])
    for last in range(count - 1, 0, -1):
        values[0], values[last] = values[last], values[0]
        indices[0], indices[last] = indices[last], indices[0]
        _sift_down(values, indices, 0, last)
    return indices


@njit(cache=True, fastmath=FLAGS)
def _partition(logits, maximum, inverse_temperature):
    """Σ e^((x − max)/T) over the whole row."""
    total = 0.0
    for start in range(0, logits.size, _BLOCK):
        block = logits[start : start + _BLOCK]
        block_total = np.float32(0.0)
        for i in range(block.size):
            d = (block[i] - maximum) * inverse_temperature
            block_total += _exp(_FLOOR if d < _FLOOR else d)
        total += block_total
    return total


@njit(cache=True)
def survivors(logits, maximum, temperature, top_k, top_p, min_p, quantile):
    """Tokens that the filters keep, best first, with their weights and the mass of all that survive.

    Each filter keeps a leading part of the same ranking, so only as much of it is sorted as the
    filters, or a draw at `quantile` of the mass, can reach; with a quantile of 1 all survivors come back.

    Returns:
        indices (int64), weights e^((x − max)/T) (float64), and the mass that weights are shares of.
    """
    size = logits.size
    limit = size if top_k == 0 else min(top_k, size)
    count = limit if top_k > 0 else min(limit, _FIRST_LOOK)
    whole = -1.0
    while True:
        indices = leading(logits, count)
        weights = np.empty(count, np.float64)
        for i in range(count):
            weights[i] = math.exp((logits[indices[i]] - maximum) / temperature)
        if count == limit:
            total = weights.sum()
        else:
            if whole < 0.0:
                whole = _partition(logits, np.float32(maximum), np.float32(1.0 / temperature))
            total = whole
        mass = 0.0
        kept = 0
        complete = count == limit
        for i in range(count):
            if i > 0 and (weights[i] <= 0.0 or weights[i] < min_p * _SLACK):
                complete = True
                break
            mass += weights[i]
            kept = i + 1
            if top_p < 1.0 and mass >= top_p * total * _SLACK:
                complete = True
                break
            if quantile < 1.0 and not complete and top_p >= 1.0 and min_p == 0.0 and mass > quantile * total:
                return indices[:kept], weights[:kept], total
        if complete:
            return indices[:kept], weights[:kept], mass
        count = min(limit, count * 8)


@njit(cache=True)
def draw_one(logits, maximum, temperature, top_k, top_p, min_p, uniform):
    """Inverse-CDF draw from the survivors, the most probable first; `uniform` in [0, 1)."""
    indices, weights, mass = survivors(logits, maximum, temperature, top_k, top_p, min_p, uniform)
    target = uniform * mass
    cumulative = 0.0
    for i in range(indices.size):
        cumulative += weights[i]
        if cumulative > target:
            return indices[i]
    return indices[indices.size - 1]


# --- attention ----------------------------------------------------------------------------------


@njit(cache=True, fastmath=FLAGS, error_model="numpy")
def describe_attention(weights, token, scores, slot, scale, mean, out):
    """Add one query's attention metrics in one layer to `out`.

    Args:
        weights: post-softmax, float32, shape (n_head, n_tokens, n_kv).
        token: the query's place on the second axis.
        scores: before scale and mask, float32, shape (n_slots, n_head, n_kv).
        slot: the query's place on the first axis of `scores`.
        scale: of the scores.
        mean: scratch, float32, at least n_kv long.
        out: float64, four numbers: entropy (bits), varentropy (bits²), agreement, interaction strength.
    """
    n_head = weights.shape[0]
    n_kv = weights.shape[2]
    for j in range(n_kv):
        mean[j] = np.float32(0.0)
    entropy_sum = 0.0
    entropy_square_sum = 0.0
    for h in range(n_head):
        row = weights[h, token]
        entropy = 0.0
        for start in range(0, n_kv, _BLOCK):
            block, means = row[start : start + _BLOCK], mean[start : start + _BLOCK]
            total = np.float32(0.0)
            for j in range(block.size):
                p = block[j]
                means[j] += p
                total += p * _log2(p if p > _TINY else _TINY)
            entropy -= total
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
        row = weights[h, token]
        score_row = scores[slot, h]
        block_difference = np.float32(0.0)
        block_strength = np.float32(0.0)
        for j in range(n_kv):
            seen = mean[j] > np.float32(0.0)
            block_difference += np.float32(abs(row[j] - mean[j] * inverse_heads))
            block_strength += np.float32(abs(score_row[j])) if seen else np.float32(0.0)
        difference += block_difference
        strength += block_strength
    mean_entropy = entropy_sum / n_head
    out[0] += max(mean_entropy, 0.0)
    out[1] += max(entropy_square_sum / n_head - mean_entropy * mean_entropy, 0.0)
    out[2] += difference / (n_head * attended)
    out[3] += strength * abs(scale) / (n_head * attended)
