"""What one generation goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config import Preset, SamplerName


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one generation goes by.

    Attributes:
        preset: the table.
        sampler: what to do with its verdict.
        seed: of the draws.
        n_predict: most tokens, −1 for no limit.
        stop: texts that end the reply.
        stop_tokens: tokens that end the reply as the model's own end does.
        capacity: cells that prompt and reply may fill together.
        begin_tokens: that the reply begins with; their text comes with the first event.
        given_tokens: the whole reply, where it is known and only to be measured: nothing is chosen.
        alternatives: how many of the most probable tokens each event names.
    """

    preset: Preset
    sampler: SamplerName
    seed: int
    n_predict: int
    stop: tuple[str, ...]
    capacity: int
    begin_tokens: tuple[int, ...] = ()
    given_tokens: tuple[int, ...] = ()
    stop_tokens: frozenset[int] = frozenset()
    alternatives: int = 0
