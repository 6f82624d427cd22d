"""What was measured: tests, repetitions, and what a row comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ..engine_config import AttentionChoice, FlashAttention

RAW, ENGINE = "raw", "engine"  # beside the loops


class Variant(NamedTuple):
    """One way to generate.

    Attributes:
        loop: raw; engine, for prompts; or one of `LOOPS`.
        attention: the layers whose attention is measured.
        flash: flash attention, as it is asked for.
    """

    loop: str
    attention: AttentionChoice = "off"
    flash: FlashAttention = "on"

    @property
    def layers(self) -> str:
        """The attention as it is written on a command line."""
        return self.attention if isinstance(self.attention, str) else ",".join(map(str, self.attention))

    def __str__(self) -> str:
        flash = f", fa {self.flash}" if self.flash == "off" or self.loop == RAW else ""
        return f"{self.loop}{flash}" if self.loop == RAW else f"{self.loop}, attention {self.layers}{flash}"


class Case(NamedTuple):
    """What is timed: a prompt, or tokens generated; after so many in the cache, by so many threads.

    Attributes:
        n_prompt: tokens of the prompt, or 0.
        n_gen: tokens generated, or 0.
        depth: tokens in the cache before.
        threads: that compute.
        n_batch: most tokens of a decode.
    """

    n_prompt: int
    n_gen: int
    depth: int
    threads: int
    n_batch: int

    def __str__(self) -> str:
        name = f"pp{self.n_prompt}" if self.n_prompt else f"tg{self.n_gen}"
        return f"{name} @ d{self.depth}" if self.depth else name


class Spread(NamedTuple):
    """Mean and standard deviation over repetitions; of one there is no deviation."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of at least one value."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)

    def __str__(self) -> str:
        digits = 3 if self.mean < 10 else 1
        spread = "" if self.deviation is None else f" ± {self.deviation:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One repetition of a variant, in turns with raw. Times in seconds.

    Attributes:
        seconds: the whole test.
        step: one round of the loop without branches, or the whole prompt; None where all rounds had branches.
        raw: raw's step, or its prompt, by whether flash attention was on.
        beside: of a round without branches, what llama.cpp did not take: the median.
        raw_beside: the same of raw's step.
        rounds: how many were timed.
        forked: in how many of them there were branches.
    """

    seconds: float
    step: float | None
    raw: dict[bool, float]
    beside: float | None = None
    raw_beside: float | None = None
    rounds: int = 0
    forked: int = 0

    @property
    def pace(self) -> float:
        """What tells how fast the machine was meanwhile: raw with flash attention on."""
        return self.raw[True]


class Forks(NamedTuple):
    """What branches cost.

    Attributes:
        rounds: the share of rounds in which there were some.
        cost: how much longer a written token took, on the whole, than a round without branches: 0.1 for a tenth;
            None where there was no such round.
    """

    rounds: float
    cost: float | None

    def __str__(self) -> str:
        cost = "" if self.cost is None else f", {100 * self.cost:+.0f} %"
        return f"{100 * self.rounds:.0f} %{cost}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """A row: what one variant came to in one test.

    Attributes:
        test: what was timed.
        variant: how.
        began: when, in UTC.
        seconds: of each repetition, the whole test.
        of_raw: raw's time with the same flash attention against the loop's, branches apart; None for raw.
        of_raw_fa_on: against raw with flash attention on.
        beside: seconds of a round that llama.cpp did not take; None for prompts.
        forks: None where there were none.
        disturbed: how many of the repetitions something else on the machine disturbed.
        repeated: how many more were disturbed, and done again.
    """

    test: Case
    variant: Variant
    began: datetime
    seconds: tuple[float, ...]
    of_raw: Spread | None = None
    of_raw_fa_on: Spread | None = None
    beside: float | None = None
    forks: Forks | None = None
    disturbed: int = 0
    repeated: int = 0

    @property
    def rates(self) -> tuple[float, ...]:
        """Tokens a second of each repetition; what branches, rejections and rewinds took is paid."""
        count = self.test.n_prompt or self.test.n_gen
        return tuple(count / seconds for seconds in self.seconds)

    @property
    def rate(self) -> Spread:
        """Tokens a second."""
        return Spread.of(self.rates)


@dataclass(slots=True)
class Repetitions:
    """Repetitions of one variant.

    Attributes:
        samples: those that count.
        disturbed: how many of them were disturbed.
        repeated: how many others were, and do not count.
        interrupted: whether there were to be more.
    """

    samples: list[Sample] = field(default_factory=list)
    disturbed: int = 0
    repeated: int = 0
    interrupted: bool = False

    def speed(self, test: Case, variant: Variant, began: datetime) -> Speed:
        """The row that they come to."""
        samples = self.samples
        besides = [sample.beside for sample in samples if sample.beside is not None]
        return Speed(
            test=test,
            variant=variant,
            began=began,
            seconds=tuple(sample.seconds for sample in samples),
            of_raw=_ratio(samples, flash=variant.flash != "off"),
            of_raw_fa_on=_ratio(samples, flash=True),
            beside=float(np.median(besides)) if besides else None,
            forks=self._forks(test.n_gen),
            disturbed=self.disturbed,
            repeated=self.repeated,
        )

    def _forks(self, n_gen: int) -> Forks | None:
        rounds, forked = (sum(getattr(sample, name) for sample in self.samples) for name in ("rounds", "forked"))
        steps = [sample.step for sample in self.samples if sample.step is not None]
        if not forked:
            return None
        if not steps:
            return Forks(forked / rounds, None)
        token = float(np.mean([sample.seconds for sample in self.samples])) / n_gen
        return Forks(forked / rounds, token / float(np.mean(steps)) - 1)


def _ratio(samples: Sequence[Sample], *, flash: bool) -> Spread | None:
    ratios = [sample.raw[flash] / sample.step for sample in samples if sample.step is not None]
    return Spread.of(ratios) if ratios else None
