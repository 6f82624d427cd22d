"""Policies: what a generation does at each step. Built once a generation, one object for each sampler name.

A policy may remember what was written (`accept`). A fork gives each branch a copy and a rewind brings back an older
one, so a sampler with memory needs nothing of the generation beyond these three methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from ..types import Argmax, Draw
from .table import constant_actions, plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..config import Preset, SamplerName
    from ..types import Action, Metrics, Strategy


class Policy(Protocol):
    """What to do at a step, and what is remembered from one to the next.

    Attributes:
        acts: whether it may pause, fork, rewind and leave loops; else it only chooses tokens.
        remembers: whether it is to be told of every token.
    """

    acts: bool
    remembers: bool

    def decide(self, strategy: Strategy, metrics: Metrics, *, after_pause: bool) -> Action:
        """The action in a quadrant of the table; `after_pause` tells whether the last token ends a pause."""

    def accept(self, token: int) -> None:
        """Note a token that was written, whoever chose it."""

    def copy(self) -> Policy:
        """The same state, independent of this one; itself where it has none."""


class _Stateless:
    """A policy that remembers nothing."""

    acts = False
    remembers = False

    def __init__(self, preset: Preset) -> None:
        self._preset = preset

    def accept(self, token: int) -> None:
        """Forget it."""

    def copy(self) -> Self:
        """This one serves all."""
        return self


class Entropix(_Stateless):
    """Acts on the table."""

    acts = True

    def __init__(self, preset: Preset) -> None:
        super().__init__(preset)
        self._constant = constant_actions(preset)

    def decide(self, strategy: Strategy, metrics: Metrics, *, after_pause: bool) -> Action:
        """What the table says."""
        if strategy in self._constant and not after_pause:
            return self._constant[strategy]
        return plan(strategy, metrics, self._preset, after_pause=after_pause)


class Greedy(_Stateless):
    """The most probable token, always."""

    def decide(self, strategy: Strategy, metrics: Metrics, *, after_pause: bool) -> Action:
        """The same in every quadrant."""
        return _ARGMAX


class Temperature(_Stateless):
    """One draw with the preset's own filters, always."""

    def __init__(self, preset: Preset) -> None:
        super().__init__(preset)
        self._draw = Draw(preset.sampler.settings())

    def decide(self, strategy: Strategy, metrics: Metrics, *, after_pause: bool) -> Action:
        """The same in every quadrant."""
        return self._draw


_ARGMAX = Argmax()
_POLICIES: Mapping[SamplerName, Callable[[Preset], Policy]] = {
    "entropix": Entropix,
    "greedy": Greedy,
    "temperature": Temperature,
}


def make_policy(sampler: SamplerName, preset: Preset) -> Policy:
    """A new policy of a sampler's name, with a preset's numbers."""
    return _POLICIES[sampler](preset)
