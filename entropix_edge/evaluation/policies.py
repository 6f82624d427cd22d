"""Policies: ways to answer, by name, all through the same scheduler."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import strategy
from ..config import GenerationConfig, SamplerRule
from ..errors import ConfigError
from ..sessions import VotingConfig
from ..strategy import load_preset

if TYPE_CHECKING:
    from ..config import Preset, SamplerName

DEFAULT_POLICIES = ("greedy", "temperature", "temperature:1.0", "article", "edge")
_ONE = VotingConfig(candidates=1, early_stopping=False)
_VOTERS_TEMPERATURE = 0.7
_CHECK = "+check"
_KNOWN = (
    "greedy, temperature[:T], article, edge, a preset's TOML file, self-consistency:K or deliberate[:N], "
    f"each with {_CHECK} or without"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One way to answer.

    Attributes:
        name: as the user wrote it.
        preset: the table; a name stands for the one that fits the model.
        sampler: what is done with the table's verdict.
        check: as in `GenerationConfig`.
        voting: how many candidates, and how one is chosen.
    """

    name: str
    preset: Preset | str
    sampler: SamplerName = "entropix"
    check: bool | None = None
    voting: VotingConfig = _ONE

    @property
    def unchecked(self) -> str:
        """The name of the same policy without the check."""
        return self.name.removesuffix(_CHECK)

    def config(self, **values: Any) -> GenerationConfig:
        """How one reply of it is generated; `values` are what the policy does not say."""
        return GenerationConfig(preset=self.preset, sampler=self.sampler, check=self.check, **values)


def policy(name: str) -> Policy:
    """The policy of a name; one that ends in `+check` has its numbers checked.

    Raises:
        ConfigError: an unknown name, or a number outside its range.
    """
    if name.endswith(_CHECK):
        return replace(policy(name.removesuffix(_CHECK)), name=name, check=True)
    kind, _, number = name.partition(":")
    match kind:
        case "greedy":
            return Policy(name=name, preset="edge", sampler="greedy")
        case "temperature":
            return Policy(name=name, preset=_plain(name, number or "0.7"), sampler="temperature")
        case "self-consistency":
            candidates = _candidates(name, number)
            voting = VotingConfig(candidates=candidates, weighted=False, early_stopping=False)
            preset = _plain(name, str(_VOTERS_TEMPERATURE))
            return Policy(name=name, preset=preset, sampler="temperature", voting=voting)
        case "deliberate":
            return Policy(name=name, preset="edge", voting=_deliberation(name, number))
        case _:
            return Policy(name=name, preset=_named(name))


def reads_attention(policy: Policy) -> bool:
    """Whether what the policy does depends on attention, and not only on the logits."""
    preset = load_preset(policy.preset) if isinstance(policy.preset, str) else policy.preset
    return policy.sampler == "entropix" and strategy.reads_attention(preset)


def forks(policy: Policy) -> bool:
    """Whether it may need sequences for branches."""
    preset = load_preset(policy.preset) if isinstance(policy.preset, str) else policy.preset
    return policy.sampler == "entropix" and preset.branch.children > 1


def _named(name: str) -> Preset | str:
    try:
        preset = load_preset(name)
    except ConfigError as error:
        raise ConfigError(f"policy {name!r} is not known: it must be one of {_KNOWN} ({error})") from error
    return name if name == preset.name else preset


def _plain(name: str, temperature: str) -> Preset:
    """A plain sampler: temperature and min_p 0.05."""
    try:
        sampler = SamplerRule(temperature=float(temperature), top_k=0, top_p=1.0, min_p=0.05)
    except ValueError as error:  # ConfigError is one
        raise ConfigError(f"policy {name!r}: the temperature must be a number from 0 to 100") from error
    return replace(load_preset("article"), name=name, sampler=sampler)


def _deliberation(name: str, number: str) -> VotingConfig:
    return VotingConfig(candidates=_candidates(name, number)) if ":" in name else VotingConfig()


def _candidates(name: str, number: str) -> int:
    if not number.isdecimal():
        raise ConfigError(f"policy {name!r} needs a number of candidates: {name.partition(':')[0]}:8")
    return int(number)
