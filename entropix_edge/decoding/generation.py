"""One generation, written as if it were alone: it decides what becomes of each position.

A coroutine that yields requests (`Feed`, `Fork`, `Keep`, `Rewind`), which are answered. Its events are emitted by its
transcript. It knows no model, no batch and no sequence id: the scheduler does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..metrics import describe
from ..sampling import Chooser, Prediction, leading, resolve_pause
from ..strategy import classify, make_policy
from ..types import (
    Alternative,
    Argmax,
    Branch,
    BranchEvent,
    CorrectionEvent,
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
)
from .branch import Child, Growth, first_tokens
from .guards import Budget, LoopGuard, PauseGuard
from .numbers import NumberWatch
from .protocols import Cancelled
from .transcript import Entry, Transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ..strategy import Policy
    from ..text import TextStream
    from ..types import Event, Request
    from .numbers import WrongNumber
    from .protocols import Answer, Generation, Part, Vocabulary
    from .task import Task


# Looked up at every token: an enumeration's own members cost more to reach, as does a named tuple's own `__new__`.
_RESAMPLE, _PAUSE = Strategy.RESAMPLE, Strategy.PAUSE
_new = tuple.__new__


class Step(NamedTuple):
    """One position: what the model predicts, what was measured, the quadrant, and what may be chosen from."""

    prediction: Prediction
    metrics: Metrics
    strategy: Strategy
    allowed: Prediction

    def without(self, tokens: Sequence[int]) -> Step:
        """The same with tokens that must not be chosen."""
        return self._replace(allowed=self.allowed.without(tokens))


class _Checkpoint(NamedTuple):
    """What a rewind brings back, as it was before one token."""

    text_state: TextStream
    policy: Policy
    thinking: bool


def generate(prompt: Sequence[int], task: Task, vocabulary: Vocabulary, emit: Callable[[Event], None]) -> Generation:
    """Generate a reply to the prompt's tokens.

    Args:
        prompt: at least one.
        task: how.
        vocabulary: the model's.
        emit: given every event, as soon as it cannot be taken back; one a token, and what else happened.

    Raises:
        MetricsError: the model's output is not a distribution.
        ConfigError: no pause text can be written with this vocabulary.
    """
    kind = _Measurements if task.given_tokens else _Decisions
    return kind(prompt, task, vocabulary, emit).run()


class _Decisions:
    """A generation's state: what it has written, what it may still spend, and where it may go back to."""

    def __init__(
        self, prompt: Sequence[int], task: Task, vocabulary: Vocabulary, emit: Callable[[Event], None]
    ) -> None:
        self._task = task
        self._preset = task.preset
        self._vocabulary = vocabulary
        self._prompt = tuple(prompt)
        self._transcript = Transcript(
            prompt,
            task.begin_tokens,
            vocabulary,
            stop=task.stop,
            stop_tokens=task.stop_tokens,
            n_predict=task.n_predict,
            capacity=task.capacity,
            emit=emit,
        )
        self._policy = make_policy(task.sampler, task.preset)
        self._chooser = Chooser(task.seed)
        self._budget = Budget(self._preset.branch)
        self._pause = resolve_pause(self._preset.pause.texts, vocabulary) if self._policy.acts else ()
        self._pauses = PauseGuard(self._preset.pause, vocabulary, (*prompt, *task.begin_tokens))
        self._thinking_tags = vocabulary.thinking or ()
        self._loops = LoopGuard(self._preset.loop)
        self._run: list[_Checkpoint] = []  # one before each token of a scattered run
        self._rewinds = 0
        self._astray: dict[int, list[int]] = {}  # where a rewind went back to: the tokens that were taken back there
        self._bans = 0
        self._numbers = NumberWatch(self._preset.check, vocabulary, self._transcript.tokens)
        self._marks: dict[int, _Checkpoint] = {}  # before each token that a correction may take back

    def run(self) -> Generation:
        """Look at a row, act on it, feed what was written; until the reply is finished."""
        transcript = self._transcript
        try:
            row: Answer = yield Feed((*self._prompt, *transcript.tokens))
            while True:
                assert isinstance(row, Row)
                part = self._act(self._look(row))
                row = (yield from part) if part else None
                if transcript.finished:
                    return
                row = row or (yield _new(Feed, ((transcript.tokens[-1],), ())))
        except Cancelled:
            transcript.finish(FinishReason.CANCELLED)

    # --- one step -------------------------------------------------------------------------------

    def _look(self, row: Row) -> Step:
        logits, attention = row
        distribution = describe(logits, len(self._prompt) + len(self._transcript.tokens) - 1)
        metrics = _new(Metrics, (distribution.entropy, distribution.varentropy, attention))
        prediction = _new(Prediction, (logits, distribution))
        return _new(Step, (prediction, metrics, classify(metrics, self._preset), prediction))

    def _act(self, step: Step) -> Part | None:
        """Do what the policy says. What makes requests comes back, to be run; None where a token is written already."""
        transcript, policy, strategy = self._transcript, self._policy, step.strategy
        if self._run:
            if strategy is not _RESAMPLE:
                self._run.clear()
                self._release()
            elif len(self._run) == self._preset.resample.run:
                return self._take_back(step)
        if policy.acts:
            looping = self._loops.next_token(transcript.tokens)
            if looping is not None:
                return self._leave_loop(step, looping)
        after_pause = strategy is _PAUSE and self._pauses.just_paused(len(transcript.tokens))
        action = policy.decide(strategy, step.metrics, after_pause=after_pause)
        if isinstance(action, Branch):
            return self._fork(step, action.instead)
        if isinstance(action, Pause):
            if self._pauses.allows(transcript.tokens, self._vocabulary.piece(step.allowed.distribution.best)):
                return self._insert_pause(step)
            action = action.instead
        return self._choose(step, action)

    def _choose(self, step: Step, action: Argmax | Draw) -> Part | None:
        """Choose a token and write it; where it closes a wrong number, what sets that right comes back instead."""
        token = self._chooser.choose(step.allowed, action, self._note_rejection)
        if self._numbers.holds:
            wrong = self._numbers.wrong_number(token)
            if wrong:
                return self._correct_or_write(wrong, step, token)
        self._write(step, token)
        return None

    def _note_rejection(self, token: int, surprisal: float, limit: float | None) -> None:
        transcript = self._transcript
        text = transcript.text_of((token,))
        transcript.note(RejectedEvent(len(transcript.tokens), token, text, surprisal, limit))

    def _insert_pause(self, step: Step) -> Part:
        transcript = self._transcript
        self._pauses.note(len(transcript.tokens), len(self._pause))
        self._write(step, self._pause[0], Origin.FORCED)
        for token in self._pause[1:]:
            if transcript.finished:
                break
            row = yield Feed((transcript.tokens[-1],))
            assert isinstance(row, Row)
            self._write(self._look(row)._replace(strategy=Strategy.PAUSE), token, Origin.FORCED)
        return None

    def _leave_loop(self, step: Step, token: int) -> Part | None:
        """Ban the token that would go round once more; finish where that was done in vain before."""
        if self._bans >= self._preset.loop.bans:
            self._transcript.finish(FinishReason.REPETITION)
            return None
        self._bans += 1
        self._note_rejection(token, step.allowed.surprisal(token), None)
        return self._choose(step.without((token,)), Draw(self._preset.sampler.settings()))

    # --- branches -------------------------------------------------------------------------------

    def _fork(self, step: Step, instead: Draw) -> Part:
        """Make one branch for each leading token, and keep the one with the best score."""
        rule, transcript = self._preset.branch, self._transcript
        tokens = first_tokens(step.allowed, rule, self._vocabulary)
        if len(tokens) < 2:
            return (yield from _all_of(self._choose(step, instead)))
        horizon = min(rule.horizon, transcript.tokens_left)
        if not self._budget.allows((len(tokens) - 1) * horizon, len(transcript.tokens)):
            return (yield from self._fall_back(step, instead, "the budget is spent"))
        if horizon < 2 or not (yield Fork(len(tokens), horizon)):
            return (yield from self._fall_back(step, instead, "no room for children"))
        step = step._replace(strategy=Strategy.BRANCH)
        children = [Child([self._entry(step, token)]) for token in tokens]
        growth = Growth(
            rule,
            horizon=horizon,
            sure_below=self._preset.argmax.entropy_below,
            position=transcript.position,
            vocabulary=self._vocabulary,
            alternatives_of=self._alternatives,
        )
        yield from growth.grow(children)
        best = max(range(len(children)), key=lambda number: children[number].score(rule.score))
        yield Keep(best)
        self._budget.spend(sum(child.fed for child in children) - children[best].fed)
        for number, child in enumerate(children):
            text, score = transcript.text_of(child.tokens), child.score(rule.score)
            transcript.emit(BranchEvent(len(transcript.tokens), child.tokens, text, score, number == best))
        return (yield from self._follow(children[best]))

    def _follow(self, child: Child) -> Part:
        """Write down the tokens of the branch that was kept: the cache already holds them."""
        for entry in child.entries:
            wrong = self._numbers.wrong_number(entry.token)
            if wrong and (yield from self._correct(wrong)):
                return None
            self._write_down(entry, Origin.BRANCH)
            if self._transcript.finished:
                return None
        return child.row

    def _fall_back(self, step: Step, instead: Draw, reason: str) -> Part:
        self._transcript.emit(FallbackEvent(len(self._transcript.tokens), step.strategy, reason))
        return (yield from _all_of(self._choose(step, instead)))

    # --- rewinds --------------------------------------------------------------------------------

    def _take_back(self, step: Step) -> Part:
        """Go back to where a run of scattered tokens began, and choose another token there."""
        transcript, run = self._transcript, self._run
        start = len(transcript.tokens) - len(run)
        checkpoint = run[0]
        if self._rewinds >= self._preset.resample.rewinds:
            transcript.release()
        elif not (yield Rewind(transcript.position - len(run))):
            self._rewinds = self._preset.resample.rewinds  # it will not do later what it cannot do now
            transcript.release()
            reason = "this model's state cannot be rewound"
            transcript.emit(FallbackEvent(len(transcript.tokens), Strategy.RESAMPLE, reason))
        else:
            self._rewinds += 1
            self._budget.spend(len(run) + 1)
            dropped = self._rewind(start, checkpoint)
            transcript.emit(RewindEvent(start, dropped, transcript.text_of(dropped)))
            row = yield Feed(())
            assert isinstance(row, Row)
            astray = self._astray.setdefault(start, [])
            astray.append(dropped[0])
            step = self._look(row).without(astray)
        run.clear()
        return (yield from _all_of(self._act(step)))

    def _rewind(self, start: int, checkpoint: _Checkpoint) -> tuple[int, ...]:
        """Take back the tokens from an index on, which the cache no longer holds; they come back."""
        dropped = self._transcript.rewind(start, checkpoint.text_state)
        self._policy = checkpoint.policy
        self._pauses.rewind(start, thinking=checkpoint.thinking)
        self._numbers.rewind(start)
        self._loops.rewind(start)
        self._marks.clear()
        return dropped

    # --- corrections ------------------------------------------------------------------------------

    def _correct_or_write(self, wrong: WrongNumber, step: Step, token: int) -> Part:
        if not (yield from self._correct(wrong)):
            self._write(step, token)
        return None

    def _correct(self, wrong: WrongNumber) -> Generator[Request, Answer, bool]:
        """Go back to where a wrong number begins, and force the right one. False where that cannot be done."""
        transcript, start = self._transcript, wrong.first_token
        if start not in self._marks:  # it is of the tokens that the reply was begun with
            return False
        if not (yield Rewind(len(self._prompt) + start)):
            self._numbers.give_up()
            self._release()
            return False
        self._run.clear()
        dropped = self._rewind(start, self._marks[start])
        self._numbers.note_correction()
        self._budget.spend(len(dropped) + 1)
        expression, found, right = wrong.correction.expression, wrong.correction.found, wrong.correction.right
        text = transcript.text_of(dropped)
        transcript.emit(CorrectionEvent(start, dropped, text, expression, found, right))
        last: tuple[int, ...] = ()
        for token in self._vocabulary.tokenize(wrong.replacement, continues=True):
            row = yield Feed(last)
            assert isinstance(row, Row)
            self._write_down(self._entry(self._look(row), token), Origin.FORCED)
            if transcript.finished:
                break
            last = (token,)
        self._release()
        return True

    # --- writing --------------------------------------------------------------------------------

    def _write(self, step: Step, token: int, origin: Origin = Origin.SAMPLED) -> None:
        """Write a token, which is to be fed next."""
        if step.strategy is _RESAMPLE and self._policy.acts and self._preset.resample.run:
            self._run.append(self._checkpoint())
        self._write_down(self._entry(step, token), origin)

    def _write_down(self, entry: Entry, origin: Origin) -> None:
        """Write a token down, tell of it who follows the reply, and emit what can no longer be taken back."""
        transcript, numbers, token = self._transcript, self._numbers, entry.token
        if numbers.left and numbers.concerns(token):
            self._marks[len(transcript.tokens)] = self._checkpoint()
            transcript.write(entry, origin, hold=True)
            numbers.see(entry.metrics.entropy)
        else:
            transcript.write(entry, origin, hold=bool(self._run))
        if self._policy.remembers:
            self._policy.accept(token)
        if token in self._thinking_tags:
            self._pauses.see(token)
        if transcript.held:
            self._release()

    def _checkpoint(self) -> _Checkpoint:
        return _Checkpoint(self._transcript.text_state(), self._policy.copy(), self._pauses.thinking)

    def _release(self) -> None:
        """Emit what can no longer be taken back."""
        if self._transcript.finished or not (self._run or self._numbers.holds):
            self._transcript.release()
            if self._marks:
                self._marks.clear()

    def _entry(self, step: Step, token: int) -> Entry:
        prediction = step.prediction
        alternatives = self._alternatives(prediction) if self._task.alternatives else ()
        return _new(Entry, (token, prediction.logprob(token), step.metrics, step.strategy, alternatives))

    def _alternatives(self, prediction: Prediction) -> tuple[Alternative, ...]:
        """The most probable tokens, where they were asked for."""
        if not self._task.alternatives:
            return ()
        text_of = self._transcript.text_of
        tokens = leading(prediction, self._task.alternatives)
        return tuple(Alternative(token, text_of((token,)), prediction.logprob(token)) for token in tokens)


class _Measurements(_Decisions):
    """A reply that is known: each token is fed as when it was generated, so that the rows are the same."""

    def _act(self, step: Step) -> None:
        self._write(step, self._task.given_tokens[len(self._transcript.tokens)])


def _all_of(part: Part | None) -> Part:
    """A part of a generation, run to its end; nothing where there is none."""
    return (yield from part) if part else None
