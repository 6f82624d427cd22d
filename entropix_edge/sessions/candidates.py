"""Several candidates for one answer: generate them side by side, let them vote, keep the best.

A candidate is a full reply of its own; all share the prompt's cells. Votes are weighted by how likely each answer is
right, where that was fitted to the model's answers, else by confidence (DeepConf, https://arxiv.org/abs/2508.15260).
While the vote is in doubt two more candidates are generated; it is decided when the leading answer is two votes ahead
(docs/EVALUATION.md says how often all candidates would have decided otherwise).
"""

from __future__ import annotations

import math
import secrets
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

from ..confidence import vote_features
from ..config import DEFAULT_CANDIDATES, MOST_CANDIDATES
from ..errors import ContextError, Hint
from ..ranges import set_number
from ..text import detect, extract
from ..types import CandidateEvent, ConfidenceEvent, FinishReason, TokenEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..config import GenerationConfig
    from ..engine import Engine, Reply, ReplyStream
    from ..types import Event

    AnswerOf = Callable[[str], str | None]

WAVE = 2  # candidates between two looks at the vote
LEAD = 2  # votes that the leading answer must be ahead of the next


@dataclass(frozen=True, slots=True, kw_only=True)
class VotingConfig:
    """How one of several candidates is chosen.

    Attributes:
        candidates: how many at most.
        weighted: weigh each vote by how likely its answer is right, where that is known of the model, else by its
            candidate's confidence; where this is False all weigh the same.
        early_stopping: generate two at a time, and no more as soon as the vote is decided; else all at once.
    """

    candidates: int = DEFAULT_CANDIDATES
    weighted: bool = True
    early_stopping: bool = True

    def __post_init__(self) -> None:
        set_number(self, "candidates", int, 1, MOST_CANDIDATES)

    @property
    def name(self) -> str:
        """What votes are like, in a few words: two that differ are two ways to answer."""
        return (
            f"best of {self.candidates}{'' if self.weighted else ', equal votes'}"
            f"{'' if self.early_stopping else ', all finished'}"
        )

    @property
    def first_wave(self) -> int:
        """How many candidates are generated side by side: as many as the engine should have slots for."""
        return min(WAVE, self.candidates) if self.early_stopping else self.candidates


@dataclass(eq=False, slots=True)
class _Candidate:
    """One reply under way, and how sure the model was of it."""

    stream: ReplyStream
    tokens: int = 0
    total: float = 0.0  # entropy, in bits
    finish: FinishReason | None = None
    answer: str | None = None

    def read(self, answer_of: AnswerOf | None) -> None:
        """Take note of the events that were emitted."""
        for event in self.stream.waiting():
            if isinstance(event, TokenEvent):
                self.finish = event.finish_reason
                if event.metrics:
                    self.tokens += 1
                    self.total += event.metrics.entropy
                if self.finished and answer_of:
                    self.answer = answer_of(self.stream.text)

    @property
    def finished(self) -> bool:
        """Whether it came to an end of its own."""
        return self.finish is FinishReason.STOP

    @property
    def confidence(self) -> float:
        """2 to the power of minus the mean entropy: 1 where the model was sure of every token."""
        return 2.0 ** -(self.total / self.tokens) if self.tokens else 0.0


class Vote(NamedTuple):
    """What came of one candidate.

    Attributes:
        answer: None where it has none, or did not finish.
        confidence: 2 to the power of minus its mean entropy.
        decoded_tokens: what it cost.
        finish: why it ended; None where it still goes on.
    """

    answer: str | None
    confidence: float
    decoded_tokens: int
    finish: FinishReason | None


class Deliberation:
    """A prompt answered by the best of several candidates. Read like a `ReplyStream`.

    Args:
        engine: with several slots, or the candidates go one after another.
        tokens: the prompt.
        config: how the first candidate is generated. The others draw with the plain filters of its preset, since
            candidates that avoid every doubtful token are all alike; their seeds count up from its seed. Numbers are
            checked in all of them, or in none.
        voting: how many candidates, and how to choose.
        answer_of: the answer in a candidate's text, None where it has none. Candidates with the same answer vote
            together. Without this function the kind of answer is detected from the candidates; where they have none in
            common, confidence alone decides.

    Attributes:
        kind: the extractor of the answers, where they were detected; None until then, or where there are none.

    Raises:
        PromptError: the prompt does not fit.
        ContextError: no capacity for a reply.
    """

    def __init__(
        self,
        engine: Engine,
        tokens: Sequence[int],
        config: GenerationConfig,
        voting: VotingConfig,
        answer_of: AnswerOf | None = None,
    ) -> None:
        self.seed = secrets.randbits(32) if config.seed is None else config.seed
        self.prompt_tokens = len(tokens)
        self._engine = engine
        self._tokens = tuple(tokens)
        self._voting = voting
        self._answer_of = answer_of
        self.kind: str | None = None
        at_once = min(voting.first_wave, engine.sequences)
        cells = min(engine.context.room, engine.context.n_ctx // at_once)
        check = bool(engine.fits.preset_of(config).check.arithmetic)
        self._config = replace(config, check=check, n_predict=_share(config.n_predict, cells, len(tokens)))
        self._candidates: list[_Candidate] = []
        self._reply: Reply | None = None  # when the choice is made
        self._events = self._chosen_events()
        self._start(voting.first_wave)

    @property
    def detects(self) -> bool:
        """Whether nobody said by which answers the candidates vote."""
        return self._answer_of is None or self.kind is not None

    @property
    def votes(self) -> list[Vote]:
        """What came of each candidate so far."""
        return [
            Vote(each.answer, each.confidence, each.stream.decoded_tokens, each.finish) for each in self._candidates
        ]

    @property
    def kept(self) -> str | None:
        """The answer of the candidate that is chosen, which is waited for; None where it has none."""
        events = (event for event in self.reply().side_events if isinstance(event, CandidateEvent))
        return next(event.answer for event in events if event.kept)

    @property
    def replies(self) -> list[Reply]:
        """The reply of each candidate, when the choice is made."""
        return [candidate.stream.reply() for candidate in self._candidates]

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that the first candidate found in the cache."""
        return self._candidates[0].stream.cached_tokens

    @property
    def decoded_tokens(self) -> int:
        """Tokens decoded so far beyond the prompt, for all candidates."""
        return sum(candidate.stream.decoded_tokens for candidate in self._candidates)

    # --- under way ------------------------------------------------------------------------------------

    def advance(self) -> bool:
        """Read what was emitted, and start more candidates where they are needed. Whether the choice is made.

        Raises:
            EntropixError: a candidate failed.
        """
        for candidate in self._candidates:
            candidate.read(self._answer_of)
        if any(candidate.finish is None for candidate in self._candidates):
            return False
        self._detect_kind()
        if any(candidate.finish is FinishReason.CANCELLED for candidate in self._candidates) or self._is_decided():
            return True
        missing = min(self._voting.candidates - len(self._candidates), self._voting.first_wave)
        self._start(missing)
        return not missing

    def steps(self) -> Iterator[None]:
        """Generate until the choice is made, with a pause before each decode."""
        while not self.advance():
            yield
            self._engine.step()

    def everything(self) -> Iterator[Event]:
        """The events of the candidate that was chosen, after one for each candidate; called again, the rest."""
        return self._events

    def _chosen_events(self) -> Iterator[Event]:
        reply = self.reply()
        yield from reply.side_events
        yield from reply.events

    def reply(self) -> Reply:
        """The chosen candidate's reply, with what all cost, and every candidate among its side events."""
        if self._reply is None:
            for _ in self.steps():
                pass
            self._reply = self._chosen(self._best())
        return self._reply

    def _chosen(self, best: _Candidate) -> Reply:
        chosen = best.stream.reply()
        candidates = tuple(
            CandidateEvent(number, each.stream.token_ids, each.stream.text, each.confidence, each.answer, each is best)
            for number, each in enumerate(self._candidates)
        )
        side_events = tuple(event for event in chosen.side_events if not isinstance(event, ConfidenceEvent))
        confidence = self._confidence(chosen)
        side_events = (*candidates, *side_events, *([confidence] if confidence else ()))
        return replace(chosen, side_events=side_events, decoded_tokens=self.decoded_tokens)

    def _confidence(self, chosen: Reply) -> ConfidenceEvent | None:
        """How sure of the chosen reply one may be: from the vote, where there was one."""
        if len(self._candidates) == 1:
            return chosen.confidence
        if any(candidate.finish is FinishReason.CANCELLED for candidate in self._candidates):
            return None
        votes = vote_features(
            [each.answer if each.finished else None for each in self._candidates],
            [(each.total, each.tokens) for each in self._candidates],
        )
        vote = (self._voting.name, votes)
        engine = self._engine
        return engine.fits.judge(self._config, self._tokens, engine.model.vocabulary, chosen.events, vote=vote)

    def cancel(self) -> None:
        """End all candidates before the next decode, and start no more."""
        for candidate in self._candidates:
            candidate.stream.cancel()

    def close(self) -> None:
        """End every candidate at once and free its part of the context."""
        for candidate in self._candidates:
            candidate.stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    # --- the choice -----------------------------------------------------------------------------------

    def _start(self, count: int) -> None:
        for number in range(len(self._candidates), len(self._candidates) + count):
            config = replace(self._config, seed=(self.seed + number) % 2**64)
            if number and config.sampler == "entropix":  # its own candidates are too much alike to vote
                config = replace(config, sampler="temperature")
            self._candidates.append(_Candidate(self._engine.stream_tokens(self._tokens, config)))

    def _detect_kind(self) -> None:
        """Find out by which answers the candidates can vote, and let those that have finished vote."""
        finished = [candidate for candidate in self._candidates if candidate.finished]
        if self._answer_of or not finished:
            return
        self.kind = detect([candidate.stream.text for candidate in finished])
        if self.kind:
            self._answer_of = partial(extract, extractor=self.kind)
            for candidate in finished:
                candidate.answer = self._answer_of(candidate.stream.text)

    def _ballots(self) -> dict[str, list[_Candidate]]:
        ballots: dict[str, list[_Candidate]] = defaultdict(list)
        for candidate in self._candidates:
            if candidate.answer is not None:
                ballots[candidate.answer].append(candidate)
        return ballots

    def _is_decided(self) -> bool:
        first, second, *_ = *sorted((len(voters) for voters in self._ballots().values()), reverse=True), 0, 0
        return self._voting.early_stopping and first - second >= LEAD

    def _best(self) -> _Candidate:
        candidates = [candidate for candidate in self._candidates if candidate.finished]
        if ballots := self._ballots():
            weights = self._weights([voter for voters in ballots.values() for voter in voters])
            candidates = max(ballots.values(), key=lambda voters: math.fsum(map(weights.__getitem__, voters)))
        return max(candidates or self._candidates, key=lambda candidate: candidate.confidence)

    def _weights(self, voters: Sequence[_Candidate]) -> dict[_Candidate, float]:
        """How much each one's vote counts.

        How likely its answer is right, where that was fitted to such answers of the model; else its confidence.
        """
        if not self._voting.weighted:
            return dict.fromkeys(voters, 1.0)
        replies = [each.stream.reply().events for each in voters]
        found = self._engine.fits.likelihoods(self._tokens, self._engine.model.vocabulary, replies)
        if [each.answer for each in voters] != [judged and judged[0] for judged in found]:
            return {each: each.confidence for each in voters}
        return {each: judged[1] for each, judged in zip(voters, found, strict=True) if judged}


def _share(n_predict: int, cells: int, prompt: int) -> int:
    """The longest reply when several share the context.

    Raises:
        ContextError: there is no capacity for one.
    """
    capacity = cells - prompt
    if capacity < 1:
        raise ContextError(
            f"{cells} tokens of context for each candidate and a prompt of {prompt} leave no room for a reply",
            hint=Hint("raise {} or take fewer candidates", "ctx_size", "raise"),
        )
    return capacity if n_predict < 0 else min(n_predict, capacity)
