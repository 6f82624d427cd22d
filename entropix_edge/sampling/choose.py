"""The one place where a token is chosen: of a reply, of a branch, and where a branch begins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..types import Argmax, SamplerSettings
from .draw import draw, survivors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..metrics import Distribution
    from ..types import Draw, Logits

_AHEAD = 256  # uniform numbers drawn at a time


class Prediction(NamedTuple):
    """What the model predicts at one position.

    Attributes:
        logits: float32, shape (n_vocab,), with −inf for tokens that must not be chosen.
        distribution: of the model's own logits; its `best` and `maximum` are of those that may be chosen.
    """

    logits: Logits
    distribution: Distribution

    def logprob(self, token: int) -> float:
        """Natural logarithm of a token's probability at temperature 1."""
        distribution = self.distribution
        logit = distribution.maximum if token == distribution.best else self.logits.item(token)
        return logit - distribution.log_total

    def surprisal(self, token: int) -> float:
        """−log2 of a token's probability at temperature 1, in bits."""
        return -self.logprob(token) / math.log(2)

    def without(self, tokens: Sequence[int]) -> Prediction:
        """The same with tokens that must not be chosen; entropy, varentropy and log-total stay the model's own."""
        logits = self.logits.copy()
        logits[list(tokens)] = -np.inf
        best = int(logits.argmax())
        return Prediction(logits, self.distribution._replace(best=best, maximum=logits.item(best)))


class Chooser:
    """Chooses the tokens of one generation.

    Args:
        seed: of the uniform numbers that draws take.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._uniforms: list[float] = []  # drawn ahead, the next one last

    def choose(
        self,
        prediction: Prediction,
        action: Argmax | Draw,
        rejected: Callable[[int, float, float], None],
    ) -> int:
        """A token, as the action says. What is atypical is rejected, and drawn again without it.

        Args:
            prediction: what to choose from.
            action: argmax, or how to draw.
            rejected: told each rejected token, its surprisal and the limit that it exceeded, in bits.
        """
        if isinstance(action, Argmax):
            return prediction.distribution.best
        redraws = action.redraws if action.atypical else 0
        while True:
            distribution = prediction.distribution
            token = draw(prediction.logits, distribution, action.settings, self._uniform(action.draws))
            if not redraws:
                return token
            limit = distribution.entropy + action.atypical * math.sqrt(distribution.varentropy)
            surprisal = prediction.surprisal(token)
            if surprisal <= limit:
                return token
            rejected(token, surprisal, limit)
            prediction = prediction.without((token,))
            redraws -= 1

    def _uniform(self, draws: int) -> float:
        """The lowest of so many uniform numbers: what draws the most probable of as many draws."""
        if len(self._uniforms) < draws:
            self._uniforms = self._random.random(max(_AHEAD, draws))[::-1].tolist() + self._uniforms
        if draws == 1:
            return self._uniforms.pop()
        lowest = min(self._uniforms[-draws:])
        del self._uniforms[-draws:]
        return lowest


def leading(prediction: Prediction, count: int, *, least_share: float = 0.0) -> list[int]:
    """The most probable tokens, best first; ties go to the lower id.

    Args:
        prediction: what to choose from.
        count: at most so many.
        least_share: the least probability, as a share of the best token's.
    """
    settings = SamplerSettings(temperature=1.0, top_k=count, top_p=1.0, min_p=least_share)
    tokens, _shares = survivors(prediction.logits, prediction.distribution, settings)
    found: list[int] = tokens.tolist()
    return found
