"""Runs policies over problems, many in flight at once, and says what came of each as it ends."""

from __future__ import annotations

import time
import zlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config import GenerationConfig
from ..errors import EntropixError
from ..sessions import Deliberation, extract, right
from ..types import FinishReason
from .code import run_tests
from .results import Result
from .tasks import messages, program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..engine import Engine
    from .policies import Policy
    from .tasks import Problem


@dataclass(frozen=True, slots=True)
class Question:
    """One problem for one policy with one seed."""

    policy: Policy
    problem: Problem
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """As `Result.key`."""
        return self.policy.name, self.problem.id, self.seed


def questions(policies: Sequence[Policy], problems: Sequence[Problem], seeds: int) -> list[Question]:
    """All that is to be asked, policy by policy. A greedy policy needs one seed."""
    return [
        Question(policy, problem, seed)
        for policy in policies
        for seed in range(1 if policy.sampler == "greedy" else seeds)
        for problem in problems
    ]


class Run:
    """Answers questions on one engine.

    Args:
        engine: with as many slots as candidates may be under way.
        n_predict: most tokens of a reply.
        keep_text: whether results hold the reply.
    """

    def __init__(self, engine: Engine, *, n_predict: int, keep_text: bool = False) -> None:
        self._engine = engine
        self._n_predict = n_predict
        self._keep_text = keep_text
        self._time = time.perf_counter()

    def answer(self, asked: Sequence[Question], stopped: Callable[[], bool] = lambda: False) -> Iterator[Result]:
        """Answer all, yielding each result as it comes; end early where `stopped` says so.

        One policy after another, so that the time between results is one policy's.
        """
        self._time = time.perf_counter()
        for policy in dict.fromkeys(question.policy for question in asked):
            yield from self._answer([question for question in asked if question.policy == policy], stopped)

    def _answer(self, asked: Sequence[Question], stopped: Callable[[], bool]) -> Iterator[Result]:
        waiting, active = deque(asked), dict[Question, Deliberation]()
        try:
            while (waiting or active) and not stopped():
                while waiting and len(active) < self._engine.sequences:
                    question = waiting.popleft()
                    try:
                        active[question] = self._begin(question)
                    except EntropixError as error:
                        yield self._failed(question, error)
                for question, deliberation in list(active.items()):
                    try:
                        if not deliberation.advance():
                            continue
                        result = self._judge(question, deliberation)
                    except EntropixError as error:
                        result = self._failed(question, error)
                    deliberation.close()
                    del active[question]
                    yield result
                self._engine.step()
        finally:
            for deliberation in active.values():
                deliberation.close()

    def _begin(self, question: Question) -> Deliberation:
        policy, problem = question.policy, question.problem
        config = GenerationConfig(
            preset=policy.preset,
            sampler=policy.sampler,
            seed=_seed(question),
            n_predict=self._n_predict,
        )
        if self._engine.prompts.chat_template is None:
            tokens = self._engine.tokenize_prompt(plain_text(problem), raw=True)
        else:
            tokens = self._engine.tokenize_prompt(messages(problem))
        return Deliberation(self._engine, tokens, config, policy.voting, lambda text: extract(text, problem.extractor))

    def _judge(self, question: Question, deliberation: Deliberation) -> Result:
        reply = deliberation.reply()
        problem = question.problem
        found = extract(reply.text, problem.extractor)
        votes = deliberation.votes
        return Result(
            problem=problem.id,
            policy=question.policy.name,
            seed=question.seed,
            right=_is_right(problem, found),
            found=None if problem.extractor == "code" else found,
            gold=problem.answer,
            written_tokens=len(reply.events),
            decoded_tokens=reply.decoded_tokens,
            cut=reply.finish_reason in (FinishReason.LENGTH, FinishReason.CONTEXT),
            seconds=self._lap(),
            candidates=tuple((vote.answer, round(vote.confidence, 4), vote.decoded_tokens) for vote in votes)
            if len(votes) > 1 and problem.extractor != "code"
            else (),
            text=reply.text if self._keep_text else None,
        )

    def _failed(self, question: Question, error: EntropixError) -> Result:
        return Result(
            problem=question.problem.id,
            policy=question.policy.name,
            seed=question.seed,
            right=False,
            found=None,
            gold=question.problem.answer,
            written_tokens=0,
            decoded_tokens=0,
            cut=False,
            seconds=self._lap(),
            error=str(error),
        )

    def _lap(self) -> float:
        before, self._time = self._time, time.perf_counter()
        return round(self._time - before, 3)


def _is_right(problem: Problem, found: str | None) -> bool:
    if problem.extractor == "code":
        return found is not None and run_tests(program(problem, found), problem.tests).passed
    return right(found, problem.answer)


def plain_text(problem: Problem) -> str:
    """The question as a text to continue, for a model without a chat template."""
    turns = [*problem.shots, (problem.question, "")]
    return "\n\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in turns).rstrip()


def _seed(question: Question) -> int:
    """Another for each problem and each of its seeds, the same in every run; candidates count up from it."""
    return zlib.crc32(f"{question.problem.id}/{question.seed}".encode()) * 1000
