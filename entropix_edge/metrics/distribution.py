"""The next-token distribution in five numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import MetricsError
from . import kernels

if TYPE_CHECKING:
    from ..types import Logits


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
    distribution = Distribution(*kernels.describe_row(logits))
    if not (distribution.entropy < math.inf and distribution.varentropy < math.inf):
        raise MetricsError(_complaint(logits, position))
    return distribution


def is_compiled() -> bool:
    """Whether numba's cache has the kernels of a step, as far as a look at its folder tells."""
    folder = Path(kernels.draw_one.stats.cache_path)
    return any(folder.glob(f"kernels.{kernels.draw_one.__name__}*.nbi"))  # the last one to be compiled


def warm_up() -> None:
    """Compile the kernels of a step, or read them from numba's cache."""
    logits = np.zeros(4, np.float32)
    kernels.describe_row(logits)
    kernels.draw_one(logits, 0.0, 1.0, 2, 0.9, 0.1, 0.5)


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
