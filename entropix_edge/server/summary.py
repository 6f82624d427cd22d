"""What a whole reply was like, in a few numbers."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from ..render import confidence_record
from ..types import BranchEvent, ConfidenceEvent, Strategy, TokenEvent

if TYPE_CHECKING:
    from ..types import Event, FinishReason
    from .worker import Source

_LEAST_SURE = 5


class Tally:
    """Counts as the events of a reply come."""

    def __init__(self) -> None:
        self._tokens = 0
        self._entropy = 0.0
        self._greatest = 0.0
        self._logprob = 0.0
        self._strategies: Counter[Strategy] = Counter()
        self._branches = 0
        self._least_sure: list[tuple[float, int, TokenEvent]] = []  # a heap, the surest first
        self._finish: FinishReason | None = None
        self._seen: list[TokenEvent] = []
        self._confidence: ConfidenceEvent | None = None

    def note(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, BranchEvent):
            self._branches += event.kept
        if isinstance(event, ConfidenceEvent):
            self._confidence = event
        if not isinstance(event, TokenEvent):
            return
        self._seen.append(event)
        self._finish = event.finish_reason
        if event.token_id is None or event.metrics is None:
            return
        entropy = event.metrics.entropy
        self._tokens += 1
        self._entropy += entropy
        self._greatest = max(self._greatest, entropy)
        self._logprob += event.logprob or 0.0
        if event.strategy:
            self._strategies[event.strategy] += 1
        entry = (entropy, -event.index, event)
        if len(self._least_sure) < _LEAST_SURE:
            heapq.heappush(self._least_sure, entry)
        else:
            heapq.heappushpop(self._least_sure, entry)

    def summary(self, source: Source) -> dict[str, Any]:
        """The whole reply; entropies in bits."""
        tokens = self._tokens
        mean = self._entropy / tokens if tokens else 0.0
        surprise = -self._logprob / tokens if tokens else 0.0  # nats
        return {
            "tokens": tokens,
            "mean_entropy": mean,
            "total_entropy": self._entropy,
            "greatest_entropy": self._greatest,
            "perplexity": math.exp(surprise) if surprise < 700 else None,
            "confidence": confidence_record(self._confidence, self._seen),
            "strategies": {strategy.value: self._strategies[strategy] / max(tokens, 1) for strategy in Strategy},
            "branches": self._branches,
            "extra_decoded_tokens": max(source.decoded_tokens - max(tokens - 1, 0), 0),
            "least_sure": [
                {"index": event.index, "token_id": event.token_id, "text": event.text, "entropy": entropy}
                for entropy, _index, event in sorted(self._least_sure, reverse=True)
            ],
            "finish_reason": self._finish,
            "seed": source.seed,
        }
