"""The callback that llama.cpp's scheduler offers every graph node to, compiled by numba.

No Python runs between nodes. It takes `kq-<layer>` (scores before scale and mask) and
`kq_soft_max-<layer>` (weights) of the wanted layers, and reduces the wanted rows to four numbers each.
The softmax overwrites the scores in place, so scores are copied when they appear.
"""

from __future__ import annotations

import numpy as np
from llvmlite import binding
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .kernels import PLAIN, describe_attention
from .layout import (
    ALWAYS_COPY,
    BUFFER,
    DATA,
    FAULT,
    LAYER_MASK,
    LAYERS_SEEN,
    MEAN,
    MEAN_CAPACITY,
    N_LAYER,
    N_ROWS,
    N_SLOTS,
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
    TOKENS,
    TYPE,
    VIEW_SRC,
)

_SCORE_NODE, _WEIGHT_NODE = 1, 2
_KQ = np.frombuffer(b"kq-", np.uint8)
_KQ_SOFT_MAX = np.frombuffer(b"kq_soft_max-", np.uint8)

for _name in ("ggml_backend_tensor_get", "ggml_backend_buffer_is_host"):
    if not binding.address_of_symbol(_name):
        binding.add_symbol(_name, 1)  # not called where it is compiled
_word = types.uintp
_tensor_get = types.ExternalFunction("ggml_backend_tensor_get", types.void(_word, _word, _word, _word))
_is_host = types.ExternalFunction("ggml_backend_buffer_is_host", types.uint8(_word))


@intrinsic
def _pointer(typing_context, address):
    """An address as a pointer that `carray` takes."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.uintp), generate


@njit(**PLAIN)
def _read_word(address):
    return carray(_pointer(np.uintp(address)), (1,), np.int64)[0]


@njit(**PLAIN)
def _starts_with(name, prefix):
    same = True
    for i in range(prefix.size):
        same = same and name[i] == prefix[i]
    return same


@njit(**PLAIN)
def _number(name, start):
    """The decimal number from `start` to the name's end, or −1."""
    value = 0
    i = start
    while i < name.size and name[i] != 0:
        if name[i] < 48 or name[i] > 57:
            return -1
        value = value * 10 + (name[i] - 48)
        i += 1
    return value if i > start else -1


@njit(**PLAIN)
def _recognise(tensor, state):
    """Which kind of node a tensor is (0: not wanted), and its layer."""
    name = carray(_pointer(np.uintp(tensor + NAME)), (64,), np.uint8)
    if name[0] != 107 or name[1] != 113:  # "kq"
        return 0, -1
    kind = 0
    layer = -1
    if _starts_with(name, _KQ):
        kind = _SCORE_NODE
        layer = _number(name, _KQ.size)
    elif _starts_with(name, _KQ_SOFT_MAX):
        kind = _WEIGHT_NODE
        layer = _number(name, _KQ_SOFT_MAX.size)
    if layer < 0 or layer >= state[N_LAYER]:
        return 0, -1
    mask = carray(_pointer(np.uintp(state[LAYER_MASK])), (state[N_LAYER],), np.uint8)
    return (kind, layer) if mask[layer] else (0, -1)


@njit(**PLAIN)
def _on_host(tensor, state):
    source = _read_word(tensor + VIEW_SRC)
    buffer = _read_word((source if source != 0 else np.int64(tensor)) + BUFFER)
    return buffer != 0 and state[ALWAYS_COPY] == 0 and _is_host(np.uintp(buffer)) != 0


@njit(**PLAIN)
def _copy_row(tensor, token, n_kv, n_tokens, n_head, destination):
    """Bring one query's row of every head from a device: in one transfer where rows lie together."""
    if n_tokens == 1:
        _tensor_get(np.uintp(tensor), np.uintp(destination), np.uintp(0), np.uintp(4 * n_kv * n_head))
        return
    for h in range(n_head):
        offset = 4 * n_kv * (h * n_tokens + token)
        _tensor_get(np.uintp(tensor), np.uintp(destination + 4 * n_kv * h), np.uintp(offset), np.uintp(4 * n_kv))


@njit(**PLAIN)
def _take_scores(tensor, state, tokens, n_kv, n_tokens, n_head):
    on_host = _on_host(tensor, state)
    for slot in range(tokens.size):
        destination = state[SCORES] + 4 * slot * n_head * n_kv
        if on_host:
            source = carray(_pointer(np.uintp(_read_word(tensor + DATA))), (n_head, n_tokens, n_kv), np.float32)
            target = carray(_pointer(np.uintp(destination)), (n_head, n_kv), np.float32)
            for h in range(n_head):
                for j in range(n_kv):
                    target[h, j] = source[h, tokens[slot], j]
        else:
            _copy_row(tensor, tokens[slot], n_kv, n_tokens, n_head, destination)


@njit(**PLAIN)
def _take_weights(tensor, state, tokens, n_kv, n_tokens, n_head):
    on_host = _on_host(tensor, state)
    scale = float(carray(_pointer(np.uintp(tensor + OP_PARAMS)), (1,), np.float32)[0])
    scores = carray(_pointer(np.uintp(state[SCORES])), (tokens.size, n_head, n_kv), np.float32)
    mean = carray(_pointer(np.uintp(state[MEAN])), (n_kv,), np.float32)
    results = carray(_pointer(np.uintp(state[RESULTS])), (tokens.size, 4), np.float64)
    for slot in range(tokens.size):
        if state[LAYERS_SEEN] == 0:
            for i in range(4):
                results[slot, i] = 0.0
        if on_host:
            address = _read_word(tensor + DATA)
            weights = carray(_pointer(np.uintp(address)), (n_head, n_tokens, n_kv), np.float32)
            describe_attention(weights, tokens[slot], scores, slot, scale, mean, results[slot])
        else:
            _copy_row(tensor, tokens[slot], n_kv, n_tokens, n_head, state[SCRATCH])
            weights = carray(_pointer(np.uintp(state[SCRATCH])), (n_head, 1, n_kv), np.float32)
            describe_attention(weights, np.int32(0), scores, slot, scale, mean, results[slot])


@njit(**PLAIN)
def _fault(tensor, state, tokens, n_kv, n_tokens, n_head):
    """What forbids reading this tensor: 0 for nothing, else a key of `FAULTS`."""
    kind = carray(_pointer(np.uintp(tensor + TYPE)), (1,), np.int32)[0]
    if kind != 0 or _read_word(tensor + NE + 24) != 1 or _read_word(tensor + NB) != 4:
        return 1
    if _read_word(tensor + NB + 8) != 4 * n_kv or _read_word(tensor + NB + 16) != 4 * n_kv * n_tokens:
        return 1
    for token in tokens:
        if token < 0 or token >= n_tokens:
            return 1
    row = n_kv * n_head
    if row * tokens.size > state[SCORES_CAPACITY] or row > state[SCRATCH_CAPACITY] or n_kv > state[MEAN_CAPACITY]:
        return 2
    return 0


def observe(tensor, ask, user_data):
    """The callback: asked whether a node is wanted, then given it."""
    state = carray(_pointer(np.uintp(user_data)), (N_SLOTS,), np.int64)
    if state[N_ROWS] == 0:
        return not ask
    kind, layer = _recognise(tensor, state)
    if ask:
        return kind != 0
    if kind == 0 or state[FAULT] != 0:
        return True
    tokens = carray(_pointer(np.uintp(state[TOKENS])), (state[N_ROWS],), np.int32)
    n_kv = _read_word(tensor + NE)
    n_tokens = _read_word(tensor + NE + 8)
    n_head = _read_word(tensor + NE + 16)
    state[FAULT] = _fault(tensor, state, tokens, n_kv, n_tokens, n_head)
    if state[FAULT] != 0:
        return True
    if kind == _SCORE_NODE:
        _take_scores(tensor, state, tokens, n_kv, n_tokens, n_head)
        state[PENDING] = layer
    elif state[PENDING] != layer:
        state[FAULT] = 3
    else:
        _take_weights(tensor, state, tokens, n_kv, n_tokens, n_head)
        state[PENDING] = -1
        state[LAYERS_SEEN] += 1
    return True  # False would skip the rest of the graph
