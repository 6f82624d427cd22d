"""One generation, written as if it were alone.

A coroutine that yields requests (`Feed`, `Fork`, `Keep`, `Rewind`), which are answered, and events, answered
with None. It knows no model, no batch and no sequence id: the scheduler does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, assert_never

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
    from collections.abc import Generator, Iterator, Sequence

    from ..config import Preset, SamplerName
    from ..metrics import Distribution
    from ..types import Event, Logits, Request

    Answer = Row | tuple[Row, ...] | bool | None
    Generation = Generator[Request | Event, Answer, None]
    Part = Generator[Request | Event, Answer, Row | None]


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
        return float(self.logits[token]) - self.distribution.log_total


def generate(prompt: Sequence[int], task: Task, vocabulary: Vocabulary) -> Generation:
    """Generate a reply to the prompt's tokens, one event a token.

    Raises:
        MetricsError: the model's output is not a distribution.
        ConfigError: no pause text can be written with this vocabulary.
    """
    return _Writer(prompt, task, vocabulary).write()


class _Writer:
    """A reply in the making: its tokens, what it still holds back, and what it may still spend."""

    def __init__(self, prompt: Sequence[int], task: Task, vocabulary: Vocabulary) -> None:
        self._task = task
        self._preset = task.preset
        self._vocabulary = vocabulary
        self._prompt = tuple(prompt)
        self._tokens = list(task.begun)  # of the reply; all are in the cache but the last, while it is fed
        self._stream = TextStream(task.stop)
        self._given = "".join(self._stream.push(vocabulary.piece(token)) for token in task.begun)
        self._random = np.random.default_rng(task.seed)
        self._held: list[Event] = []  # not yet out: they could still be taken back
        self._run: list[TextStream] = []  # the text's state before each token of a scattered run
        self._rewinds = 0
        self._left: dict[int, list[int]] = {}  # where a rewind went back to: the tokens that led astray
        self._bans = 0
        self._budget = Budget(self._preset.branch)
        self._acting = task.sampler == "entropix"
        self._pause = resolve_pause(self._preset.pause.texts, vocabulary) if self._acting else ()
        self._pauses = PauseGuard(self._preset.pause, vocabulary, (*prompt, *task.begun))

    def write(self) -> Generation:
        try:
            row: Row | None = yield from self._feed((*self._prompt, *self._tokens))
            while row is not None:
                row = yield from self._act(self._look(row))
        except Cancelled:
            yield from self._release()
            yield self._end(FinishReason.CANCELLED)

    # --- one step -------------------------------------------------------------------------------

    def _look(self, row: Row) -> Step:
        distribution = describe(row.logits, self._here() - 1)
        metrics = Metrics(distribution.entropy, distribution.varentropy, row.attention)
        return Step(row.logits, distribution, metrics, classify(metrics, self._preset))

    def _act(self, step: Step) -> Part:
        """Do what the table says; the row to go on from, None at the end."""
        if step.strategy is not Strategy.RESAMPLE:
            self._run.clear()
            if self._held:
                yield from self._release()
        elif self._run and len(self._run) == self._preset.resample.run:
            return (yield from self._take_back(step))
        if self._acting:
            looping = loop_token(self._tokens, self._preset.loop)
            if looping is not None:
                return (yield from self._leave_loop(step, looping))
        after_pause = self._pauses.just_paused(len(self._tokens))
        action = plan(step.strategy, step.metrics, self._preset, self._task.sampler, after_pause=after_pause)
        match action:
            case Branch(instead):
                return (yield from self._branch(step, instead))
            case Pause(instead):
                if self._pauses.allows(self._tokens, self._vocabulary.piece(step.distribution.best)):
                    return (yield from self._insert_pause(step))
                return (yield from self._draw(step, instead))
            case Argmax():
                return (yield from self._put(step, step.distribution.best))
            case Draw():
                return (yield from self._draw(step, action))
            case _:
                assert_never(action)

    def _draw(self, step: Step, action: Draw) -> Part:
        """Draw a token; where the action says so, reject what is atypical and draw again without it."""
        limit = step.metrics.entropy + action.atypical * math.sqrt(step.metrics.varentropy)
        logprobs: dict[int, float] = {}
        while True:
            token = draw(step.logits, step.distribution, action.settings, self._random.random(action.draws))
            logprobs[token] = step.logprob(token)
            surprisal = -logprobs[token] / math.log(2)
            if not action.atypical or surprisal <= limit or len(logprobs) > action.redraws:
                break
            self._held.append(RejectedEvent(len(self._tokens), token, self._text_of((token,)), surprisal, limit))
            step = self._without(step, [token])
        return (yield from self._put(step, token))

    def _without(self, step: Step, tokens: Sequence[int]) -> Step:
        """The same step with tokens that cannot be drawn. Its metrics stay what they were."""
        step.logits[tokens] = -np.inf
        best = int(step.logits.argmax())
        distribution = step.distribution._replace(best=best, maximum=float(step.logits[best]))
        return step._replace(distribution=distribution)

    def _insert_pause(self, step: Step) -> Part:
        self._pauses.note(len(self._tokens), len(self._pause))
        row = yield from self._put(step, self._pause[0], Origin.FORCED)
        for token in self._pause[1:]:
            if row is None:
                return None
            step = self._look(row)._replace(strategy=Strategy.PAUSE)
            row = yield from self._put(step, token, Origin.FORCED)
        return row

    # --- branches -------------------------------------------------------------------------------

    def _branch(self, step: Step, instead: Draw) -> Part:
        """Fork one child for each leading candidate, and keep the one that turns out best."""
        rule = self._preset.branch
        first = candidates(step.logits, step.distribution, rule, self._vocabulary)
        if len(first) < 2:
            return (yield from self._draw(step, instead))
        horizon = min(rule.horizon, self._tokens_left())
        extra = (len(first) - 1) * horizon
        if not self._budget.allows(extra, len(self._tokens)):
            return (yield from self._fall_back(step, instead, "the budget is spent"))
        if horizon < 2 or not (yield from self._ask(Fork(len(first), horizon))):
            return (yield from self._fall_back(step, instead, "no room for children"))
        roads = [Road() for _ in first]
        for road, token in zip(roads, first, strict=True):
            road.add(token, step.metrics, step.logprob(token))
        yield from walk(roads, rule, horizon, self._preset.argmax.entropy_below, self._vocabulary, self._here())
        best = max(range(len(roads)), key=lambda number: score(roads[number], rule.score))
        yield Keep(best)
        self._budget.spend(sum(road.fed for road in roads) - roads[best].fed)
        for number, road in enumerate(roads):
            yield roads_event(road, rule.score, len(self._tokens), self._text_of, kept=number == best)
        return (yield from self._follow(roads[best]))

    def _follow(self, road: Road) -> Part:
        """Write down the tokens of a road that the cache already holds."""
        for token, logprob, metrics in zip(road.tokens, road.logprobs, road.metrics, strict=True):
            finish = self._write_down(token, logprob, metrics, Strategy.BRANCH, Origin.BRANCH)
            yield from self._release()
            if finish:
                return None
        return road.row

    def _fall_back(self, step: Step, instead: Draw, reason: str) -> Part:
        yield FallbackEvent(len(self._tokens), step.strategy, reason)
        return (yield from self._draw(step, instead))

    # --- rewinds and loops ------------------------------------------------------------------------

    def _take_back(self, step: Step) -> Part:
        """Go back to where a run of scattered tokens began, and take another road."""
        run = len(self._run)
        start = len(self._tokens) - run
        stream = self._run[0]
        self._run.clear()
        if self._rewinds >= self._preset.resample.rewinds:
            yield from self._release()
            return (yield from self._act(step))
        last_kept = self._tokens[start - 1] if start else self._prompt[-1]
        if not (yield from self._ask(Rewind(len(self._prompt) + start - 1))):
            self._rewinds = self._preset.resample.rewinds  # it will not do later what it cannot do now
            yield from self._release()
            yield FallbackEvent(len(self._tokens), Strategy.RESAMPLE, "this model's state cannot be rewound")
            return (yield from self._act(step))
        self._rewinds += 1
        self._budget.spend(run + 1)
        dropped = tuple(self._tokens[start:])
        del self._tokens[start:]
        self._stream = stream
        self._pauses.forget(start)
        self._held = [event for event in self._held if not isinstance(event, TokenEvent)]
        yield from self._release()
        yield RewindEvent(start, dropped, self._text_of(dropped))
        row = yield from self._feed((last_kept,))
        astray = self._left.setdefault(start, [])
        astray.append(dropped[0])
        return (yield from self._act(self._without(self._look(row), astray)))

    def _leave_loop(self, step: Step, token: int) -> Part:
        """Ban the token that would go round once more; end where that was done in vain before."""
        if self._bans >= self._preset.loop.bans:
            yield from self._release()
            yield self._end(FinishReason.REPETITION)
            return None
        self._bans += 1
        surprisal = -step.logprob(token) / math.log(2)
        self._held.append(RejectedEvent(len(self._tokens), token, self._text_of((token,)), surprisal, None))
        step = self._without(step, [token])
        return (yield from self._draw(step, Draw(self._preset.sampler.settings())))

    # --- writing ----------------------------------------------------------------------------------

    def _put(self, step: Step, token: int, origin: Origin = Origin.SAMPLED) -> Part:
        """Write a token and feed it; the next row, None where it was the last."""
        if step.strategy is Strategy.RESAMPLE and self._preset.resample.run and self._acting:
            self._run.append(self._stream.copy())
        finish = self._write_down(token, step.logprob(token), step.metrics, step.strategy, origin)
        if finish or not self._run:
            yield from self._release()
        return None if finish else (yield from self._feed((token,)))

    def _write_down(
        self, token: int, logprob: float, metrics: Metrics, strategy: Strategy, origin: Origin
    ) -> FinishReason | None:
        index = len(self._tokens)
        ended = self._vocabulary.is_end(token)
        text = "" if ended else self._stream.push(self._vocabulary.piece(token))
        finish = self._finish(stopped=ended or self._stream.stopped)
        if finish:
            text += self._stream.flush()
        text, self._given = self._given + text, ""
        self._tokens.append(token)
        self._pauses.see(token)
        self._held.append(TokenEvent(index, token, text, logprob, metrics, strategy, origin, finish))
        return finish

    def _finish(self, *, stopped: bool) -> FinishReason | None:
        """Why the token that is being written is the last one."""
        if stopped:
            return FinishReason.STOP
        if len(self._tokens) + 1 == self._task.n_predict:
            return FinishReason.LENGTH
        if self._here() >= self._task.room:
            return FinishReason.CONTEXT
        return None

    def _tokens_left(self) -> int:
        """How many tokens may still be written and fed."""
        room = self._task.room - self._here()
        return room if self._task.n_predict < 0 else min(room, self._task.n_predict - len(self._tokens))

    def _end(self, reason: FinishReason) -> TokenEvent:
        """An end that no token carries."""
        return TokenEvent(len(self._tokens), None, self._stream.flush(), finish_reason=reason)

    def _release(self) -> Iterator[Event]:
        """Let out what can no longer be taken back."""
        held, self._held = self._held, []
        yield from held

    def _text_of(self, tokens: Sequence[int]) -> str:
        return b"".join(map(self._vocabulary.piece, tokens)).decode("utf-8", "replace")

    def _here(self) -> int:
        """The position after the last token."""
        return len(self._prompt) + len(self._tokens)

    # --- asking the scheduler ---------------------------------------------------------------------

    def _feed(self, tokens: tuple[int, ...]) -> Generator[Request | Event, Answer, Row]:
        answer = yield Feed(tokens)
        assert isinstance(answer, Row)
        return answer

    def _ask(self, request: Request) -> Generator[Request | Event, Answer, bool]:
        answer = yield request
        assert isinstance(answer, bool)
        return answer
