"""The callback that llama.cpp's scheduler offers every graph node to, compiled by numba.

No Python runs between nodes. The wanted rows of the wanted layers are reduced to four numbers each: from a flash
attention's sources, or without flash attention from `kq-<layer>` (scores before scale and mask) and
`kq_soft_max-<layer>` (weights). The softmax overwrites the scores in place, so scores are copied when they appear.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .elementary import PLAIN
from .flash import flash_fault, take_flash
from .layout import (
    DATA,
    DESCRIBE,
    F32,
    FAULT,
    FIRST_PART,
    MEAN,
    MEAN_CAPACITY,
    N_ROWS,
    NB,
    NE,
    OP_PARAMS,
    PENDING,
    RESULTS,
    ROWS_SEEN,
    SCORES,
    SCORES_CAPACITY,
    SCRATCH,
    SCRATCH_CAPACITY,
    SRC,
    TENSOR_GET,
    TYPE,
)
from .nodes import (
    FLASH_NODE,
    SCORES_NODE,
    are_expected,
    begin_layer,
    end_layer,
    first_part,
    on_host,
    place,
    recognise,
)
from .pointers import describe_attention, floats_at, ints_at, tensor_get, words_at


@njit(**PLAIN)
def _copy_row(tensor, state, start, stride, n_kv, n_head, destination):
    """Bring one query's row of every head from a device: in one transfer where rows lie together."""
    if stride == n_kv:
        tensor_get(state[TENSOR_GET], tensor, destination, 4 * start, 4 * n_kv * n_head)
        return
    for h in range(n_head):
        tensor_get(state[TENSOR_GET], tensor, destination + 4 * n_kv * h, 4 * (start + h * stride), 4 * n_kv)


@njit(**PLAIN)
def _take_scores(tensor, state, layer):
    lengths = words_at(tensor + NE)
    n_kv, n_tokens, n_head, n_parts = lengths[0], lengths[1], lengths[2], lengths[3]
    keys = words_at(tensor + SRC)[0]
    if state[PENDING] != layer:  # a cap's scores follow the product's
        state[FIRST_PART] = first_part(keys)
    state[FAULT] = _fault(tensor, state)
    if state[FAULT] != 0:
        return
    state[PENDING] = layer
    is_on_host = on_host(tensor, state)
    for slot in range(state[N_ROWS]):
        token, part = place(state, slot, state[FIRST_PART], n_tokens, n_parts)
        if token < 0:
            continue
        start = n_kv * (part * n_head * n_tokens + token)
        destination = state[SCORES] + 4 * slot * n_head * n_kv
        if is_on_host:
            target = floats_at(destination)
            for h in range(n_head):
                source = floats_at(words_at(tensor + DATA)[0] + 4 * (start + h * n_kv * n_tokens))
                for j in range(n_kv):
                    target[h * n_kv + j] = source[j]
        else:
            _copy_row(tensor, state, start, n_kv * n_tokens, n_kv, n_head, destination)


@njit(**PLAIN)
def _take_weights(tensor, state, layer):
    lengths = words_at(tensor + NE)
    n_kv, n_tokens, n_head, n_parts = lengths[0], lengths[1], lengths[2], lengths[3]
    state[FAULT] = 3 if state[PENDING] != layer else _fault(tensor, state)
    if state[FAULT] != 0:
        return
    is_on_host = on_host(tensor, state)
    scale = np.float64(floats_at(tensor + OP_PARAMS)[0])
    begin_layer(state)
    for slot in range(state[N_ROWS]):
        token, part = place(state, slot, state[FIRST_PART], n_tokens, n_parts)
        if token < 0:
            continue
        start, stride = n_kv * (part * n_head * n_tokens + token), n_kv * n_tokens
        weights = words_at(tensor + DATA)[0] + 4 * start
        if not is_on_host:
            _copy_row(tensor, state, start, stride, n_kv, n_head, state[SCRATCH])
            weights, stride = state[SCRATCH], n_kv
        scores, results = state[SCORES] + 4 * slot * n_head * n_kv, state[RESULTS] + 32 * slot
        describe_attention(state[DESCRIBE], weights, stride, scores, n_head, n_kv, scale, state[MEAN], results)
        state[ROWS_SEEN] += 1
    end_layer(state, state[FIRST_PART], n_tokens, n_parts)
    state[PENDING] = -1


@njit(**PLAIN)
def _fault(tensor, state):
    """What forbids reading scores or weights: 0 for nothing, else a key of `FAULTS`."""
    lengths, strides = words_at(tensor + NE), words_at(tensor + NB)
    n_kv, n_tokens, n_head = lengths[0], lengths[1], lengths[2]
    if ints_at(tensor + TYPE)[0] != F32 or strides[0] != 4:
        return 1
    if strides[1] != 4 * n_kv or strides[2] != 4 * n_kv * n_tokens or strides[3] != 4 * n_kv * n_tokens * n_head:
        return 1
    if not are_expected(state, state[FIRST_PART], n_tokens, lengths[3]):
        return 1
    row = n_kv * n_head
    if row * state[N_ROWS] > state[SCORES_CAPACITY] or row > state[SCRATCH_CAPACITY] or n_kv > state[MEAN_CAPACITY]:
        return 2
    return 0


def observe(tensor, ask, user_data):
    """The callback: asked whether a node is wanted, then given it."""
    state = words_at(user_data)
    if state[N_ROWS] == 0:
        return not ask
    kind, layer = recognise(tensor, state)
    if ask:
        return kind != 0
    if kind == 0 or state[FAULT] != 0:
        return True
    if kind == FLASH_NODE:
        state[FAULT] = flash_fault(tensor, state)
        if state[FAULT] == 0:
            take_flash(tensor, state)
    elif kind == SCORES_NODE:
        _take_scores(tensor, state, layer)
    else:
        _take_weights(tensor, state, layer)
    return True  # False would skip the rest of the graph
