"""The kernels of the next-token distribution: plain loops over float32, compiled by numba, vectorised by LLVM.

Bare: shapes, dtypes and finiteness are the business of the functions that call them. They neither allocate nor raise,
so that their machine code needs no numba.

They work on pointers: an array's index could be negative, as far as the compiler knows, and makes it gather one number
at a time; and arrays take numba half as long again to compile.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .elementary import BLOCK, FLAGS, FLOOR, PLAIN, exp
from .heads import attention, cap_scores, softmax
from .pointers import as_double, as_word, doubles_at, floats_at, from_word, words_at
from .scratch import (
    COUNT,
    ENTROPY,
    LOG_TOTAL,
    MASS,
    MAXIMUM,
    VARENTROPY,
    folded,
    indices_at,
    maxima_at,
    top_maxima_at,
    values_at,
    weights_at,
)

__all__ = ["attention", "cap_scores", "describe", "draw", "softmax"]

_INV_LN2 = 1.4426950408889634
_SLACK = 1.0 - 1e-6  # shares that should be equal may differ by rounding
_ROOT = np.int64(0)  # typed: of a plain 0, numba would make functions of their own
_FIRST_LOOK = 64  # tokens sorted before it is known how many the filters keep


# --- the next-token distribution ----------------------------------------------------------------


_folded = njit(**PLAIN)(folded)
_weights_at, _indices_at = njit(**PLAIN)(weights_at), njit(**PLAIN)(indices_at)
_values_at = njit(**PLAIN)(values_at)
_maxima_at, _top_maxima_at = njit(**PLAIN)(maxima_at), njit(**PLAIN)(top_maxima_at)


@njit(**PLAIN)
def _fold(numbers, size, maxima):
    """Maxima of `FAN` numbers each, that stand the result's length apart.

    So every step is one of whole vectors; the maximum of neighbours is not vectorised while NaN keeps its meaning.
    """
    width = _folded(size)
    for i in range(width):
        maxima[i] = numbers[i]
    start = width
    while start < size:
        for i in range(min(width, size - start)):
            number = numbers[start + i]
            maxima[i] = number if number > maxima[i] else maxima[i]
        start += width


@njit(**PLAIN)
def _first_largest(logits, size, middle, top):
    """Index of the largest logit, the lowest among equals; any, where one is NaN."""
    n_middle = _folded(size)
    n_top = _folded(n_middle)
    _fold(logits, size, middle)
    _fold(middle, n_middle, top)
    largest = top[0]
    for i in range(n_top):
        largest = top[i] if top[i] > largest else largest
    first = size - 1
    for i in range(n_top):
        j = i if top[i] == largest else n_middle
        while j < n_middle:
            k = j if middle[j] == largest else size
            while k < size:
                if logits[k] == largest:
                    first = min(first, k)
                k += n_middle
            j += n_top
    return first


@njit(fastmath=FLAGS, **PLAIN)
def _sums(logits, size, maximum):
    """Σe, Σe·d and Σe·d² with d = x − maximum and e = e^d."""
    total = 0.0
    first = 0.0
    second = 0.0
    start = 0
    while start < size:
        block_total = np.float32(0.0)
        block_first = np.float32(0.0)
        block_second = np.float32(0.0)
        for i in range(min(BLOCK, size - start)):
            d = logits[start + i] - maximum
            d = FLOOR if d < FLOOR else d  # NaN compares false, and so stays
            e = exp(d)
            block_total += e
            block_first += e * d
            block_second += e * d * d
        total += block_total
        first += block_first
        second += block_second
        start += BLOCK
    return total, first, second


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
def _enter(values, indices, count, held, value, index):
    """Let a number into the `count` best so far, a heap with the worst at its root once they are full.

    Returns:
        How many there are now.
    """
    if held < count:
        values[held] = value
        indices[held] = index
        held += 1
        if held == count:
            for place in range(held // 2 - 1, -1, -1):
                _sift_down(values, indices, place, held, values[place], indices[place])
    elif _precedes(value, index, values[0], indices[0]):
        _sift_down(values, indices, _ROOT, held, value, index)
    return held


@njit(**PLAIN)
def _leading(logits, size, count, values, indices, middle, top):
    """The `count` largest logits and their indices, best first; none may be NaN.

    Maxima of maxima are logits too, so that at least `count` logits reach the count-th largest of them: only what
    reaches it is looked into.
    """
    n_middle = _folded(size)
    n_top = _folded(n_middle)
    _fold(logits, size, middle)
    _fold(middle, n_middle, top)
    least = np.float32(-np.inf)
    held = _ROOT
    if count <= n_top:
        for i in range(n_top):
            if held < count or top[i] > values[0]:
                held = _enter(values, indices, count, held, top[i], i)
        least = values[0]
        held = _ROOT
    for i in range(n_top):
        j = i if top[i] >= least else n_middle
        while j < n_middle:
            k = j if middle[j] >= least else size
            while k < size:
                if logits[k] >= least:
                    held = _enter(values, indices, count, held, logits[k], k)
                    if held == count:
                        least = max(least, values[0])
                k += n_middle
            j += n_top
    for last in range(count - 1, 0, -1):
        value, index = values[last], indices[last]
        values[last] = values[0]
        indices[last] = indices[0]
        _sift_down(values, indices, _ROOT, last, value, index)


@njit(fastmath=FLAGS, **PLAIN)
def _partition(logits, size, maximum, inverse_temperature):
    """Σ e^((x − max)/T) over the whole row."""
    total = 0.0
    start = 0
    while start < size:
        block_total = np.float32(0.0)
        for i in range(min(BLOCK, size - start)):
            d = (logits[start + i] - maximum) * inverse_temperature
            block_total += exp(FLOOR if d < FLOOR else d)
        total += block_total
        start += BLOCK
    return total


@njit(**PLAIN)
def _survivors(
    logits, size, maximum, temperature, top_k, top_p, min_p, quantile, weights, indices, values, middle, top
):
    """How many tokens the filters keep, and the mass of all that survive.

    Their indices come best first, with weights e^((x − max)/T). Each filter keeps a leading part of the same ranking,
    so only as much of it is sorted as the filters, or a draw at `quantile` of the mass, can reach; with a quantile of 1
    all survivors are there.
    """
    limit = size if top_k == 0 else min(top_k, size)
    count = limit if top_k > 0 else min(limit, _FIRST_LOOK)
    whole = -1.0
    while True:
        _leading(logits, size, count, values, indices, middle, top)
        total = 0.0
        for i in range(count):
            weights[i] = math.exp((values[i] - maximum) / temperature)
            total += weights[i]
        if count < limit:
            if whole < 0.0:
                whole = _partition(logits, size, np.float32(maximum), np.float32(1.0 / temperature))
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


@njit(**PLAIN)
def _describe(logits, size, scratch):
    """The first index of the maximum; in the results maximum, log-sum-exp (nats), entropy (bits), varentropy (bits²).

    Two passes: the maximum; then the sums. A NaN, a +inf or a row of −inf makes them NaN, which the caller looks for.
    """
    row = floats_at(logits)
    best = _first_largest(row, size, floats_at(_maxima_at(scratch, size)), floats_at(_top_maxima_at(scratch, size)))
    maximum = row[best]
    total, first, second = _sums(row, size, maximum)
    mean = first / total
    log_total = math.log(total)
    results = doubles_at(scratch)
    results[MAXIMUM] = maximum
    results[LOG_TOTAL] = maximum + log_total
    results[ENTROPY] = max((log_total - mean) * _INV_LN2, 0.0)
    results[VARENTROPY] = max((second / total - mean * mean) * _INV_LN2 * _INV_LN2, 0.0)
    return best


@njit(**PLAIN)
def _draw(logits, size, maximum, temperature, top_k, top_p, min_p, uniform, scratch):
    """Inverse-CDF draw from the survivors, the most probable first.

    With `uniform` in [0, 1) the token's index; with 1, all survivors are there, their number and mass in the results.
    """
    row = floats_at(logits)
    weights = doubles_at(_weights_at(scratch))
    indices = words_at(_indices_at(scratch, size))
    values = floats_at(_values_at(scratch, size))
    middle, top = floats_at(_maxima_at(scratch, size)), floats_at(_top_maxima_at(scratch, size))
    kept, mass = _survivors(
        row, size, maximum, temperature, top_k, top_p, min_p, uniform, weights, indices, values, middle, top
    )
    words_at(scratch)[COUNT] = kept
    doubles_at(scratch)[MASS] = mass
    target = uniform * mass
    cumulative = 0.0
    for i in range(kept):
        cumulative += weights[i]
        if cumulative > target:
            return indices[i]
    return indices[kept - 1]


# --- the C functions: `signatures.SIGNATURES` -----------------------------------------------------


def describe(_self, arguments, _count):
    """`_describe` of numbers that are objects; so is the result."""
    given = words_at(arguments)
    return from_word(_describe(as_word(given[0]), as_word(given[1]), as_word(given[2])))


def draw(_self, arguments, _count):
    """`_draw` of numbers that are objects; so is the result."""
    given = words_at(arguments)
    return from_word(
        _draw(
            as_word(given[0]),
            as_word(given[1]),
            as_double(given[2]),
            as_double(given[3]),
            as_word(given[4]),
            as_double(given[5]),
            as_double(given[6]),
            as_double(given[7]),
            as_word(given[8]),
        )
    )
