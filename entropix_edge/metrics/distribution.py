"""The next-token distribution in five numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .. import native
from ..errors import MetricsError

if TYPE_CHECKING:
    from ..types import Logits


_new = tuple.__new__  # what a named tuple's own way to be made comes to, without a function of Python's


class Distribution(NamedTuple):
    """What one row of logits says at temperature 1.

    Attributes:
        best: index of the largest logit; among equals the lowest.
        maximum: the largest logit, in nats.
        log_total: log Σ e^x, in nats, so that `logits[i] - log_total` is token i's log-probability.
        entropy: H = −Σ p·log2 p, in bits.
        varentropy: V = Σ p·(log2 p + H)², in bits².
    """

    best: int
    maximum: float
    log_total: float
    entropy: float
    varentropy: float


def describe(logits: Logits, position: int) -> Distribution:
    """Measure one row of logits.

    Args:
        logits: float32, shape (n_vocab,); −inf marks tokens that cannot be.
        position: the token position that the row belongs to, for the error only.

    Raises:
        MetricsError: the row is not a distribution (NaN, +inf, or no finite value).
    """
    scratch = native.scratch(logits)
    best = native.KERNELS.describe(scratch.row, scratch.size, scratch.address)
    maximum, log_total, entropy, varentropy = scratch.described.tolist()
    native.give_back(scratch)
    if not (entropy < math.inf and varentropy < math.inf):
        raise MetricsError(_complaint(logits, position))
    return _new(Distribution, (best, maximum, log_total, entropy, varentropy))


def _complaint(logits: Logits, position: int) -> str:
    where = f"the logits at token position {position}"
    for name, found in (("NaN", np.isnan(logits)), ("+inf", np.isposinf(logits))):
        if found.any():
            count = int(found.sum())
            return f"{where} hold {count} {name} (first: token {int(found.argmax())}): they must be finite or -inf"
    return f"{where} are all -inf: at least one must be finite"


def describe_reference(logits: Logits) -> Distribution:
    """The same in numpy and float64, straight from the definitions: the oracle of the kernel."""
    x = logits.astype(np.float64)
    maximum = float(x.max())
    weights = np.exp(x - maximum)
    p = weights / weights.sum()
    log_total = maximum + math.log(weights.sum())
    possible = p > 0
    surprisal = -(x[possible] - log_total) / math.log(2)
    entropy = float((p[possible] * surprisal).sum())
    varentropy = float((p[possible] * (surprisal - entropy) ** 2).sum())
    return Distribution(int(x.argmax()), maximum, log_total, entropy, varentropy)
