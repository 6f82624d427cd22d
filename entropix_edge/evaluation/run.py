"""Runs policies over problems, many in flight at once, and says what came of each as it ends."""

from __future__ import annotations

import time
import zlib
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import EntropixError
from ..sessions import Deliberation
from ..text import extract, locate, right
from ..types import FinishReason
from .code import run_tests
from .policies import policy
from .records import ALTERNATIVES, Record, candidate_of
from .results import Result
from .tasks import messages, program

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from ..engine import Engine
    from .policies import Policy
    from .records import Candidate
    from .tasks import Problem

_PADDING = policy("greedy")


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


class Meter:
    """Shares the time of each decode out among the replies that had tokens in it."""

    def __init__(self) -> None:
        self._seconds: dict[Hashable, float] = defaultdict(float)
        self._decoded: dict[Hashable, int] = defaultdict(int)

    def note(self, seconds: float, decoded: Mapping[Hashable, int]) -> None:
        """Note a decode: how long it took, and how many tokens each reply has come to. Prompts go to nobody."""
        grown = {key: count - self._decoded[key] for key, count in decoded.items()}
        self._decoded.update(decoded)
        total = sum(grown.values())
        for key, count in grown.items():
            self._seconds[key] += seconds * count / total if total else 0.0

    def pop(self, key: Hashable) -> float:
        """The seconds of a reply that has ended."""
        self._decoded.pop(key, None)
        return self._seconds.pop(key, 0.0)


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
        self._meter = Meter()
        self._padding: list[Deliberation] = []

    def answer(self, asked: Sequence[Question], stopped: Callable[[], bool] = lambda: False) -> Iterator[Result]:
        """Answer all, yielding each result as it comes; end early where `stopped` says so.

        One policy after another, so that the time between results is one policy's. The time that `stopped` takes is
        nobody's.
        """
        for record in self._answers(asked, stopped, recorded=False):
            yield record.result

    def record(self, asked: Sequence[Question], stopped: Callable[[], bool] = lambda: False) -> Iterator[Record]:
        """The same with every candidate and its tokens.

        As many replies are under way all the time as the engine has slots: when too few are left, replies that nobody
        reads are generated beside them. With `EngineConfig.same_shapes` all are decoded in batches of one shape then.
        """
        yield from self._answers(asked, stopped, recorded=True)

    def _answers(self, asked: Sequence[Question], stopped: Callable[[], bool], *, recorded: bool) -> Iterator[Record]:
        self._time = time.perf_counter()
        for each in dict.fromkeys(question.policy for question in asked):
            yield from self._answer([question for question in asked if question.policy == each], stopped, recorded)

    def _answer(self, asked: Sequence[Question], stopped: Callable[[], bool], recorded: bool) -> Iterator[Record]:
        waiting, active = deque(asked), dict[Question, Deliberation]()
        try:
            while (waiting or active) and not self._halted(stopped):
                while waiting and len(active) < self._engine.sequences:
                    question = waiting.popleft()
                    try:
                        active[question] = self._begin(question, recorded)
                    except EntropixError as error:
                        yield self._failed(question, error)
                for question, deliberation in list(active.items()):
                    try:
                        if not deliberation.advance():
                            continue
                        record = self._judge(question, deliberation, recorded)
                    except EntropixError as error:
                        record = self._failed(question, error)
                    deliberation.close()
                    del active[question]
                    yield record
                if recorded:
                    self._metered_step(active)
                else:
                    self._engine.step()
        finally:
            for deliberation in (*active.values(), *self._padding):
                deliberation.close()
            self._padding.clear()

    def _halted(self, stopped: Callable[[], bool]) -> bool:
        before = time.perf_counter()
        halted = stopped()
        self._time += time.perf_counter() - before
        return halted

    def _metered_step(self, active: Mapping[Question, Deliberation]) -> None:
        """Decode once, in a full batch, and note how long it took."""
        if not active:
            return
        self._padding = [each for each in self._padding if not each.advance()]
        running = [vote for each in (*active.values(), *self._padding) for vote in each.votes if vote.finish is None]
        problem = next(iter(active)).problem
        for number in range(self._engine.sequences - len(running)):
            self._padding.append(self._begin(Question(_PADDING, problem, number), recorded=False))
        before = time.perf_counter()
        self._engine.step()
        decoded: dict[Hashable, int] = {}
        for key, each in (*active.items(), *((id(each), each) for each in self._padding)):
            decoded |= {(key, number): vote.decoded_tokens for number, vote in enumerate(each.votes)}
        self._meter.note(time.perf_counter() - before, decoded)

    def _begin(self, question: Question, recorded: bool) -> Deliberation:
        policy, problem = question.policy, question.problem
        config = policy.config(
            seed=_seed(question), n_predict=self._n_predict, alternatives=ALTERNATIVES if recorded else 0
        )
        if self._engine.prompts.chat_template is None:
            tokens = self._engine.tokenize_prompt(plain_text(problem), raw=True)
        else:
            tokens = self._engine.tokenize_prompt(messages(problem))
        return Deliberation(self._engine, tokens, config, policy.voting, lambda text: extract(text, problem.extractor))

    def _judge(self, question: Question, deliberation: Deliberation, recorded: bool) -> Record:
        reply = deliberation.reply()
        problem = question.problem
        found = extract(reply.text, problem.extractor)
        votes = deliberation.votes
        result = Result(
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
        candidates = self._candidates(question, deliberation) if recorded else ()
        return Record(result=result, prompt_tokens=deliberation.prompt_tokens, candidates=candidates)

    def _candidates(self, question: Question, deliberation: Deliberation) -> tuple[Candidate, ...]:
        problem, candidates = question.problem, []
        for number, reply in enumerate(deliberation.replies):
            found = locate(reply.text, problem.extractor)
            is_right = _is_right(problem, found.answer if found else None)
            seconds = self._meter.pop((question, number))
            candidates.append(candidate_of(reply, found, right=is_right, seconds=seconds))
        return tuple(candidates)

    def _failed(self, question: Question, error: EntropixError) -> Record:
        result = Result(
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
        return Record(result=result)

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
