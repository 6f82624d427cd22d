"""What was fitted to one model: when its answers are right, and how sure its replies are. Kept in TOML files."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import tomllib
from bisect import bisect_right
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoding import decode_text
from ..errors import ConfigError, EncodingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..config import Preset

logger = logging.getLogger("entropix_edge")

_SHIPPED = Path(__file__).parent / "fitted"
_SMALL = 0.01  # added before a logarithm: bits, or tokens
_OF_LOGARITHMS = ("entropy", "varentropy", "length", "worst_32", "worst_64", "first_32", "last_32")
QUANTILES = tuple(range(5, 100, 5))
"""The percentages of replies for which a `Rank` knows the mean entropy."""


def scaled(name: str, value: float) -> float:
    """A feature as the model weighs it: of entropies and of the length the natural logarithm."""
    return math.log(value + _SMALL) if name.endswith(_OF_LOGARITHMS) and value >= 0 else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """When the answers of one model are right: a logistic model, and where it holds.

    Attributes:
        answer: the kind of answer, an extractor's name.
        policy: how the replies were generated: see `policy_name`.
        problems: on how many it was fitted.
        right: the share of right answers among them, from 0 to 1.
        auroc: how often a right answer is given a higher probability than a wrong one, in cross-validation.
        calibration_error: mean distance of the probabilities from the shares of right answers, in cross-validation.
        intercept: of the log-odds.
        weights: of each feature's `scaled` value in the log-odds.
        ranges: the least and the greatest value of a feature with which it holds.
        tasks: the file with the problems; empty where it is not known.
    """

    answer: str
    policy: str
    problems: int
    right: float
    auroc: float
    calibration_error: float
    intercept: float
    weights: Mapping[str, float]
    ranges: Mapping[str, tuple[float, float]]
    tasks: str = ""

    def probability(self, features: Mapping[str, float]) -> float | None:
        """The probability that an answer is right; None where the reply is none like those that were fitted.

        Args:
            features: of the reply, by name.
        """
        for name, (low, high) in self.ranges.items():
            if not low <= features.get(name, math.nan) <= high:
                return None
        return self.estimate(features)

    def estimate(self, features: Mapping[str, float]) -> float | None:
        """The same for any reply: no probability to go by, but what candidates' votes may be weighed with.

        Args:
            features: of the reply, by name; None comes of one that is missing.
        """
        odds = self.intercept
        for name, weight in self.weights.items():
            odds += weight * scaled(name, features.get(name, math.nan))
        return None if math.isnan(odds) else 1 / (1 + math.exp(-max(min(odds, 40.0), -40.0)))


@dataclass(frozen=True, slots=True)
class Rank:
    """How sure one model's replies are: quantiles of their mean entropy, by length.

    Attributes:
        replies: how many were measured.
        lengths: their first so many tokens were.
        bounds: for each length, the mean entropies that `QUANTILES` percent of the replies lie below, in bits.
    """

    replies: int
    lengths: tuple[int, ...]
    bounds: tuple[tuple[float, ...], ...]

    def share_below(self, mean_entropy: float, length: int) -> float:
        """The share of replies of that length that were less sure, from 0.05 to 0.95.

        Args:
            mean_entropy: of the reply's tokens, in bits.
            length: how many they are.
        """
        row = self.bounds[max(bisect_right(self.lengths, length) - 1, 0)]
        return 1 - float(np.interp(mean_entropy, row, QUANTILES)) / 100


@dataclass(frozen=True, slots=True)
class Fits:
    """All that is known of one model's confidence.

    Attributes:
        rank: among its replies; None where it was not calibrated.
        fits: by kind of answer and policy.
    """

    rank: Rank | None = None
    fits: tuple[Fit, ...] = ()

    def of(self, policy: str) -> tuple[Fit, ...]:
        """The fits to replies that were generated like that."""
        return tuple(fit for fit in self.fits if fit.policy == policy)

    def with_fit(self, fit: Fit) -> Fits:
        """The same with a fit, in place of one of the same kind and policy."""
        others = (each for each in self.fits if (each.answer, each.policy) != (fit.answer, fit.policy))
        return replace(self, fits=(*others, fit))

    def over(self, below: Fits) -> Fits:
        """Both; where both have the same, this one's."""
        both = below
        for fit in self.fits:
            both = both.with_fit(fit)
        return replace(both, rank=self.rank or below.rank)


def policy_name(sampler: str, preset: Preset) -> str:
    """How replies are generated, in a few words: two that differ are two policies.

    Args:
        sampler: what is done with the table's verdict.
        preset: the table, as it is in effect.
    """
    values = asdict(preset)
    check = "+check" if preset.check.arithmetic else ""
    match sampler:
        case "greedy":
            return f"greedy{check}"
        case "temperature":
            filters = " ".join(f"{name}={value:g}" for name, value in values["sampler"].items())
            return f"temperature{check} {filters}"
    del values["name"]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
    return f"{preset.name} {digest}"


# --- files --------------------------------------------------------------------------------------------


def load_fits(fingerprint: str, folder: Path | None) -> Fits:
    """What was fitted to a model; files that do not hold are left out with a warning.

    Args:
        fingerprint: of the model's file.
        folder: of the user's own, which come before the shipped ones; None where there is none.
    """
    found = Fits()
    for file in (_SHIPPED / f"{fingerprint}.toml", folder and folder / f"{fingerprint}.toml"):
        try:
            if file and file.is_file():
                found = read_fits(decode_text(file.read_bytes(), "the file")).over(found)
        except (OSError, EncodingError, ConfigError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            logger.warning(
                "the fitted confidence %s is left out: %s; run `entropix-edge calibrate` again", file, reason
            )
    return found


def read_fits(text: str) -> Fits:
    """Fits from TOML text that `as_toml` wrote.

    Raises:
        ConfigError: it is none.
    """
    try:
        tables = tomllib.loads(text)
        rank = _rank(tables["rank"]) if "rank" in tables else None
        return Fits(rank, tuple(map(_fit, tables.get("fit", ()))))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(f"it does not hold what is fitted to replies: {error!r}") from error


def _rank(table: dict[str, Any]) -> Rank:
    lengths = tuple(map(int, table["lengths"]))
    bounds = tuple(tuple(map(_number, row)) for row in table["bounds"])
    if (
        not lengths
        or list(lengths) != sorted(lengths)
        or [len(row) for row in bounds] != [len(QUANTILES)] * len(lengths)
    ):
        raise ValueError(f"{len(bounds)} rows of bounds for lengths {lengths}")
    return Rank(int(table["replies"]), lengths, bounds)


def _fit(table: dict[str, Any]) -> Fit:
    numbers = {name: _number(table[name]) for name in ("right", "auroc", "calibration_error", "intercept")}
    return Fit(
        answer=str(table["answer"]),
        policy=str(table["policy"]),
        problems=int(table["problems"]),
        tasks=str(table.get("tasks", "")),
        weights={str(name): _number(value) for name, value in table["weights"].items()},
        ranges={str(name): (_number(low), _number(high)) for name, (low, high) in table["ranges"].items()},
        **numbers,
    )


def _number(value: Any) -> float:
    number = float(value)
    if isinstance(value, str | bool) or not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number


def as_toml(fits: Fits, model: str) -> str:
    """The text of a file with fits.

    Args:
        fits: all of the model's.
        model: a name for the model.
    """
    lines = [f"# How sure of the replies of {_printable(model)} one may be. Written by `entropix-edge calibrate`."]
    if fits.rank:
        lines += [
            "",
            "[rank]  # among the replies to the prompts of `calibrate`",
            f"replies = {fits.rank.replies}",
            f"lengths = {list(fits.rank.lengths)}  # tokens; then for each the mean entropy, in bits, that",
            f"bounds = [  # {', '.join(map(str, QUANTILES))} % of the replies lie below",
            *(f"    {[round(bound, 3) for bound in row]}," for row in fits.rank.bounds),
            "]",
        ]
    for fit in fits.fits:
        lines += ["", *_lines(fit)]
    return "\n".join(lines) + "\n"


def _lines(fit: Fit) -> list[str]:
    return [
        "[[fit]]  # when its answers are right",
        f"answer = {_quoted(fit.answer)}",
        f"policy = {_quoted(fit.policy)}",
        *([f"tasks = {_quoted(_printable(fit.tasks))}  # whose answers it was fitted to"] if fit.tasks else []),
        f"problems = {fit.problems}",
        f"right = {fit.right:.4f}",
        f"auroc = {fit.auroc:.3f}  # in cross-validation, as is",
        f"calibration_error = {fit.calibration_error:.3f}",
        f"intercept = {fit.intercept:.5g}  # of the log-odds",
        "",
        f"[fit.weights]  # entropies and lengths enter as ln(value + {_SMALL})",
        *(f"{name} = {weight:.5g}" for name, weight in fit.weights.items()),
        "",
        "[fit.ranges]  # replies outside are not of this kind",
        *(f"{name} = [{low:.5g}, {high:.5g}]" for name, (low, high) in fit.ranges.items()),
    ]


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _quoted(text: str) -> str:
    """As a basic string of TOML, which knows no surrogate pairs, and no DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
