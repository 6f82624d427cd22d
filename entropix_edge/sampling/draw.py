"""temperature → top_k → top_p → min_p → renormalise → one inverse-CDF draw.

Every filter keeps the most probable part of what it is given, ties break towards the lower token id,
and at least one token always survives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import native

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..metrics import Distribution
    from ..types import Logits, SamplerSettings


def draw(logits: Logits, distribution: Distribution, settings: SamplerSettings, uniform: float) -> int:
    """Draw a token id.

    Args:
        logits: float32, shape (n_vocab,).
        distribution: of the same logits; tells their maximum.
        settings: the filters.
        uniform: a number in [0, 1) from the caller's own stream. The most probable token comes first, so the lowest
            of several numbers draws the most probable of what they would have drawn.
    """
    temperature, top_k, top_p, min_p = settings
    if temperature == 0:
        return distribution.best
    scratch = native.scratch(logits)
    row, size, maximum = scratch.row, scratch.size, distribution.maximum
    token: int = native.KERNELS.draw(row, size, maximum, temperature, top_k, top_p, min_p, uniform, scratch.address)
    native.give_back(scratch)
    return token


def survivors(
    logits: Logits, distribution: Distribution, settings: SamplerSettings
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The token ids that survive the filters, best first, and their renormalised probabilities."""
    if settings.temperature == 0:
        return np.array([distribution.best]), np.ones(1)
    scratch = native.scratch(logits)
    native.KERNELS.draw(scratch.row, scratch.size, distribution.maximum, *settings, 1.0, scratch.address)
    indices, weights, mass = scratch.survivors()
    native.give_back(scratch)
    return indices, weights / mass
