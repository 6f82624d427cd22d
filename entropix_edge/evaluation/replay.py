"""Votes counted again on recorded candidates: any vote, weight and stopping rule, without decoding.

The candidates of a problem are taken in many random orders; a rule looks at them one wave after another and says when
it has seen enough. What it costs is what it looked at.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..confidence import load_fits
from ..errors import ConfigError
from ..sessions import LEAD, WAVE
from .features import SIGNS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from ..confidence import Fit
    from .samples import Sample

    Array = npt.NDArray[np.float64]

SUBSETS = 50
_DECIDED = 0.95  # probability that the leader is the true favourite
_RULES = "fixed:K, posterior:N or ahead:N"
_CONFIDENCE = "mean_entropy"


# --- rules: when to stop --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """When to stop.

    Attributes:
        name: `fixed:K`: K candidates. `posterior:N`: one after another until the leading answer is the true favourite
            with a probability of 0.95 (`lead_is_safe`), at most N. `ahead:N`: two at a time until the leading answer
            is two votes ahead, at most N, as `Deliberation` does.
        most: candidates at most.
        wave: candidates between two looks.
        decided: whether so many votes for the leader and for the second are enough.
    """

    name: str
    most: int
    wave: int
    decided: Callable[[int, int], bool]

    def used(self, order: Sequence[Sample]) -> int:
        """How many candidates it looks at, in this order; `order` has at least `most`."""
        votes: dict[str | None, int] = defaultdict(int)
        for count, sample in enumerate(order[: self.most], 1):
            if sample.votes:
                votes[sample.answer] += 1
            if count % self.wave == 0:
                first, second, *_ = *sorted(votes.values(), reverse=True), 0, 0
                if self.decided(first, second):
                    return count
        return self.most


def rule(name: str) -> Rule:
    """The rule of a name.

    Raises:
        ConfigError: there is none.
    """
    kind, _, number = name.partition(":")
    most = int(number) if number.isdecimal() and len(number) < 5 else 0
    if most:
        match kind:
            case "fixed":
                return Rule(name, most, most, lambda _first, _second: True)
            case "posterior":
                return Rule(name, most, 1, lead_is_safe)
            case "ahead":
                return Rule(name, most, WAVE, lambda first, second: first - second >= LEAD)
    raise ConfigError(f"rule {name!r} is not known: it must be {_RULES}, of at least 1 candidate")


def lead_is_safe(first: int, second: int) -> bool:
    """Whether the leading answer is, with a probability above 0.95, the one that most candidates would give.

    The posterior of a fair start between the two leading answers, a Beta distribution (Adaptive-Consistency,
    https://arxiv.org/abs/2305.11860), written as the binomial sum that it equals.

    Args:
        first: votes for the leading answer.
        second: votes for the next.
    """
    throws = first + second + 1
    return bool(sum(math.comb(throws, heads) for heads in range(first + 1)) > _DECIDED * 2**throws)


# --- votes: which answer --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ballot:
    """How the votes of some candidates are counted.

    Attributes:
        name: `equal`; `plain`: the same, but ties go to the answer that came first, as in self-consistency
            (https://arxiv.org/abs/2203.11171); `probability`: by the fit to the model's greedy replies, also beyond
            the replies that it was made of; `confidence`: 2 to the power of minus the mean entropy;
            `FEATURE` or `FEATURE:LAMBDA`: e to the power of lambda (1 if not said) times the feature, standardised
            within the problem; `best:FEATURE`: no vote, the surest candidate.
        weights: of the candidates that vote.
        ties: a feature: of answers with equal votes, that of the surest candidate wins; empty for the first answer.
    """

    name: str
    weights: Callable[[Sequence[Sample]], Sequence[float]]
    ties: str = _CONFIDENCE

    def winner(self, samples: Sequence[Sample]) -> Sample:
        """A candidate with the answer that wins; where none votes, the surest of all."""
        voting = [sample for sample in samples if sample.votes]
        if not voting:
            return max(samples, key=self._sureness)
        votes: dict[str | None, float] = defaultdict(float)
        surest: dict[str | None, Sample] = {}
        for sample, weight in zip(voting, self.weights(voting), strict=True):
            votes[sample.answer] += weight
            held = surest.setdefault(sample.answer, sample)
            surest[sample.answer] = max(held, sample, key=self._sureness)
        return max(surest.values(), key=lambda sample: (round(votes[sample.answer], 9), self._sureness(sample)))

    def _sureness(self, sample: Sample) -> float:
        return sureness(sample, self.ties) if self.ties else 0.0


def sureness(sample: Sample, feature: str) -> float:
    """A feature, turned so that more is surer; the least where it was not measured."""
    value = sample.features[feature]
    return -math.inf if math.isnan(value) else SIGNS[feature] * value


def ballot(name: str, ties: str = _CONFIDENCE) -> Ballot:
    """The count of votes of a name.

    Raises:
        ConfigError: there is none, or no such feature.
    """
    check_feature(ties)
    if name in ("equal", "plain"):
        return Ballot(name, lambda voting: [1.0] * len(voting), ties if name == "equal" else "")
    if name == "probability":
        return Ballot(name, _probabilities, ties)
    if name == "confidence":
        return Ballot(name, lambda voting: [2.0 ** sureness(sample, _CONFIDENCE) for sample in voting], ties)
    if name.startswith("best:"):
        feature = check_feature(name.removeprefix("best:"))
        return Ballot(name, lambda voting: _top([sureness(sample, feature) for sample in voting]), feature)
    feature, _, number = name.partition(":")
    check_feature(feature)
    try:
        power = float(number or 1)
    except ValueError as error:
        raise ConfigError(f"vote {name!r}: the weight of the feature must be a number") from error
    return Ballot(name, lambda voting: _standardised([sureness(each, feature) for each in voting], power), ties)


def check_feature(name: str) -> str:
    """The name of a feature.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in SIGNS:
        raise ConfigError(f"feature {name!r} is not known: it must be one of {', '.join(SIGNS)}")
    return name


def _probabilities(voting: Sequence[Sample]) -> list[float]:
    fit = _fit_to_greedy(str(voting[0].source.get("fingerprint")))
    found = [fit.estimate(sample.features) for sample in voting]
    return [fit.right if probability is None else probability for probability in found]


@cache
def _fit_to_greedy(fingerprint: str) -> Fit:
    fits = load_fits(fingerprint, None).of("greedy")
    if not fits:
        raise ConfigError(f"vote 'probability': no fit to greedy replies of the model {fingerprint} ships")
    return fits[0]


def _top(scores: Sequence[float]) -> list[float]:
    best = max(scores)
    return [float(score == best) for score in scores]


def _standardised(scores: Sequence[float], power: float) -> list[float]:
    measured = [score for score in scores if score > -math.inf]
    mean = math.fsum(measured) / len(measured) if measured else 0.0
    spread = math.sqrt(math.fsum((score - mean) ** 2 for score in measured) / len(measured)) if measured else 0.0
    return [math.exp(power * (score - mean) / spread) if spread and score > -math.inf else 1.0 for score in scores]


# --- counting -------------------------------------------------------------------------------------


class Pool(NamedTuple):
    """The candidates that one policy gave for each problem, in the order in which they were begun."""

    policy: str
    problems: Mapping[str, Sequence[Sample]]

    @property
    def most(self) -> int:
        """The greatest number of candidates of a problem."""
        return max(map(len, self.problems.values()))


def pools(samples: Sequence[Sample]) -> list[Pool]:
    """The samples by policy and problem; one that was recorded twice counts once.

    Raises:
        ConfigError: they come from several models.
    """
    models = sorted({str(sample.source.get("model")) for sample in samples})
    if len(models) > 1:
        raise ConfigError(f"these are candidates of {' and '.join(models)}: give the files of one model")
    unique = {(each.policy, each.problem, each.seed, each.number): each for each in samples}
    found: dict[str, dict[str, list[Sample]]] = {}
    for (policy, problem, _seed, _number), sample in sorted(unique.items(), key=lambda item: item[0][2:]):
        found.setdefault(policy, {}).setdefault(problem, []).append(sample)
    order = list(dict.fromkeys(sample.policy for sample in samples))
    return [Pool(policy, dict(sorted(found[policy].items()))) for policy in order]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a rule and a ballot came to on a pool: arrays of shape (problems,), means over the random orders.

    Attributes:
        policy: of the pool.
        rule: its name.
        ballot: its name.
        problems: their ids, sorted; those with too few candidates for the rule are left out.
        right: the share of orders with a right answer.
        used: candidates looked at.
        decoded: tokens decoded for them.
        seconds: spent on them.
    """

    policy: str
    rule: str
    ballot: str
    problems: tuple[str, ...]
    right: Array
    used: Array
    decoded: Array
    seconds: Array

    def on(self, problems: Sequence[str]) -> Tally:
        """The same on some of its problems."""
        place = {problem: number for number, problem in enumerate(self.problems)}
        keep = [place[problem] for problem in problems]
        return Tally(
            policy=self.policy,
            rule=self.rule,
            ballot=self.ballot,
            problems=tuple(problems),
            right=self.right[keep],
            used=self.used[keep],
            decoded=self.decoded[keep],
            seconds=self.seconds[keep],
        )


def orders(samples: Sequence[Sample], subsets: int, seed: int = 0) -> list[list[Sample]]:
    """Random orders of a problem's candidates, the same in every run; all of them where there are no more."""
    count = len(samples)
    if count < 10 and math.factorial(count) <= subsets:
        return [list(order) for order in itertools.permutations(samples)]
    random = np.random.default_rng([seed, *samples[0].problem.encode()])
    return [[samples[place] for place in random.permutation(count)] for _ in range(subsets)]


def tally(
    pool: Pool,
    stop: Rule,
    count: Ballot,
    *,
    first: Pool | None = None,
    subsets: int = SUBSETS,
    seed: int = 0,
) -> Tally:
    """Count the votes of a pool's candidates.

    Args:
        pool: the candidates.
        stop: when enough were looked at.
        count: how their votes are counted.
        first: candidates of another policy, such as greedy's, the first of which goes before all others.
        subsets: how many random orders of a problem's candidates.
        seed: of these.
    """
    problems, rows = [], []
    for problem, samples in pool.problems.items():
        before = list(first.problems.get(problem, ())[:1]) if first else []
        if len(before) + len(samples) < stop.most or (first and not before):
            continue
        problems.append(problem)
        rows.append(np.mean([_count([*before, *order], stop, count) for order in orders(samples, subsets, seed)], 0))
    columns = np.array(rows, np.float64).reshape(-1, 4).T
    return Tally(
        policy=f"{first.policy} + {pool.policy}" if first else pool.policy,
        rule=stop.name,
        ballot=count.name,
        problems=tuple(problems),
        **dict(zip(("right", "used", "decoded", "seconds"), columns, strict=True)),
    )


def _count(order: Sequence[Sample], stop: Rule, count: Ballot) -> tuple[float, ...]:
    used = order[: stop.used(order)]
    decoded, seconds = sum(each.decoded_tokens for each in used), math.fsum(each.seconds for each in used)
    return float(count.winner(used).right), float(len(used)), float(decoded), seconds


def any_right(pool: Pool) -> Array:
    """Whether some candidate of each problem is right: more than any vote can have."""
    return np.array([any(sample.right for sample in samples) for samples in pool.problems.values()], np.float64)


def curve(pool: Pool, count: Ballot, *, subsets: int = SUBSETS, seed: int = 0) -> list[Tally]:
    """The tallies of a fixed number of candidates, from one to as many as every problem has."""
    fewest = min(map(len, pool.problems.values()))
    names = (f"fixed:{number}" for number in range(1, fewest + 1))
    return [tally(pool, rule(name), count, subsets=subsets, seed=seed) for name in names]
