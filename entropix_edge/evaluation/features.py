"""What a finished reply's own tokens say of it: named numbers, each with the direction in which the model is surer."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from .records import Candidate, Tokens

    Selected = npt.NDArray[np.bool_]

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_AFTER_EQUALS = re.compile(r"=\s*(?:\\?\$)?\s*(\d+(?:[.,]\d+)*)")


def features(candidate: Candidate) -> dict[str, float]:
    """Every feature of a candidate, by its name in `SIGNS`; NaN where it has none, such as an answer's without one."""
    tokens = candidate.tokens
    if not len(tokens.id):
        return dict.fromkeys(SIGNS, math.nan)
    numbers = _covering(tokens, [found.span() for found in _NUMBER.finditer(candidate.text)])
    results = _covering(tokens, [found.span(1) for found in _AFTER_EQUALS.finditer(candidate.text)])
    answer = _covering(tokens, [candidate.span] if candidate.span else [])
    return (
        {name: of(tokens) for name, of in _OF_ALL.items()}
        | {
            "number_mean_logprob": _over(tokens.logprob[numbers], np.mean),
            "number_lowest_logprob": _over(tokens.logprob[numbers], np.min),
            "number_summed_entropy": _over(tokens.entropy[numbers], np.sum),
            "result_greatest_entropy": _over(tokens.entropy[results], np.max),
            "result_summed_entropy": _over(tokens.entropy[results], np.sum),
            "answer_logprob": _over(tokens.logprob[answer], np.sum),
            "answer_greatest_entropy": _over(tokens.entropy[answer], np.max),
        }
        | {name: _over(getattr(tokens, column), np.nanmean) for name, column in _ATTENTION.items()}
    )


def _covering(tokens: Tokens, spans: list[tuple[int, int]]) -> Selected:
    """Which tokens have a character in one of the spans of the text."""
    ends = np.cumsum(tokens.chars)
    starts = ends - tokens.chars
    selected = np.zeros(len(ends), np.bool_)
    for start, end in spans:
        selected |= (starts < end) & (ends > start)
    return selected


def _over(values: npt.NDArray[np.float32], of: Callable[[npt.NDArray[np.float64]], np.floating]) -> float:
    measured = values[~np.isnan(values)].astype(np.float64)
    return float(of(measured)) if measured.size else math.nan


def _worst_window(entropy: npt.NDArray[np.float32], size: int) -> float:
    """The highest mean entropy of so many tokens in a row; of all, where there are fewer."""
    size = min(size, entropy.size)
    totals = np.concatenate([[0.0], np.cumsum(entropy, dtype=np.float64)])
    return float((totals[size:] - totals[:-size]).max() / size)


def _top_decile(entropy: npt.NDArray[np.float32]) -> float:
    count = -(-entropy.size // 10)
    return float(np.sort(entropy)[-count:].mean(dtype=np.float64))


_OF_ALL: Mapping[str, Callable[[Tokens], float]] = {
    "length": lambda tokens: float(len(tokens.id)),
    "summed_entropy": lambda tokens: _over(tokens.entropy, np.sum),
    "mean_entropy": lambda tokens: _over(tokens.entropy, np.mean),
    "greatest_entropy": lambda tokens: _over(tokens.entropy, np.max),
    "top_decile_entropy": lambda tokens: _top_decile(tokens.entropy),
    "share_above_1_bit": lambda tokens: float((tokens.entropy > 1).mean()),
    "worst_32": lambda tokens: _worst_window(tokens.entropy, 32),
    "worst_64": lambda tokens: _worst_window(tokens.entropy, 64),
    "first_32": lambda tokens: _over(tokens.entropy[:32], np.mean),
    "last_32": lambda tokens: _over(tokens.entropy[-32:], np.mean),
    "mean_varentropy": lambda tokens: _over(tokens.varentropy, np.mean),
    "summed_logprob": lambda tokens: _over(tokens.logprob, np.sum),
    "mean_logprob": lambda tokens: _over(tokens.logprob, np.mean),
    "lowest_logprob": lambda tokens: _over(tokens.logprob, np.min),
    "mean_best": lambda tokens: _over(np.exp(tokens.best), np.mean),
    "lowest_gap": lambda tokens: _over(tokens.gap, np.min),
    "share_not_best": lambda tokens: float((tokens.rank > 0).mean()),
}

_ATTENTION = {
    "mean_attention_entropy": "attention_entropy",
    "mean_attention_varentropy": "attention_varentropy",
    "mean_agreement": "agreement",
    "mean_interaction_strength": "interaction_strength",
}

_SURER_WHERE_HIGHER = {
    *("summed_logprob", "mean_logprob", "lowest_logprob", "mean_best", "lowest_gap"),
    *("number_mean_logprob", "number_lowest_logprob", "answer_logprob"),
}

_NAMES = (
    *_OF_ALL,
    *("number_mean_logprob", "number_lowest_logprob", "number_summed_entropy"),
    *("result_greatest_entropy", "result_summed_entropy", "answer_logprob", "answer_greatest_entropy"),
    *_ATTENTION,
)

SIGNS: Mapping[str, int] = {name: 1 if name in _SURER_WHERE_HIGHER else -1 for name in _NAMES}
"""The features, and whether the model is surer where a feature is higher (1) or lower (−1).

Entropies are in bits, varentropies in bits², logprobs and gaps in nats. `number_…`: of tokens with a digit; `result_…`:
of those in a number right after `=`; `answer_…`: of those that the answer is written with; `worst_64`: the highest mean
entropy of 64 tokens in a row; `share_not_best`: of tokens that were not the most probable. Of attention's metrics the
direction is a guess.
"""
