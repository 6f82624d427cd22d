"""The attention of single rows from what a flash attention is computed from: query, keys, mask, sinks.

Only the cells that a row attends to are touched. Scores and weights are kept of these alone, one row after the other.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .elementary import FLAGS, PLAIN, half
from .layout import (
    CAP_SCORES,
    CELLS,
    DATA,
    DESCRIBE,
    F16,
    F32,
    KEYS,
    KEYS_CAPACITY,
    MEAN,
    MEAN_CAPACITY,
    N_ROWS,
    N_TYPES,
    NB,
    NE,
    OP_PARAMS,
    RESULTS,
    ROWS_SEEN,
    SCORES,
    SCORES_CAPACITY,
    SCRATCH,
    SCRATCH_CAPACITY,
    SOFTMAX,
    SRC,
    STAGE,
    STAGE_CAPACITY,
    TENSOR_GET,
    TO_FLOAT,
    TYPE,
)
from .nodes import are_expected, begin_layer, end_layer, fetch, first_part, on_host, place
from .pointers import (
    cap_scores,
    describe_attention,
    floats_at,
    halves_at,
    ints_at,
    softmax,
    tensor_get,
    to_float,
    words_at,
)

_MASKED = 0xFC00  # −inf as a float16
_FOUR_MASKED = np.int64(-0x03FF03FF03FF0400)  # the same four times
_CELLS = 64  # cells whose keys are turned to float32 at once, so that they stay in the nearest cache
_GAP = 64  # unwanted cells worth leaving out when keys are copied from a device
_LN2 = math.log(2.0)


# --- the cells ------------------------------------------------------------------------------------


@njit(**PLAIN)
def _attended(mask, state, n_kv, token, part):
    """How many cells a token attends to: their numbers into CELLS, what the mask adds to their scores into MEAN."""
    cells, bias = ints_at(state[CELLS]), floats_at(state[MEAN])
    if mask == 0:
        for j in range(n_kv):
            cells[j] = j
            bias[j] = np.float32(0.0)
        return n_kv
    strides = words_at(mask + NB)
    offset = token * strides[1] + (part * strides[3] if words_at(mask + NE)[3] > 1 else 0)
    address = fetch(mask, state, offset, 2 * n_kv, state[STAGE])
    row, fours = halves_at(address), words_at(address)
    count = 0
    for four in range(n_kv // 4):
        if fours[four] == _FOUR_MASKED:
            continue
        for j in range(4 * four, 4 * four + 4):
            if row[j] != _MASKED:
                cells[count] = j
                bias[count] = half(row[j])
                count += 1
    return count


# --- the scores -----------------------------------------------------------------------------------


@njit(fastmath=FLAGS, **PLAIN)
def _as_floats(source, kind, size, state, destination):
    """One key as float32."""
    target = floats_at(destination)
    if kind == F16:
        halves = halves_at(source)
        for i in range(size):
            target[i] = half(halves[i])
    elif kind == F32:
        floats = floats_at(source)
        for i in range(size):
            target[i] = floats[i]
    else:
        to_float(words_at(state[TO_FLOAT])[kind], source, destination, size)


@njit(fastmath=FLAGS, **PLAIN)
def _dots(query, keys, count, size, out):
    """The query's products with some keys, four at a time."""
    i = 0
    while i + 4 <= count:
        a, b, c, d = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for j in range(size):
            q = query[j]
            a += q * keys[i * size + j]
            b += q * keys[(i + 1) * size + j]
            c += q * keys[(i + 2) * size + j]
            d += q * keys[(i + 3) * size + j]
        out[i], out[i + 1], out[i + 2], out[i + 3] = a, b, c, d
        i += 4
    while i < count:
        a = np.float32(0.0)
        for j in range(size):
            a += query[j] * keys[i * size + j]
        out[i] = a
        i += 1


@njit(**PLAIN)
def _query(query, state, token, part):
    """Where one token's query begins, and the bytes from one head to the next: a device's was copied into SCRATCH."""
    lengths, strides = words_at(query + NE), words_at(query + NB)
    size, n_head = lengths[0], lengths[2]
    offset = token * strides[1] + part * strides[3]
    if on_host(query, state):
        return words_at(query + DATA)[0] + offset, strides[2]
    if strides[2] == 4 * size:
        tensor_get(state[TENSOR_GET], query, state[SCRATCH], offset, 4 * size * n_head)
    else:
        for h in range(n_head):
            tensor_get(state[TENSOR_GET], query, state[SCRATCH] + 4 * size * h, offset + h * strides[2], 4 * size)
    return state[SCRATCH], 4 * size


@njit(**PLAIN)
def _within_reach(state, start, count, limit):
    """Where the cells from `start` on that one transfer brings end: no more than `limit` apart, and no wide gap."""
    cells = ints_at(state[CELLS])
    stop = start + 1
    while stop < count and cells[stop] - cells[start] < limit and cells[stop] - cells[stop - 1] <= _GAP:
        stop += 1
    return stop


@njit(**PLAIN)
def _take_scores(node, state, token, part, count):
    """The query's products with the attended cells' keys into SCORES, `count` of each head."""
    keys = words_at(node + SRC)[1]
    address, stride = _query(words_at(node + SRC)[0], state, token, part)
    n_head = words_at(words_at(node + SRC)[0] + NE)[2]
    strides, n_head_kv = words_at(keys + NB), words_at(keys + NE)[2]
    is_on_host = on_host(keys, state)
    together = n_head_kv * strides[2] <= strides[1]  # a cell's heads lie beside each other
    span = n_head_kv * strides[2] if together else strides[1]  # bytes of the last cell
    cells = ints_at(state[CELLS])
    group = n_head // n_head_kv
    stop = np.int64(0)
    while stop < count:
        start, stop = stop, count
        if not is_on_host:
            stop = _within_reach(state, start, count, (state[STAGE_CAPACITY] - span) // strides[1] + 1)
        first, last = cells[start] * strides[1], cells[stop - 1] * strides[1]
        for h in range(n_head_kv):
            offset = part * strides[3] + h * strides[2]
            base = words_at(keys + DATA)[0] + offset  # where the key of cell 0 would be
            if not is_on_host:
                if h == 0 or not together:
                    tensor_get(state[TENSOR_GET], keys, state[STAGE], offset + first, last - first + span)
                base = state[STAGE] - first + (h * strides[2] if together else 0)
            scores = state[SCORES] + 4 * h * group * count
            _take_group(keys, state, base, address + h * group * stride, stride, group, start, stop, scores, count)


@njit(**PLAIN)
def _take_group(keys, state, base, address, stride, group, start, stop, scores, count):
    """The products of the heads that share keys, with those of some cells."""
    size, kind, step = words_at(keys + NE)[0], ints_at(keys + TYPE)[0], words_at(keys + NB)[1]
    cells, floats = ints_at(state[CELLS]), floats_at(state[KEYS])
    most = min(_CELLS, state[KEYS_CAPACITY] // size)
    while start < stop:
        n = min(most, stop - start)
        for i in range(n):
            _as_floats(base + cells[start + i] * step, kind, size, state, state[KEYS] + 4 * i * size)
        for g in range(group):
            _dots(floats_at(address + g * stride), floats, n, size, floats_at(scores + 4 * (g * count + start)))
        start += n


# --- the weights ----------------------------------------------------------------------------------


@njit(**PLAIN)
def _slope(head, n_head, most):
    """How much of the mask a head feels: ALiBi's slopes, and all of it without."""
    if most <= 0.0:
        return np.float32(1.0)
    whole = 1
    while 2 * whole <= n_head:
        whole *= 2
    steps = float(head + 1) if head < whole else (head - whole) + 0.5
    return np.float32(math.exp(-_LN2 * most * steps / whole))


@njit(**PLAIN)
def _take_weights(node, state, n_head, count):
    """From SCORES, the capped scores in place and the weights into SCRATCH; the scale that the scores still need."""
    parameters = floats_at(node + OP_PARAMS)
    scale, most, cap = parameters[0], np.float64(parameters[1]), parameters[2]
    sinks = words_at(node + SRC)[4]
    address = fetch(sinks, state, np.int64(0), 4 * n_head, state[KEYS]) if sinks != 0 else 0
    if cap != np.float32(0.0):
        cap_scores(state[CAP_SCORES], state[SCORES], n_head * count, scale, cap)
        scale = np.float32(1.0)
    for h in range(n_head):
        sink = floats_at(address)[h] if sinks != 0 else np.float32(-np.inf)
        scores, weights = state[SCORES] + 4 * h * count, state[SCRATCH] + 4 * h * count
        softmax(state[SOFTMAX], scores, state[MEAN], count, scale, _slope(h, n_head, most), sink, weights)
    return np.float64(scale)


# --- the node -------------------------------------------------------------------------------------


@njit(**PLAIN)
def flash_fault(node, state):
    """What forbids reading a flash attention's sources: 0 for nothing, else a key of `FAULTS`."""
    sources = words_at(node + SRC)
    query, keys, mask = sources[0], sources[1], sources[3]
    lengths, key_lengths = words_at(query + NE), words_at(keys + NE)
    size, n_head, n_kv = lengths[0], lengths[2], key_lengths[1]
    kind = ints_at(keys + TYPE)[0]
    if ints_at(query + TYPE)[0] != F32 or words_at(query + NB)[0] != 4 or key_lengths[0] != size:
        return 1
    if key_lengths[3] != lengths[3] or n_head % key_lengths[2] != 0:
        return 1
    if kind != F32 and kind != F16 and (kind >= state[N_TYPES] or words_at(state[TO_FLOAT])[kind] == 0):
        return 1
    if mask != 0:
        mask_lengths = words_at(mask + NE)
        if ints_at(mask + TYPE)[0] != F16 or mask_lengths[0] != n_kv or n_kv % 4 != 0 or mask_lengths[2] != 1:
            return 1
        if mask_lengths[1] < lengths[1] or (mask_lengths[3] != 1 and mask_lengths[3] != lengths[3]):
            return 1
    if not are_expected(state, first_part(keys), lengths[1], lengths[3]):
        return 1
    row, heads = n_head * n_kv, n_head * size
    if row > state[SCORES_CAPACITY] or max(row, heads) > state[SCRATCH_CAPACITY] or n_kv > state[MEAN_CAPACITY]:
        return 2
    strides = words_at(keys + NB)
    cell = max(strides[1], key_lengths[2] * strides[2] if key_lengths[2] * strides[2] <= strides[1] else 0)
    if max(size, n_head) > state[KEYS_CAPACITY] or max(cell, 2 * n_kv) > state[STAGE_CAPACITY]:
        return 2
    return 0


@njit(**PLAIN)
def take_flash(node, state):
    """Add the wanted rows' attention metrics of one layer to the results."""
    query, keys, mask = words_at(node + SRC)[0], words_at(node + SRC)[1], words_at(node + SRC)[3]
    lengths = words_at(query + NE)
    n_tokens, n_head, n_parts, n_kv = lengths[1], lengths[2], lengths[3], words_at(keys + NE)[1]
    first = first_part(keys)
    scores, weights, mean = state[SCORES], state[SCRATCH], state[MEAN]
    begin_layer(state)
    for slot in range(state[N_ROWS]):
        token, part = place(state, slot, first, n_tokens, n_parts)
        if token < 0:
            continue
        state[ROWS_SEEN] += 1
        count = _attended(mask, state, n_kv, token, part)
        if count == 0:
            continue
        _take_scores(node, state, token, part, count)
        scale = _take_weights(node, state, n_head, count)
        results = state[RESULTS] + 32 * slot
        describe_attention(state[DESCRIBE], weights, count, scores, n_head, count, scale, mean, results)
    end_layer(state, first, n_tokens, n_parts)
