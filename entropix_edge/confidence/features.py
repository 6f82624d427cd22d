"""What a finished reply's own tokens say of it: named numbers, each with the direction in which the model is surer."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..checks import check_arithmetic
from ..types import TokenEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt

    from ..types import Event

    Column = npt.NDArray[np.float32]
    Selected = npt.NDArray[np.bool_]

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_AFTER_EQUALS = re.compile(r"=\s*(?:\\?\$)?\s*(\d+(?:[.,]\d+)*)")


class Measured(NamedTuple):
    """What was measured at a reply's tokens: arrays of shape (tokens,), NaN where something was not.

    Attributes:
        chars: how many characters each added to the text; int32.
        logprob: natural logarithm of its probability, at temperature 1.
        entropy: of the distribution that it was taken from, in bits.
        varentropy: of the same, in bits².
        attention_entropy: in bits. For this and the others of attention see `AttentionMetrics`.
        attention_varentropy: in bits².
        agreement: in probability.
        interaction_strength: in the scaled scores' own unit.
    """

    chars: npt.NDArray[np.int32]
    logprob: Column
    entropy: Column
    varentropy: Column
    attention_entropy: Column
    attention_varentropy: Column
    agreement: Column
    interaction_strength: Column


def measured(events: Iterable[Event]) -> Measured:
    """What was measured at the tokens among some events."""
    tokens = [event for event in events if isinstance(event, TokenEvent) and event.token_id is not None]
    none = (math.nan,) * 4
    rows = [
        (
            math.nan if event.logprob is None else event.logprob,
            *(event.metrics[:2] if event.metrics else none[:2]),
            *((event.metrics and event.metrics.attention) or none),
        )
        for event in tokens
    ]
    columns = np.array(rows, np.float32).reshape(-1, 7).T
    return Measured(np.array([len(event.text) for event in tokens], np.int32), *columns)


def features(tokens: Measured, text: str, answer: tuple[int, int] | None = None) -> dict[str, float]:
    """Every feature of a reply, by its name in `SIGNS`; NaN where it has none, such as an answer's without one.

    Args:
        tokens: what was measured.
        text: what the reply says.
        answer: where in the text its answer stands.
    """
    if not len(tokens.chars):
        return dict.fromkeys(SIGNS, math.nan)
    numbers = covering(tokens, [found.span() for found in _NUMBER.finditer(text)])
    results = covering(tokens, [found.span(1) for found in _AFTER_EQUALS.finditer(text)])
    answered = covering(tokens, [answer] if answer else [])
    return (
        {name: of(tokens) for name, of in _OF_ALL.items()}
        | {
            "number_share": float(numbers.mean()),
            "number_mean_logprob": _over(tokens.logprob[numbers], np.mean),
            "number_lowest_logprob": _over(tokens.logprob[numbers], np.min),
            "number_summed_entropy": _over(tokens.entropy[numbers], np.sum),
            "result_count": float(len(_AFTER_EQUALS.findall(text))),
            "wrong_results": float(_wrong_results(text)),
            "result_greatest_entropy": _over(tokens.entropy[results], np.max),
            "result_summed_entropy": _over(tokens.entropy[results], np.sum),
            "answer_logprob": _over(tokens.logprob[answered], np.sum),
            "answer_greatest_entropy": _over(tokens.entropy[answered], np.max),
        }
        | {name: _over(getattr(tokens, column), np.mean) for name, column in _ATTENTION.items()}
    )


def carrying(tokens: Measured, text: str, answer: tuple[int, int]) -> Selected:
    """Which tokens carry an answer: those that it is written with; where it is a number, all that are worked out too.

    Args:
        tokens: what was measured.
        text: what the reply says.
        answer: where in the text the answer stands.
    """
    spans = [answer]
    if _NUMBER.search(text[slice(*answer)]):
        spans += [found.span(1) for found in _AFTER_EQUALS.finditer(text)]
    return covering(tokens, spans)


def covering(tokens: Measured, spans: Iterable[tuple[int, int]]) -> Selected:
    """Which tokens have a character in one of the spans of the text."""
    ends = np.cumsum(tokens.chars)
    starts = ends - tokens.chars
    selected = np.zeros(len(ends), np.bool_)
    for start, end in spans:
        selected |= (starts < end) & (ends > start)
    return selected


def _wrong_results(text: str) -> int:
    """How many numbers after `=` a calculator finds wrong."""
    wrong = 0
    for found in _AFTER_EQUALS.finditer(text):
        rest = text[found.end() :]
        end = found.end() + len(re.split(r"[=\n]", rest, maxsplit=1)[0])
        wrong += check_arithmetic(text[:end], finished=True) is not None
    return wrong


def _over(values: Column, of: Callable[[npt.NDArray[np.float64]], np.floating]) -> float:
    found = values[~np.isnan(values)].astype(np.float64)
    return float(of(found)) if found.size else math.nan


def _worst_window(entropy: Column, size: int) -> float:
    """The highest mean entropy of so many tokens in a row; of all, where there are fewer."""
    size = min(size, entropy.size)
    totals = np.concatenate([[0.0], np.cumsum(entropy, dtype=np.float64)])
    return float((totals[size:] - totals[:-size]).max() / size)


def _top_decile(entropy: Column) -> float:
    count = -(-entropy.size // 10)
    return float(np.sort(entropy)[-count:].mean(dtype=np.float64))


_OF_ALL: Mapping[str, Callable[[Measured], float]] = {
    "length": lambda tokens: float(len(tokens.chars)),
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
}

_ATTENTION = {
    "mean_attention_entropy": "attention_entropy",
    "mean_attention_varentropy": "attention_varentropy",
    "mean_agreement": "agreement",
    "mean_interaction_strength": "interaction_strength",
}

_SURER_WHERE_HIGHER = {
    *("summed_logprob", "mean_logprob", "lowest_logprob"),
    *("number_mean_logprob", "number_lowest_logprob", "answer_logprob"),
}

_NAMES = (
    *_OF_ALL,
    *("number_share", "number_mean_logprob", "number_lowest_logprob", "number_summed_entropy"),
    *("result_count", "wrong_results", "result_greatest_entropy", "result_summed_entropy"),
    *("answer_logprob", "answer_greatest_entropy"),
    *_ATTENTION,
)

SIGNS: Mapping[str, int] = {name: 1 if name in _SURER_WHERE_HIGHER else -1 for name in _NAMES}
"""The features, and whether the model is surer where a feature is higher (1) or lower (−1).

Entropies are in bits, varentropies in bits², logprobs in nats. `number_…`: of tokens with a digit; `result_…`: of those
in a number right after `=`; `wrong_results`: how many of these a calculator finds wrong; `answer_…`: of those that the
answer is written with; `worst_64`: the highest mean entropy of 64 tokens in a row. Of attention's metrics, and of how
many numbers there are, the direction is a guess.
"""
