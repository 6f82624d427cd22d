"""The features of recorded candidates: those of a finished reply, and what only a recording knows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .. import confidence
from ..confidence import Measured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .records import Candidate

_RECORDED = {"mean_best": 1, "lowest_gap": 1, "share_not_best": -1}

SIGNS: Mapping[str, int] = {**confidence.SIGNS, **_RECORDED}
"""As `confidence.SIGNS`. `mean_best`: of the probability of the most probable token; `lowest_gap`: from it to the
second, in nats; `share_not_best`: of tokens that were not the most probable."""


def features(candidate: Candidate) -> dict[str, float]:
    """Every feature of a candidate, by its name in `SIGNS`; NaN where it has none, such as an answer's without one."""
    tokens = candidate.tokens
    seen = Measured(*(getattr(tokens, name) for name in Measured._fields))
    found = confidence.features(seen, candidate.text, candidate.span)
    best, gaps = tokens.best[~np.isnan(tokens.best)], tokens.gap[~np.isnan(tokens.gap)]
    return found | {
        "mean_best": float(np.exp(best, dtype=np.float64).mean()) if best.size else math.nan,
        "lowest_gap": float(gaps.min()) if gaps.size else math.nan,
        "share_not_best": float((tokens.rank > 0).mean()) if len(tokens.id) else math.nan,
    }
