"""The callback that llama.cpp's scheduler offers every graph node to, compiled by numba.

No Python runs between nodes. It takes `kq-<layer>` (scores before scale and mask) and
`kq_soft_max-<layer>` (weights) of the wanted layers, and reduces the wanted rows to four numbers each.
The softmax overwrites the scores in place, so scores are copied when they appear.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .kernels import PLAIN, describe_attention
from .layout import (
    ALWAYS_COPY,
    BUFFER,
    DATA,
    FAULT,
    IS_HOST,
    LAYER_MASK,
    LAYERS_SEEN,
    MEAN,
    MEAN_CAPACITY,
    N_LAYER,
    N_ROWS,
    NAME,
    NB,
    NE,
    OP_PARAMS,
    PENDING,
    RESULTS,
    SCORES,
    SCORES_CAPACITY,
    SCRATCH,
    SCRATCH_CAPACITY,
    TENSOR_GET,
    TOKENS,
    TYPE,
    VIEW_SRC,
)
from .pointers import buffer_is_host, bytes_at, doubles_at, floats_at, ints_at, tensor_get, words_at

_SCORE_NODE, _WEIGHT_NODE = 1, 2
_SCORE_NAME, _WEIGHT_NAME = tuple(b"kq-"), tuple(b"kq_soft_max-")


@njit(**PLAIN)
def _starts_with(name, beginning):
    same = True
    for i in range(len(beginning)):
        same = same and name[i] == beginning[i]
    return same


@njit(**PLAIN)
def _number(name, start):
    """The decimal number from `start` to the name's end, or −1."""
    value = 0
    i = start
    while i < 64 and name[i] != 0:
        if name[i] < 48 or name[i] > 57:
            return -1
        value = value * 10 + (name[i] - 48)
        i += 1
    return value if i > start else -1


@njit(**PLAIN)
def _recognise(tensor, state):
    """Which kind of node a tensor is (0: not wanted), and its layer."""
    name = bytes_at(tensor + NAME)
    if name[0] != 107 or name[1] != 113:  # "kq"
        return 0, -1
    kind = _SCORE_NODE
    layer = -1
    if _starts_with(name, _SCORE_NAME):
        layer = _number(name, len(_SCORE_NAME))
    elif _starts_with(name, _WEIGHT_NAME):
        kind = _WEIGHT_NODE
        layer = _number(name, len(_WEIGHT_NAME))
    if layer < 0 or layer >= state[N_LAYER] or bytes_at(state[LAYER_MASK])[layer] == 0:
        return 0, -1
    return kind, layer


@njit(**PLAIN)
def _on_host(tensor, state):
    source = words_at(tensor + VIEW_SRC)[0]
    buffer = words_at((source if source != 0 else tensor) + BUFFER)[0]
    return buffer != 0 and state[ALWAYS_COPY] == 0 and buffer_is_host(state[IS_HOST], buffer) != 0


@njit(**PLAIN)
def _copy_row(tensor, state, token, n_kv, n_tokens, n_head, destination):
    """Bring one query's row of every head from a device: in one transfer where rows lie together."""
    if n_tokens == 1:
        tensor_get(state[TENSOR_GET], tensor, destination, 0, 4 * n_kv * n_head)
        return
    for h in range(n_head):
        start = 4 * n_kv * (h * n_tokens + token)
        tensor_get(state[TENSOR_GET], tensor, destination + 4 * n_kv * h, start, 4 * n_kv)


@njit(**PLAIN)
def _take_scores(tensor, state, n_kv, n_tokens, n_head):
    on_host = _on_host(tensor, state)
    for slot in range(state[N_ROWS]):
        token = ints_at(state[TOKENS])[slot]
        destination = state[SCORES] + 4 * slot * n_head * n_kv
        if on_host:
            target = floats_at(destination)
            for h in range(n_head):
                source = floats_at(words_at(tensor + DATA)[0] + 4 * n_kv * (h * n_tokens + token))
                for j in range(n_kv):
                    target[h * n_kv + j] = source[j]
        else:
            _copy_row(tensor, state, token, n_kv, n_tokens, n_head, destination)


@njit(**PLAIN)
def _take_weights(tensor, state, n_kv, n_tokens, n_head):
    on_host = _on_host(tensor, state)
    scale = np.float64(floats_at(tensor + OP_PARAMS)[0])
    for slot in range(state[N_ROWS]):
        token = ints_at(state[TOKENS])[slot]
        results = doubles_at(state[RESULTS] + 32 * slot)
        if state[LAYERS_SEEN] == 0:
            for i in range(4):
                results[i] = 0.0
        if on_host:
            weights = words_at(tensor + DATA)[0] + 4 * n_kv * token
            stride = n_tokens * n_kv
        else:
            _copy_row(tensor, state, token, n_kv, n_tokens, n_head, state[SCRATCH])
            weights = state[SCRATCH]
            stride = n_kv
        scores = floats_at(state[SCORES] + 4 * slot * n_head * n_kv)
        describe_attention(floats_at(weights), stride, scores, n_head, n_kv, scale, floats_at(state[MEAN]), results)


@njit(**PLAIN)
def _fault(tensor, state, n_kv, n_tokens, n_head):
    """What forbids reading this tensor: 0 for nothing, else a key of `FAULTS`."""
    lengths, strides = words_at(tensor + NE), words_at(tensor + NB)
    if ints_at(tensor + TYPE)[0] != 0 or lengths[3] != 1 or strides[0] != 4:
        return 1
    if strides[1] != 4 * n_kv or strides[2] != 4 * n_kv * n_tokens:
        return 1
    for slot in range(state[N_ROWS]):
        token = ints_at(state[TOKENS])[slot]
        if token < 0 or token >= n_tokens:
            return 1
    row = n_kv * n_head
    if row * state[N_ROWS] > state[SCORES_CAPACITY] or row > state[SCRATCH_CAPACITY] or n_kv > state[MEAN_CAPACITY]:
        return 2
    return 0


def attention(weights, stride, scores, n_head, n_kv, scale, mean, out):
    """`describe_attention` of one query at these addresses, alone."""
    describe_attention(
        floats_at(weights), stride, floats_at(scores), n_head, n_kv, scale, floats_at(mean), doubles_at(out)
    )


def observe(tensor, ask, user_data):
    """The callback: asked whether a node is wanted, then given it."""
    state = words_at(user_data)
    if state[N_ROWS] == 0:
        return not ask
    kind, layer = _recognise(tensor, state)
    if ask:
        return kind != 0
    if kind == 0 or state[FAULT] != 0:
        return True
    lengths = words_at(tensor + NE)
    n_kv, n_tokens, n_head = lengths[0], lengths[1], lengths[2]
    state[FAULT] = _fault(tensor, state, n_kv, n_tokens, n_head)
    if state[FAULT] != 0:
        return True
    if kind == _SCORE_NODE:
        _take_scores(tensor, state, n_kv, n_tokens, n_head)
        state[PENDING] = layer
    elif state[PENDING] != layer:
        state[FAULT] = 3
    else:
        _take_weights(tensor, state, n_kv, n_tokens, n_head)
        state[PENDING] = -1
        state[LAYERS_SEEN] += 1
    return True  # False would skip the rest of the graph
