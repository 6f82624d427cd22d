"""One generation, written as if it were alone.

A coroutine that yields requests (`Feed`, `Fork`, `Keep`, `Rewind`), which are answered; its events go straight to
who reads them. It knows no model, no batch and no sequence id: the scheduler does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from ..metrics import describe
from ..sampling import draw, resolve_pause
from ..sampling.pause import Tokenizer
from ..strategy import classify, plan
from ..text import TextStream
from ..types import (
    Argmax,
    Branch,
    Draw,
    FallbackEvent,
    Feed,
    FinishReason,
    Fork,
    Keep,
    Metrics,
    Origin,
    Pause,
    RejectedEvent,
    Rewind,
    RewindEvent,
    Row,
    Strategy,
    TokenEvent,
)
from .branch import Road, candidates, roads_event, score, walk
from .guards import Budget, PauseGuard, loop_token

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ..config import Preset, SamplerName
    from ..metrics import Distribution
    from ..types import Event, Logits, Request

    Answer = Row | tuple[Row, ...] | bool | None
    Generation = Generator[Request, Answer, None]
    Part = Generator[Request, Answer, Row | None]  # the row after the last token, where that was decoded


class Cancelled(Exception):  # noqa: N818 - not an error: the scheduler throws it in, the generation ends well
    """Thrown into a generation that is to end now."""


class Vocabulary(Tokenizer, Protocol):
    """What a generation needs of a vocabulary."""

    thinking: tuple[int, int] | None

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
        begun: tokens that the reply begins with; their text comes with the first event.
    """

    preset: Preset
    sampler: SamplerName
    seed: int
    n_predict: int
    stop: tuple[str, ...]
    room: int
    begun: tuple[int, ...] = ()


class Step(NamedTuple):
    """One position looked at: its row, what was measured, the quadrant."""

    logits: Logits
    distribution: Distribution
    metrics: Metrics
    strategy: Strategy

    def logprob(self, token: int) -> float:
        """Natural logarithm of a token's probability."""
        return self.logits.item(token) - self.distribution.log_total


def generate(prompt: Sequence[int], task: Task, vocabulary: Vocabulary, tell: Callable[[Event], None]) -> Generation:
    """Generate a reply to the prompt's tokens.

    Args:
        prompt: at least one.
        task: how.
        vocabulary: the model's.
        tell: given every event, as soon as it cannot be taken back; one a token, and what else happened.

    Raises:
        MetricsError: the model's output is not a distribution.
        ConfigError: no pause text can be written with this vocabulary.
    """
    return _Writer(prompt, task, vocabulary, tell).write()


class _Writer:
    """A reply in the making: its tokens, what it still holds back, and what it may still spend."""

    def __init__(
        self, prompt: Sequence[int], task: Task, vocabulary: Vocabulary, tell: Callable[[Event], None]
    ) -> None:
        self._task = task
        self._preset = task.preset
        self._vocabulary = vocabulary
        self._tell = tell
        self._prompt = tuple(prompt)
        self._tokens = list(task.begun)  # of the reply; all are in the cache but the last, while it is fed
        self._stream = TextStream(task.stop)
        self._given = "".join(self._stream.push(vocabulary.piece(token)) for token in task.begun)
        self._random = np.random.default_rng(task.seed)
        self._uniforms: list[float] = []  # drawn ahead, the next one last
        self._held: list[Event] = []  # not yet out: they could still be taken back
        self._run: list[TextStream] = []  # the text's state before each token of a scattered run
        self._rewinds = 0
        self._left: dict[int, list[int]] = {}  # where a rewind went back to: the tokens that led astray
        self._bans = 0
        self._budget = Budget(self._preset.branch)
        self._acting = task.sampler == "entropix"
        self._pause = resolve_pause(self._preset.pause.texts, vocabulary) if self._acting else ()
        self._pauses = PauseGuard(self._preset.pause, vocabulary, (*prompt, *task.begun))
        room = task.room - len(self._prompt) + 1  # the last token is not fed
        self._most = room if task.n_predict < 0 else min(room, task.n_predict)
        self._ended = False

    def write(self) -> Generation:
        try:
            row: Answer = yield Feed((*self._prompt, *self._tokens))
            while True:
                assert isinstance(row, Row)
                part = self._act(self._look(row))
                row = (yield from part) if part else None
                if self._ended:
                    return
                row = row or (yield Feed((self._tokens[-1],)))
        except Cancelled:
            self._end(FinishReason.CANCELLED)

    # --- one step -------------------------------------------------------------------------------

    def _look(self, row: Row) -> Step:
        distribution = describe(row.logits, len(self._prompt) + len(self._tokens) - 1)
        metrics = Metrics(distribution.entropy, distribution.varentropy, row.attention)
        return Step(row.logits, distribution, metrics, classify(metrics, self._preset))

    def _act(self, step: Step) -> Part | None:
        """Do what the table says. What makes requests comes back, to be run; None where a token is written already."""
        if step.strategy is not Strategy.RESAMPLE:
            if self._held:
                self._run.clear()
                self._release()
        elif self._run and len(self._run) == self._preset.resample.run:
            return self._take_back(step)
        if self._acting:
            looping = loop_token(self._tokens, self._preset.loop)
            if looping is not None:
                self._leave_loop(step, looping)
                return None
        after_pause = step.strategy is Strategy.PAUSE and self._pauses.just_paused(len(self._tokens))
        action = plan(step.strategy, step.metrics, self._preset, self._task.sampler, after_pause=after_pause)
        if isinstance(action, Branch):
            return self._branch(step, action.instead)
        if isinstance(action, Pause):
            if self._pauses.allows(self._tokens, self._vocabulary.piece(step.distribution.best)):
                return self._insert_pause(step)
            action = action.instead
        self._put(step, step.distribution.best if isinstance(action, Argmax) else self._draw(step, action))
        return None

    def _draw(self, step: Step, action: Draw) -> int:
        """Draw a token; where the action says so, reject what is atypical and draw again without it."""
        token = draw(step.logits, step.distribution, action.settings, self._uniform(action.draws))
        if not action.atypical:
            return token
        limit = step.metrics.entropy + action.atypical * math.sqrt(step.metrics.varentropy)
        for _ in range(action.redraws):
            surprisal = -step.logprob(token) / math.log(2)
            if surprisal <= limit:
                break
            self._held.append(RejectedEvent(len(self._tokens), token, self._text_of((token,)), surprisal, limit))
            step = self._without(step, [token])
            token = draw(step.logits, step.distribution, action.settings, self._uniform(action.draws))
        return token

    def _uniform(self, draws: int) -> float:
        """The lowest of so many uniform numbers."""
        if len(self._uniforms) < draws:
            self._uniforms = self._random.random(max(256, draws))[::-1].tolist() + self._uniforms
        lowest = self._uniforms.pop()
        for _ in range(draws - 1):
            lowest = min(lowest, self._uniforms.pop())
        return lowest

    def _without(self, step: Step, tokens: Sequence[int]) -> Step:
        """The same step with tokens that cannot be drawn. Its metrics stay what they were."""
        step.logits[tokens] = -np.inf
        best = int(step.logits.argmax())
        distribution = step.distribution._replace(best=best, maximum=float(step.logits[best]))
        return step._replace(distribution=distribution)

    def _insert_pause(self, step: Step) -> Part:
        self._pauses.note(len(self._tokens), len(self._pause))
        self._put(step, self._pause[0], Origin.FORCED)
        for token in self._pause[1:]:
            if self._ended:
                break
            row = yield Feed((self._tokens[-1],))
            assert isinstance(row, Row)
            self._put(self._look(row)._replace(strategy=Strategy.PAUSE), token, Origin.FORCED)
        return None

    # --- branches -------------------------------------------------------------------------------

    def _branch(self, step: Step, instead: Draw) -> Part:
        """Fork one child for each leading candidate, and keep the one that turns out best."""
        rule = self._preset.branch
        first = candidates(step.logits, step.distribution, rule, self._vocabulary)
        if len(first) < 2:
            self._put(step, self._draw(step, instead))
            return None
        horizon = min(rule.horizon, self._tokens_left())
        extra = (len(first) - 1) * horizon
        if not self._budget.allows(extra, len(self._tokens)):
            self._fall_back(step, instead, "the budget is spent")
            return None
        if horizon < 2 or not (yield Fork(len(first), horizon)):
            self._fall_back(step, instead, "no room for children")
            return None
        roads = [Road() for _ in first]
        for road, token in zip(roads, first, strict=True):
            road.add(token, step.metrics, step.logprob(token))
        yield from walk(roads, rule, horizon, self._preset.argmax.entropy_below, self._vocabulary, self._here())
        best = max(range(len(roads)), key=lambda number: score(roads[number], rule.score))
        yield Keep(best)
        self._budget.spend(sum(road.fed for road in roads) - roads[best].fed)
        for number, road in enumerate(roads):
            self._tell(roads_event(road, rule.score, len(self._tokens), self._text_of, kept=number == best))
        return self._follow(roads[best])

    def _follow(self, road: Road) -> Row | None:
        """Write down the tokens of a road that the cache already holds."""
        for token, logprob, metrics in zip(road.tokens, road.logprobs, road.metrics, strict=True):
            self._write_down(token, logprob, metrics, Strategy.BRANCH, Origin.BRANCH)
            self._release()
            if self._ended:
                return None
        return road.row

    def _fall_back(self, step: Step, instead: Draw, reason: str) -> None:
        self._tell(FallbackEvent(len(self._tokens), step.strategy, reason))
        self._put(step, self._draw(step, instead))

    # --- rewinds and loops ------------------------------------------------------------------------

    def _take_back(self, step: Step) -> Part:
        """Go back to where a run of scattered tokens began, and take another road."""
        run = len(self._run)
        start = len(self._tokens) - run
        stream = self._run[0]
        self._run.clear()
        if self._rewinds >= self._preset.resample.rewinds:
            self._release()
        elif not (yield Rewind(len(self._prompt) + start - 1)):
            self._rewinds = self._preset.resample.rewinds  # it will not do later what it cannot do now
            self._release()
            self._tell(FallbackEvent(len(self._tokens), Strategy.RESAMPLE, "this model's state cannot be rewound"))
        else:
            self._rewinds += 1
            self._budget.spend(run + 1)
            last_kept = self._tokens[start - 1] if start else self._prompt[-1]
            dropped = tuple(self._tokens[start:])
            del self._tokens[start:]
            self._stream = stream
            self._pauses.forget(start)
            self._held = [event for event in self._held if not isinstance(event, TokenEvent)]
            self._release()
            self._tell(RewindEvent(start, dropped, self._text_of(dropped)))
            row = yield Feed((last_kept,))
            assert isinstance(row, Row)
            astray = self._left.setdefault(start, [])
            astray.append(dropped[0])
            step = self._without(self._look(row), astray)
        part = self._act(step)
        return (yield from part) if part else None

    def _leave_loop(self, step: Step, token: int) -> None:
        """Ban the token that would go round once more; end where that was done in vain before."""
        if self._bans >= self._preset.loop.bans:
            self._end(FinishReason.REPETITION)
            return
        self._bans += 1
        surprisal = -step.logprob(token) / math.log(2)
        self._held.append(RejectedEvent(len(self._tokens), token, self._text_of((token,)), surprisal, None))
        step = self._without(step, [token])
        self._put(step, self._draw(step, Draw(self._preset.sampler.settings())))

    # --- writing ----------------------------------------------------------------------------------

    def _put(self, step: Step, token: int, origin: Origin = Origin.SAMPLED) -> None:
        """Write a token, which is to be fed next."""
        if step.strategy is Strategy.RESAMPLE and self._preset.resample.run and self._acting:
            self._run.append(self._stream.copy())
        self._write_down(token, step.logprob(token), step.metrics, step.strategy, origin)
        if self._ended or not self._run:
            self._release()

    def _write_down(self, token: int, logprob: float, metrics: Metrics, strategy: Strategy, origin: Origin) -> None:
        index = len(self._tokens)
        stopped = self._vocabulary.is_end(token)
        text = self._given
        if not stopped:
            text += self._stream.push(self._vocabulary.piece(token))
            stopped = self._stream.stopped
        finish = None
        if stopped or index + 1 >= self._most:
            finish = self._finish(stopped=stopped)
            text += self._stream.flush()
            self._ended = True
        self._given = ""
        self._tokens.append(token)
        self._pauses.see(token)
        self._held.append(TokenEvent(index, token, text, logprob, metrics, strategy, origin, finish))

    def _finish(self, *, stopped: bool) -> FinishReason:
        """Why the token that is being written is the last one."""
        if stopped:
            return FinishReason.STOP
        return FinishReason.LENGTH if 0 <= self._task.n_predict <= len(self._tokens) + 1 else FinishReason.CONTEXT

    def _tokens_left(self) -> int:
        """How many tokens may still be written and fed."""
        room = self._task.room - self._here()
        return room if self._task.n_predict < 0 else min(room, self._task.n_predict - len(self._tokens))

    def _end(self, reason: FinishReason) -> None:
        """End where no token carries the end."""
        self._ended = True
        self._release()
        self._tell(TokenEvent(len(self._tokens), None, self._stream.flush(), finish_reason=reason))

    def _release(self) -> None:
        """Let out what can no longer be taken back."""
        for event in self._held:
            self._tell(event)
        self._held.clear()

    def _text_of(self, tokens: Sequence[int]) -> str:
        return b"".join(map(self._vocabulary.piece, tokens)).decode("utf-8", "replace")

    def _here(self) -> int:
        """The position after the last token."""
        return len(self._prompt) + len(self._tokens)
