"""Several roads to one answer: generate them side by side, let them vote, keep the best.

A road is a full reply of its own; all share the prompt's cells. What is known to work, and is used here:
votes weighted by confidence (DeepConf, https://arxiv.org/abs/2508.15260), an end as soon as the vote is
decided (Adaptive-Consistency, https://arxiv.org/abs/2305.11860), and giving up roads on which the model is less
sure than on any that arrived.
"""

from __future__ import annotations

import math
import secrets
from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Self

from ..config import check_number
from ..errors import ContextError, Hint
from ..types import BranchEvent, FinishReason, TokenEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..config import GenerationConfig
    from ..engine import Engine, Reply, ReplyStream
    from ..types import Event

    AnswerOf = Callable[[str], str | None]

MOST_ROADS = 64
WINDOW = 64  # tokens
DECIDED = 0.95
_ARRIVED_TO_DROP = 3  # roads that must have arrived before another is measured against them


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How roads are chosen from.

    Attributes:
        roads: how many at most.
        weighted: weigh each vote by its road's confidence; else all weigh the same.
        frugal: begin with half of the roads, stop when the vote is decided, and give up weak roads; else
            finish all.
    """

    roads: int
    weighted: bool = True
    frugal: bool = True

    def __post_init__(self) -> None:
        check_number("roads", self.roads, int, 1, MOST_ROADS)


@dataclass(eq=False, slots=True)
class _Road:
    """One reply on its way, and how sure the model was of it."""

    stream: ReplyStream
    entropies: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))  # of the last tokens, in bits
    tokens: int = 0
    total: float = 0.0
    worst: float = 0.0  # highest mean entropy of a whole window so far, in bits
    finish: FinishReason | None = None
    answer: str | None = None
    dropped: bool = False

    def read(self, answer_of: AnswerOf | None) -> None:
        """Take note of the events that came."""
        for event in self.stream.waiting():
            if isinstance(event, TokenEvent):
                self.finish = event.finish_reason
                if event.metrics:
                    self._note(event.metrics.entropy)
                if self.arrived and answer_of:
                    self.answer = answer_of(self.stream.text)

    def _note(self, entropy: float) -> None:
        self.entropies.append(entropy)
        self.tokens += 1
        self.total += entropy
        if len(self.entropies) == WINDOW:
            self.worst = max(self.worst, sum(self.entropies) / WINDOW)

    @property
    def running(self) -> bool:
        """Whether more is to come."""
        return self.finish is None and not self.dropped

    @property
    def arrived(self) -> bool:
        """Whether it came to an end of its own."""
        return self.finish is FinishReason.STOP

    @property
    def confidence(self) -> float:
        """2 to the power of minus the mean entropy: 1 where the model was sure of every token."""
        return 2.0 ** -(self.total / self.tokens) if self.tokens else 0.0


class Vote(NamedTuple):
    """What came of one road.

    Attributes:
        answer: None where it has none, or did not arrive.
        confidence: 2 to the power of minus its mean entropy.
        decoded_tokens: what it cost.
        finish: why it ended.
        dropped: whether it was given up.
    """

    answer: str | None
    confidence: float
    decoded_tokens: int
    finish: FinishReason | None
    dropped: bool


class Deliberation:
    """A prompt answered by the best of several roads. Read like a `ReplyStream`.

    Args:
        engine: with room for several sequences, or the roads go one after another.
        tokens: the prompt.
        config: how the first road is generated. The others draw with the plain filters of its preset, since
            roads that avoid every doubtful token all go the same way; their seeds count up from its seed.
        manner: how many roads, and how to choose.
        answer_of: the answer in a road's text, None where it has none. Roads with the same answer vote
            together; without this function confidence alone decides.

    Raises:
        PromptError: the prompt does not fit.
        ContextError: no room for a reply.
    """

    def __init__(
        self,
        engine: Engine,
        tokens: Sequence[int],
        config: GenerationConfig,
        manner: Manner,
        answer_of: AnswerOf | None = None,
    ) -> None:
        self.seed = secrets.randbits(32) if config.seed is None else config.seed
        self.prompt_tokens = len(tokens)
        self._engine = engine
        self._tokens = tuple(tokens)
        self._manner = manner
        self._answer_of = answer_of
        first = -(-manner.roads // 2) if manner.frugal else manner.roads
        at_once = min(first, engine.sequences)
        cells = min(engine.context.room, engine.context.n_ctx // at_once)
        self._config = replace(config, n_predict=_share(config.n_predict, cells, len(tokens)))
        self._roads: list[_Road] = []
        self._events = self._tell()
        self._start(first)

    @property
    def votes(self) -> list[Vote]:
        """What came of each road so far."""
        return [
            Vote(road.answer, road.confidence, road.stream.decoded_tokens, road.finish, road.dropped)
            for road in self._roads
        ]

    @property
    def decoded_tokens(self) -> int:
        """Tokens decoded so far beyond the prompt, on all roads."""
        return sum(road.stream.decoded_tokens for road in self._roads)

    # --- on the way -----------------------------------------------------------------------------------

    def advance(self) -> bool:
        """Read what came; start, give up and end roads as it suggests. Whether the choice is made.

        Raises:
            EntropixError: a road failed.
        """
        for road in self._roads:
            road.read(self._answer_of)
        running = [road for road in self._roads if road.running]
        if any(road.finish is FinishReason.CANCELLED for road in self._roads):
            return not running
        if self._manner.frugal:
            if self._decided():
                self._give_up(running)
                return True
            self._give_up([road for road in running if self._is_weak(road)])
        if running:
            return False
        missing = self._manner.roads - len(self._roads)
        self._start(missing)
        return not missing

    def everything(self) -> Iterator[Event]:
        """The events of the road that was chosen, after one for each road; where it is called again, the rest."""
        return self._events

    def _tell(self) -> Iterator[Event]:
        reply = self.reply()
        yield from reply.roads
        yield from reply.events

    def reply(self) -> Reply:
        """The chosen road's reply, with what all roads cost, and every road among its `roads`."""
        while not self.advance():
            self._engine.pump()
        best = self._best()
        chosen = best.stream.reply()
        roads = tuple(_told(road, kept=road is best) for road in self._roads)
        return replace(chosen, roads=roads + chosen.roads, decoded_tokens=self.decoded_tokens)

    def cancel(self) -> None:
        """End all roads before the next decode, and start no more."""
        for road in self._roads:
            road.stream.cancel()

    def close(self) -> None:
        """End every road at once and free its part of the context."""
        for road in self._roads:
            road.stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    # --- the choice -----------------------------------------------------------------------------------

    def _start(self, count: int) -> None:
        for number in range(len(self._roads), len(self._roads) + count):
            config = replace(self._config, seed=(self.seed + number) % 2**64)
            if number and config.sampler == "entropix":  # its own roads are too much alike to vote
                config = replace(config, sampler="temperature")
            self._roads.append(_Road(self._engine.stream_tokens(self._tokens, config)))

    def _give_up(self, roads: Sequence[_Road]) -> None:
        for road in roads:
            road.dropped = True
            road.stream.close()

    def _is_weak(self, road: _Road) -> bool:
        """Whether the model was less sure on this road than it ever was on any that arrived."""
        arrived = [other.worst for other in self._roads if other.arrived]
        return len(arrived) >= _ARRIVED_TO_DROP and road.worst > max(arrived) > 0

    def _ballots(self) -> dict[str, list[_Road]]:
        ballots: dict[str, list[_Road]] = defaultdict(list)
        for road in self._roads:
            if road.answer is not None:
                ballots[road.answer].append(road)
        return ballots

    def _decided(self) -> bool:
        counts = sorted((len(roads) for roads in self._ballots().values()), reverse=True)
        return bool(counts) and lead_is_safe(counts[0], counts[1] if len(counts) > 1 else 0)

    def _best(self) -> _Road:
        candidates = [road for road in self._roads if road.arrived]
        if ballots := self._ballots():
            candidates = max(ballots.values(), key=self._weight)
        return max(candidates or self._roads, key=lambda road: road.confidence)

    def _weight(self, roads: Sequence[_Road]) -> float:
        return math.fsum(road.confidence for road in roads) if self._manner.weighted else len(roads)


def lead_is_safe(first: int, second: int) -> bool:
    """Whether the leading answer is, with a probability above `DECIDED`, the one that most roads would give.

    The posterior of a fair start between the two leading answers, a Beta distribution (Adaptive-Consistency,
    https://arxiv.org/abs/2305.11860), written as the binomial sum that it equals.

    Args:
        first: votes for the leading answer.
        second: votes for the next.
    """
    throws = first + second + 1
    return bool(sum(math.comb(throws, heads) for heads in range(first + 1)) > DECIDED * 2**throws)


def _share(n_predict: int, cells: int, prompt: int) -> int:
    """The longest reply when several share the context.

    Raises:
        ContextError: there is no room for one.
    """
    room = cells - prompt
    if room < 1:
        raise ContextError(
            f"{cells} tokens of context for each candidate and a prompt of {prompt} leave no room",
            hint=Hint("raise {} or take fewer candidates", "ctx_size", "raise"),
        )
    return room if n_predict < 0 else min(n_predict, room)


def _told(road: _Road, *, kept: bool) -> BranchEvent:
    """What is told of a road."""
    return BranchEvent(0, road.stream.token_ids, road.stream.text, road.confidence, kept)
