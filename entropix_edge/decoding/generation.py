"""One generation, written as if it were alone.

A coroutine that yields requests (`Feed`), which are answered with a `Row`, and events, answered with None.
It knows no model, no batch and no sequence id: the scheduler does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, assert_never

import numpy as np

from ..metrics import describe
from ..sampling import draw, resolve_pause
from ..sampling.pause import Tokenizer
from ..strategy import classify, plan
from ..text import TextStream
from ..types import Argmax, Draw, Feed, FinishReason, Metrics, Origin, Pause, Strategy, TokenEvent

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ..config import Preset, SamplerName
    from ..metrics import Distribution
    from ..types import Event, Request, Row

    Generation = Generator[Request | Event, Row | None, None]


class Cancelled(Exception):  # noqa: N818 - not an error: the scheduler throws it in, the generation ends well
    """Thrown into a generation that is to end now."""


class Vocabulary(Tokenizer, Protocol):
    """What a generation needs of a vocabulary."""

    def is_end(self, token: int) -> bool:
        """Whether a token ends the model's turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one generation goes by.

    Attributes:
        preset: the table.
        sampler: what to do with its verdict.
        seed: of the draws.
        n_predict: most tokens, −1 for no limit.
        stop: texts that end the reply.
        room: cells that prompt and reply may fill together.
    """

    preset: Preset
    sampler: SamplerName
    seed: int
    n_predict: int
    stop: tuple[str, ...]
    room: int


def generate(prompt: Sequence[int], task: Task, vocabulary: Vocabulary) -> Generation:
    """Generate a reply to the prompt's tokens, one event a token.

    Raises:
        MetricsError: the model's output is not a distribution.
        ConfigError: no pause text can be written with this vocabulary.
    """
    stream = TextStream(task.stop)
    index = 0
    try:
        random = np.random.default_rng(task.seed)
        pause = resolve_pause(task.preset.pause.texts, vocabulary) if task.sampler == "entropix" else ()
        forced: deque[int] = deque()
        origin = Origin.SAMPLED
        position = len(prompt)
        row = yield Feed(tuple(prompt))
        while row is not None:
            distribution = describe(row.logits, position - 1)
            metrics = Metrics(distribution.entropy, distribution.varentropy, row.attention)
            strategy = Strategy.PAUSE if forced else classify(metrics, task.preset)
            if not forced:
                after_pause = origin is Origin.FORCED
                action = plan(strategy, metrics, task.preset, task.sampler, after_pause=after_pause)
                if isinstance(action, Pause):
                    forced.extend(pause)
                else:
                    token = _choose(action, row, distribution, random)
            origin = Origin.FORCED if forced else Origin.SAMPLED
            if forced:
                token = forced.popleft()

            ended = vocabulary.is_end(token)
            text = "" if ended else stream.push(vocabulary.piece(token))
            finish = _finish(task, index, position, stopped=ended or stream.stopped)
            if finish:
                text += stream.flush()
            logprob = float(row.logits[token]) - distribution.log_total
            yield TokenEvent(index, token, text, logprob, metrics, strategy, origin, finish)
            index += 1
            if finish:
                return
            row = yield Feed((token,))
            position += 1
    except Cancelled:
        yield TokenEvent(index, None, stream.flush(), finish_reason=FinishReason.CANCELLED)


def _choose(action: Argmax | Draw, row: Row, distribution: Distribution, random: np.random.Generator) -> int:
    match action:
        case Argmax():
            return distribution.best
        case Draw(settings, draws):
            return draw(row.logits, distribution, settings, random.random(draws))
        case _:
            assert_never(action)


def _finish(task: Task, index: int, position: int, *, stopped: bool) -> FinishReason | None:
    """Why the token at this index, which would take this position, is the last one."""
    if stopped:
        return FinishReason.STOP
    if index + 1 == task.n_predict:
        return FinishReason.LENGTH
    if position >= task.room:
        return FinishReason.CONTEXT
    return None
