"""The attention's metrics, straight from their definitions: the oracle of the attention kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..types import AttentionMetrics

if TYPE_CHECKING:
    import numpy.typing as npt


def attention_reference(weights: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> AttentionMetrics:
    """Metrics of one query position in one layer, in numpy and float64.

    Args:
        weights: post-softmax, shape (n_head, n_kv); masked positions are 0.
        scores: scaled, before the mask, the same shape.
    """
    attended = (weights > 0).any(axis=0)
    p = weights[:, attended].astype(np.float64)
    logs = np.log2(p, out=np.zeros_like(p), where=p > 0)
    entropies = -(p * logs).sum(axis=1)
    return AttentionMetrics(
        entropy=float(entropies.mean()),
        varentropy=float(entropies.var()),
        agreement=float(np.abs(p - p.mean(axis=0)).mean()),
        interaction_strength=float(np.abs(scores[:, attended]).mean()),
    )
