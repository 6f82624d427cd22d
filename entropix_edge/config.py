"""Configuration as frozen, validated values. What reads it from files lives with its users."""

from __future__ import annotations

import json
import math
import numbers
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from .engine_config import EngineConfig as EngineConfig
from .errors import ConfigError
from .ranges import Checked, set_number, within
from .types import SamplerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

SamplerName = Literal["entropix", "greedy", "temperature"]
SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
BranchScore = Literal["mean", "total", "entropy"]

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_PRESET = "edge"
DEFAULT_CTX_SIZE = 4096
MOST_ALTERNATIVES = 20
MOST_CANDIDATES = 64
DEFAULT_CANDIDATES = 8
_TEMPLATE_OWN = frozenset(["messages", "add_generation_prompt", "bos_token", "eos_token"])


_INF = math.inf

# --- the preset: the table's thresholds and coefficients ----------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerRule(Checked):
    """The filters that the table's formulas start from. Ranges as in `types.SamplerSettings`."""

    temperature: float = within(0, 100)
    top_k: int = within(0, 2**31 - 1)
    top_p: float = within(0, 1)
    min_p: float = within(0, 1)

    def settings(self) -> SamplerSettings:
        """The same values as one draw's settings."""
        return SamplerSettings(self.temperature, self.top_k, self.top_p, self.min_p)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgmaxRule(Checked):
    """LELV: entropy (bits) and varentropy (bits²) both below."""

    entropy_below: float = within(0, _INF)
    varentropy_below: float = within(0, _INF)


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchRule(Checked):
    """LEHV. T·(scale + interaction·I) up to its cap; top_k·(1 + agreement·(1 − A)) down to its floor.

    Attributes:
        children: branches of a fork; fewer than 2 draws instead.
        least_share: least probability of a branch's first token, as a share of the best one's.
        horizon: most tokens of a branch.
        settled: a branch ends after this many tokens in a row with an entropy under argmax's.
        score: of a branch, more is better: "mean" log-probability, "total" log-probability, or "entropy"
            (the mean entropy of its steps, negated).
        budget: extra tokens decoded, as a share of the reply's.
        credit: tokens of reply that the budget counts as written before the first.
    """

    entropy_below: float = within(0, _INF)
    varentropy_above: float = within(0, _INF)
    temperature_scale: float = within(0, 100)
    temperature_interaction: float = within(0, 100, weighs="attention")
    temperature_max: float = within(0, 100)
    top_k_agreement: float = within(0, 100, weighs="attention")
    top_k_min: int = within(1, 2**31 - 1)
    children: int = within(0, 8)
    least_share: float = within(0, 1)
    horizon: int = within(1, 256)
    settled: int = within(1, 256)
    score: BranchScore
    budget: float = within(0, 100)
    credit: int = within(0, 2**31 - 1)

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.score not in get_args(BranchScore):
            raise ConfigError(f"score is {self.score!r}: it must be one of {', '.join(get_args(BranchScore))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRule(Checked):
    """HELV. Insert the pause; right after one draw at T·(scale + attention_entropy·AE) up to its cap.

    Attributes:
        texts: candidates for the pause text, the best liked first.
        cooldown: tokens that must lie between two pauses, and before the first; with 0, a pause may
            stand anywhere, but for right after one.
        most: pauses a reply; 0 for no limit.
    """

    entropy_above: float = within(0, _INF)
    varentropy_below: float = within(0, _INF)
    texts: tuple[str, ...] = (" ...",)
    cooldown: int = within(0, 2**31 - 1)
    most: int = within(0, 2**31 - 1)
    temperature_scale: float = within(0, 100)
    temperature_attention_entropy: float = within(0, 100, weighs="attention")
    temperature_max: float = within(0, 100)

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        texts: object = self.texts
        if not isinstance(texts, tuple) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise ConfigError(f"texts is {self.texts!r}: it must be a list of at least one non-empty text")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResampleRule(Checked):
    """HEHV. T·(scale + attention_varentropy·AV) from its floor; top_p − attention_entropy·AE to its floor.

    Attributes:
        filtered: 1 draws through top_k, top_p and min_p; 0 from the whole distribution, where rejection
            does their work.
        atypical: reject a drawn token whose surprisal is above H + atypical·√V; 0 rejects none.
        redraws: most rejections a token.
        run: rewind when this many tokens in a row fell into this quadrant; 0 never rewinds.
        rewinds: most rewinds a reply.
    """

    entropy_above: float = within(0, _INF)
    varentropy_above: float = within(0, _INF)
    temperature_scale: float = within(0, 100)
    temperature_attention_varentropy: float = within(0, 100, weighs="attention")
    temperature_min: float = within(0, 100)
    top_p_attention_entropy: float = within(0, 100, weighs="attention")
    top_p_min: float = within(0, 1)
    filtered: int = within(0, 1)
    atypical: float = within(0, 100)
    redraws: int = within(0, 100)
    run: int = within(0, 64)
    rewinds: int = within(0, 2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveRule(Checked):
    """Everywhere else: the most probable of `draws` draws, each filter moved by the metrics.

    T·(1 + uncertainty·(H + V) + attention·(AE + AV) − agreement·A); top_p·(1 + attention_varentropy·AV);
    top_k·(1 + interaction·I − agreement·A); min_p·(1 − uncertainty·(H + V)); the last three clipped.
    """

    draws: int = within(1, 1000)
    temperature_uncertainty: float = within(0, 100, weighs="uncertainty")
    temperature_attention: float = within(0, 100, weighs="attention")
    temperature_agreement: float = within(0, 100, weighs="attention")
    top_p_attention_varentropy: float = within(0, 100, weighs="attention")
    top_p_min: float = within(0, 1)
    top_p_max: float = within(0, 1)
    top_k_interaction: float = within(0, 100, weighs="attention")
    top_k_agreement: float = within(0, 100, weighs="attention")
    top_k_min: int = within(1, 2**31 - 1)
    top_k_max: int = within(1, 2**31 - 1)
    min_p_uncertainty: float = within(0, 100, weighs="uncertainty")
    min_p_min: float = within(0, 1)
    min_p_max: float = within(0, 1)

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        for name in ("top_p", "top_k", "min_p"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if low > high:
                raise ConfigError(f"{name}_min is {low:g}: it must not be above {name}_max, {high:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRule(Checked):
    """The guard against repetition without end.

    Attributes:
        span: tokens of repetition that make a loop; 0 guards against none.
        repeats: how often the same must have come.
        bans: how often a loop's next token is banned before the reply ends.
    """

    span: int = within(0, 2**31 - 1)
    repeats: int = within(2, 2**31 - 1)
    bans: int = within(0, 2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRule(Checked):
    """What is verified when it closes, where the model was not sure of it.

    Attributes:
        arithmetic: 1 verifies numbers after `=`, and sets wrong ones right; 0 does not.
        entropy_above: of a number's tokens, in bits: only where the greatest is above is it verified.
        most: corrections a reply.
    """

    arithmetic: int = within(0, 1)
    entropy_above: float = within(0, _INF)
    most: int = within(0, 2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One whole table: where each quadrant begins, and what is done there."""

    name: str
    sampler: SamplerRule
    argmax: ArgmaxRule
    branch: BranchRule
    pause: PauseRule
    resample: ResampleRule
    adaptive: AdaptiveRule
    check: CheckRule
    loop: LoopRule


# --- the engine and one generation --------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """How one reply is generated.

    Attributes:
        preset: the table, or the name of one (a shipped preset, or a TOML file's path).
        sampler: "entropix" acts on the table; "greedy" and "temperature" only report it.
        check: whether numbers after `=` are checked, by the preset's `check` rule, whatever chooses the tokens; None
            leaves it to the preset where the sampler is "entropix", and checks none with the others.
        seed: of the draws, from 0 to 2⁶⁴ − 1; None means a new one, which the reply names.
        n_predict: most tokens of the reply; −1 means until the model or the context ends.
        stop: texts that end the reply; they are not part of it. A control token's text stands for that token.
        alternatives: how many of the most probable tokens each event names, at most 20.
        parse_special: read control-token text in the prompt as control tokens.
        chat_template_kwargs: variables for the model's chat template, such as `enable_thinking`; what JSON can hold.
    """

    preset: Preset | str = DEFAULT_PRESET
    sampler: SamplerName = "entropix"
    check: bool | None = None
    seed: int | None = None
    n_predict: int = -1
    stop: tuple[str, ...] = ()
    alternatives: int = 0
    parse_special: bool = False
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"sampler is {self.sampler!r}: it must be one of {', '.join(SAMPLERS)}")
        if self.check not in (None, True, False):
            raise ConfigError(f"check is {self.check!r}: it must be true, false or none")
        if self.seed is not None:
            set_number(self, "seed", int, 0, 2**64 - 1)
        object.__setattr__(self, "n_predict", check_n_predict(self.n_predict))
        set_number(self, "alternatives", int, 0, MOST_ALTERNATIVES)
        if isinstance(self.stop, str) or not all(isinstance(text, str) for text in self.stop):
            raise ConfigError(f"stop is {self.stop!r}: it must be a tuple of texts")
        if not all(self.stop):
            raise ConfigError("a stop text is empty: each stop text must be non-empty")
        _check_template_variables(self.chat_template_kwargs)

    def in_effect(self, preset: Preset) -> Preset:
        """A preset as this reply goes by it: with numbers checked or not."""
        check = self.check
        if check is None:
            check = self.sampler == "entropix" and bool(preset.check.arithmetic)
        if check == bool(preset.check.arithmetic):
            return preset
        return replace(preset, check=replace(preset.check, arithmetic=int(check)))


def _check_template_variables(variables: Mapping[str, Any]) -> None:
    for name in variables:
        if not isinstance(name, str) or name in _TEMPLATE_OWN:
            own = ", ".join(sorted(_TEMPLATE_OWN))
            raise ConfigError(f"chat_template_kwargs names {name!r}: it must be a name other than {own}")
    try:
        json.dumps(dict(variables))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"chat_template_kwargs is {variables!r}: it must be what JSON can hold ({error})") from error


def check_n_predict(value: object) -> int:
    """A reply length as a plain `int`: −1 or at least 1.

    Raises:
        ConfigError: naming the value.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or (value != -1 and value < 1):
        raise ConfigError(f"n_predict is {value!r}: it must be at least 1, or -1 (until the model or the context ends)")
    return int(value)
