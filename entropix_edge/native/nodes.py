"""What the callback reads of a node of llama.cpp's graph: whose it is, where its bytes are, which rows are in it."""

from __future__ import annotations

import numpy as np
from numba import njit

from .elementary import PLAIN
from .layout import (
    ALWAYS_COPY,
    BUFFER,
    DATA,
    DONE,
    FLASH_OP,
    IS_HOST,
    LAYER_MASK,
    LAYERS_SEEN,
    N_BATCH,
    N_LAYER,
    N_PARTS,
    N_ROWS,
    N_WATCHED,
    NAME,
    NB,
    OP,
    RESULTS,
    SEQUENCES,
    SRC,
    TENSOR_GET,
    TOKENS,
    VIEW_OFFSET,
    VIEW_SRC,
)
from .pointers import buffer_is_host, bytes_at, doubles_at, ints_at, tensor_get, words_at

SCORES_NODE, WEIGHTS_NODE, FLASH_NODE = 1, 2, 3

_NAME_LENGTH = 64
_SPACE, _HASH, _ZERO, _NINE = b" #09"
_DASH, _L = np.int64(ord("-")), np.int64(ord("l"))  # typed: else there would be a function for each number


def _word(text):
    """Up to eight letters as the number that they are in memory."""
    return int.from_bytes(text, "little")


_KQ_, _KQ_SOFT, _KQ_SCALE = _word(b"kq-"), _word(b"kq_soft_"), _word(b"kq_scale")
_MAX_, _D_, _D_2_ = _word(b"max-"), _word(b"d-"), _word(b"d_2-")


# --- whose it is ----------------------------------------------------------------------------------


@njit(**PLAIN)
def _number_after(tensor, letter):
    """The first number after a letter that ends a tensor's name, or stands before what ggml adds to it; or −1."""
    name = bytes_at(tensor + NAME)
    number, digits = 0, -1  # digits after the letter; −1 where something else followed
    i = 0
    while i < _NAME_LENGTH and name[i] != 0:
        if name[i] == letter:
            number, digits = 0, 0
        elif digits >= 0 and _ZERO <= name[i] <= _NINE:
            number, digits = number * 10 + (name[i] - _ZERO), digits + 1
        elif digits > 0 and (name[i] == _SPACE or name[i] == _HASH):
            return number
        else:
            digits = -1
        i += 1
    return number if digits > 0 else -1


@njit(**PLAIN)
def recognise(node, state):
    """Which kind of node it is (0: not wanted), and its layer.

    The query of a flash attention is named like `Qcur-<layer>`, or else its keys like `cache_k_l<layer>`. The query
    comes first: a layer may read an earlier one's keys.
    """
    kind = FLASH_NODE
    if ints_at(node + OP)[0] == state[FLASH_OP]:
        sources = words_at(node + SRC)
        layer = _number_after(sources[0], _DASH)
        if layer < 0:
            layer = _number_after(sources[1], _L)
    else:
        letters = words_at(node + NAME)
        first, second = letters[0], letters[1]
        if first & 0xFFFF != _KQ_ & 0xFFFF:
            return 0, -1
        kind = WEIGHTS_NODE if first == _KQ_SOFT and second & 0xFFFFFFFF == _MAX_ else SCORES_NODE
        capped = first == _KQ_SCALE and (second & 0xFFFFFFFF == _D_2_ or second & 0xFFFF == _D_)
        if kind == SCORES_NODE and not capped and first & 0xFFFFFF != _KQ_:
            return 0, -1
        layer = _number_after(node, _DASH)
    if layer < 0 or layer >= state[N_LAYER] or bytes_at(state[LAYER_MASK])[layer] == 0:
        return 0, -1
    return kind, layer


# --- where its bytes are ----------------------------------------------------------------------------


@njit(**PLAIN)
def on_host(tensor, state):
    """Whether a tensor's bytes can be read where they are."""
    source = words_at(tensor + VIEW_SRC)[0]
    buffer = words_at((source if source != 0 else tensor) + BUFFER)[0]
    return buffer != 0 and state[ALWAYS_COPY] == 0 and buffer_is_host(state[IS_HOST], buffer) != 0


@njit(**PLAIN)
def fetch(tensor, state, offset, n_bytes, destination):
    """The address of some bytes of a tensor: where they are, or where they were copied to from a device."""
    if on_host(tensor, state):
        return words_at(tensor + DATA)[0] + offset
    tensor_get(state[TENSOR_GET], tensor, destination, offset, n_bytes)
    return destination


# --- which rows are in it ---------------------------------------------------------------------------


@njit(**PLAIN)
def first_part(keys):
    """The part of the cache with which a view of keys begins; −1 where that cannot be seen."""
    view = keys if words_at(keys + VIEW_SRC)[0] != 0 else words_at(keys + SRC)[0]  # or a copy of the view
    if view == 0 or words_at(view + VIEW_SRC)[0] == 0:
        return -1
    return words_at(view + VIEW_OFFSET)[0] // words_at(view + NB)[3]


@njit(**PLAIN)
def are_expected(state, first, n_tokens, n_parts):
    """Whether so many tokens of so many parts, from the first, are what the batch can hold."""
    if state[N_PARTS] == 0:
        return n_parts == 1 and n_tokens == state[N_BATCH]
    return first >= 0 and first + n_parts <= state[N_PARTS]


@njit(**PLAIN)
def place(state, slot, first, n_tokens, n_parts):
    """The token and the part in which a wanted row stands; a token of −1 where it is in another micro-batch.

    In one pool a batch is computed as it is. Of parts llama.cpp takes as many tokens of each as the shortest has,
    part after part, and what is left in further micro-batches.
    """
    token = ints_at(state[TOKENS])[slot]
    if state[N_PARTS] == 0:
        return token, 0
    sequence = ints_at(state[SEQUENCES])[slot]
    token -= ints_at(state[DONE])[sequence]
    if first <= sequence < first + n_parts and 0 <= token < n_tokens:
        return token, sequence - first
    return -1, 0


@njit(**PLAIN)
def begin_layer(state):
    """Forget the last batch's results."""
    if state[LAYERS_SEEN] == 0:
        results = doubles_at(state[RESULTS])
        for i in range(4 * state[N_ROWS]):
            results[i] = 0.0


@njit(**PLAIN)
def end_layer(state, first, n_tokens, n_parts):
    """Count a layer; after the last one of a micro-batch, its tokens."""
    state[LAYERS_SEEN] += 1
    if state[N_PARTS] != 0 and state[LAYERS_SEEN] % state[N_WATCHED] == 0:
        done = ints_at(state[DONE])
        for part in range(first, first + n_parts):
            done[part] += n_tokens
