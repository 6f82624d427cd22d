"""Every kernel of the project: plain loops over float32, compiled by numba, vectorised by LLVM.

Bare: shapes, dtypes and finiteness are the business of the functions that call them. They neither allocate nor raise,
so that their machine code needs no numba. `fastmath=True` would let the compiler assume that no logit is infinite;
the flags below keep NaN and −inf meaningful.

A loop runs from 0 over a slice, never from a start inside an array: an index that could be negative, as far as the
compiler knows, makes it gather one number at a time.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray, njit

FLAGS = {"contract", "reassoc", "nsz", "arcp", "afn"}
PLAIN = {"error_model": "numpy"}  # no division that raises

_LOG2E = np.float32(1.4426950408889634)
_INV_LN2 = 1.4426950408889634
_BLOCK = 512  # terms summed in float32 before a double takes over: relative error near 1e-7
_FLOOR = np.float32(-87.0)  # e^x of less leaves float32's normal range, and counts as nothing
_TINY = np.float32(1.2e-38)
_SLACK = 1.0 - 1e-6  # shares that should be equal may differ by rounding
_FAN = 8  # numbers whose maximum decides whether any of them is looked at
_FIRST_LOOK = 64  # tokens sorted before it is known how many the filters keep


# --- elementary functions, in forms the compiler can vectorise ----------------------------------


@njit(inline="always", **PLAIN)
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


@njit(inline="always", **PLAIN)
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


@njit(**PLAIN)
def _parts(scratch, size):
    """What kernels work in: results, weights, indices, values and two rows of maxima, for a row of `size` logits."""
    numbers = carray(scratch, (8 + 3 * size + 16,), np.float64)
    floats = numbers[8 + 2 * size :].view(np.float32)
    width = (size + _FAN - 1) // _FAN
    return (
        numbers[:8],
        numbers[8 : 8 + size],
        numbers[8 + size : 8 + 2 * size].view(np.int64),
        floats[:size],
        floats[size : size + width],
        floats[size + width : size + width + (width + _FAN - 1) // _FAN],
    )


@njit(**PLAIN)
def _fold(numbers, maxima):
    """Maxima of `_FAN` numbers each, that stand the result's length apart.

    So every step is one of whole vectors; the maximum of neighbours is not vectorised while NaN keeps its meaning.
    """
    width = maxima.size
    for i in range(width):
        maxima[i] = numbers[i]
    start = width
    while start < numbers.size:
        part = numbers[start : start + width]
        for i in range(part.size):
            maxima[i] = part[i] if part[i] > maxima[i] else maxima[i]
        start += width


@njit(**PLAIN)
def _first_largest(numbers, middle, top):
    """Index of the largest number, the lowest among equals; any, where one is NaN."""
    _fold(numbers, middle)
    _fold(middle, top)
    largest = top[0]
    for i in range(top.size):
        largest = top[i] if top[i] > largest else largest
    first = numbers.size - 1
    for i in range(top.size):
        if top[i] == largest:
            j = i
            while j < middle.size:
                if middle[j] == largest:
                    k = j
                    while k < numbers.size:
                        if numbers[k] == largest:
                            first = min(first, k)
                        k += middle.size
                j += top.size
    return first


@njit(fastmath=FLAGS, **PLAIN)
def _describe_row(logits, middle, top):
    """Index of the maximum, maximum, log-sum-exp (nats), entropy (bits) and varentropy (bits²).

    Two passes: the maximum; then Σe, Σe·d and Σe·d² with d = x − max. Ties break towards the lower
    index. A NaN, a +inf or a row of −inf makes the sums NaN, which the caller looks for.
    """
    size = logits.size
    best = _first_largest(logits, middle, top)
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


@njit(**PLAIN)
def _precedes(a, index_a, b, index_b):
    """Whether a comes before b: the larger first, the lower index among equals."""
    return a > b or (a == b and index_a < index_b)


@njit(**PLAIN)
def _sift_down(values, indices, place, size, value, index):
    """Put a number into a heap whose root comes last, at `place` or below it."""
    child = 2 * place + 1
    while child < size:
        other = child + 1
        if other < size and _precedes(values[child], indices[child], values[other], indices[other]):
            child = other
        if _precedes(values[child], indices[child], value, index):
            break
        values[place] = values[child]
        indices[place] = indices[child]
        place = child
        child = 2 * place + 1
    values[place] = value
    indices[place] = index


@njit(**PLAIN)
def _enter(values, indices, held, value, index):
    """Let a number into the best so far: a heap with the worst at its root, once it is full. How many there are now."""
    if held < values.size:
        values[held] = value
        indices[held] = index
        held += 1
        if held == values.size:
            for place in range(held // 2 - 1, -1, -1):
                _sift_down(values, indices, place, held, values[place], indices[place])
    elif _precedes(value, index, values[0], indices[0]):
        _sift_down(values, indices, 0, held, value, index)
    return held


@njit(**PLAIN)
def _leading(logits, values, indices, middle, top):
    """Indices of the largest logits, as many as there is room for, best first; none may be NaN.

    Maxima of maxima are logits too, so that at least `count` logits reach the count-th largest of them: only what
    reaches it is looked into.
    """
    count = values.size
    _fold(logits, middle)
    _fold(middle, top)
    least = np.float32(-np.inf)
    if count <= top.size:
        held = 0
        for i in range(top.size):
            if held < count or top[i] > values[0]:
                held = _enter(values, indices, held, top[i], i)
        least = values[0]
    held = 0
    for i in range(top.size):
        j = i if top[i] >= least else middle.size
        while j < middle.size:
            k = j if middle[j] >= least else logits.size
            while k < logits.size:
                if logits[k] >= least:
                    held = _enter(values, indices, held, logits[k], k)
                    if held == count:
                        least = max(least, values[0])
                k += middle.size
            j += top.size
    for last in range(count - 1, 0, -1):
        value, index = values[last], indices[last]
        values[last] = values[0]
        indices[last] = indices[0]
        _sift_down(values, indices, 0, last, value, index)


@njit(fastmath=FLAGS, **PLAIN)
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


@njit(**PLAIN)
def _survivors(logits, maximum, temperature, top_k, top_p, min_p, quantile, scratch):
    """How many tokens the filters keep, and the mass of all that survive.

    They stand in the scratch, best first, with their weights e^((x − max)/T). Each filter keeps a leading part of the
    same ranking, so only as much of it is sorted as the filters, or a draw at `quantile` of the mass, can reach; with
    a quantile of 1 all survivors are there.
    """
    size = logits.size
    _results, weights, indices, values, middle, top = _parts(scratch, size)
    limit = size if top_k == 0 else min(top_k, size)
    count = limit if top_k > 0 else min(limit, _FIRST_LOOK)
    whole = -1.0
    while True:
        _leading(logits, values[:count], indices[:count], middle, top)
        total = 0.0
        for i in range(count):
            weights[i] = math.exp((values[i] - maximum) / temperature)
            total += weights[i]
        if count < limit:
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
                return kept, total
        if complete:
            return kept, mass
        count = min(limit, count * 8)


# --- attention ----------------------------------------------------------------------------------


@njit(fastmath=FLAGS, **PLAIN)
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


# --- the C functions: `native.SIGNATURES` ---------------------------------------------------------


def describe(logits, size, scratch):
    """Into the results: `_describe_row` of a row."""
    results, _weights, _indices, _values, middle, top = _parts(scratch, size)
    best, results[1], results[2], results[3], results[4] = _describe_row(
        carray(logits, (size,), np.float32), middle, top
    )
    results.view(np.int64)[0] = best


def draw(logits, size, maximum, temperature, top_k, top_p, min_p, uniform, scratch):
    """Inverse-CDF draw from the survivors, the most probable first.

    With `uniform` in [0, 1) the token's index; with 1, all survivors are there, their number and mass in the results.
    """
    row = carray(logits, (size,), np.float32)
    kept, mass = _survivors(row, maximum, temperature, top_k, top_p, min_p, uniform, scratch)
    results, weights, indices, _values, _middle, _top = _parts(scratch, size)
    results.view(np.int64)[0] = kept
    results[1] = mass
    target = uniform * mass
    cumulative = 0.0
    for i in range(kept):
        cumulative += weights[i]
        if cumulative > target:
            return indices[i]
    return indices[kept - 1]
