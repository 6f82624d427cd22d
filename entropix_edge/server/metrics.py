"""What Prometheus may know: counts and times, never a word of anyone's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from ..types import BranchEvent, Strategy, TokenEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..types import Event

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, which nobody reads
CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_STEP_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_COUNTED_AT_ONCE = 64
_BITS = (0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 12)


class Metrics:
    """Counters, gauges and histograms of one server. To be used in its event loop only."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, told: str, *labels: str) -> Counter:
            return Counter(f"entropix_{name}", told, labels, registry=registry)

        def gauge(name: str, told: str) -> Gauge:
            return Gauge(f"entropix_{name}", told, registry=registry)

        def histogram(name: str, told: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"entropix_{name}", told, registry=registry, buckets=buckets)

        self._requests = counter("requests", "Requests that were answered.", "endpoint", "code")
        self._prompt_tokens = counter("prompt_tokens", "Tokens of prompts.")
        self._cached_tokens = counter("cached_tokens", "Tokens of prompts that were not decoded again.")
        self._generated = counter("generated_tokens", "Tokens of replies.", "strategy")
        self._by_strategy = {strategy: self._generated.labels(strategy.value) for strategy in Strategy}
        self._decoded_tokens = counter("decoded_tokens", "Tokens decoded beyond prompts, branches not kept included.")
        self._branches = counter("branches", "Branches of forks.", "kept")
        self._running = gauge("replies_running", "Replies that are being generated.")
        self._waiting = gauge("replies_waiting", "Replies that wait for their turn.")
        self._cells_used = gauge("cells_used", "Cells of the KV cache that replies hold.")
        self._cells = gauge("cells", "Cells of the KV cache.")
        self._first = histogram("time_to_first_token_seconds", "From a request to its first token.", _SECONDS)
        self._step = histogram("time_per_token_seconds", "Between a reply's tokens.", _STEP_SECONDS)
        self._duration = histogram("request_duration_seconds", "From a request to the end of its answer.", _SECONDS)
        self._entropy = histogram("token_entropy_bits", "Of the distributions that tokens were taken from.", _BITS)
        self._uncounted: list[tuple[list[Event], float]] = []

    def watch(self, jobs: Callable[[], tuple[int, int]], cells_used: Callable[[], int], cells: int) -> None:
        """Read the gauges from an open engine.

        Args:
            jobs: replies that are being generated, and that wait.
            cells_used: by replies.
            cells: of the KV cache.
        """
        self._running.set_function(lambda: jobs()[0])
        self._waiting.set_function(lambda: jobs()[1])
        self._cells_used.set_function(cells_used)
        self._cells.set(cells)

    def request(self, endpoint: str, code: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(endpoint, str(code)).inc()
        self._duration.observe(seconds)

    def events(self, events: list[Event], seconds: float) -> None:
        """A reply's events were emitted.

        They are counted when somebody asks, or when there are many: one at a time they cost a tenth of a millisecond.

        Args:
            events: of one decode, or of several quick ones.
            seconds: since the reply's last ones; 0 where these are the first.
        """
        self._uncounted.append((events, seconds))
        if len(self._uncounted) >= _COUNTED_AT_ONCE:
            self._count()

    def _count(self) -> None:
        for events, seconds in self._uncounted:
            self._count_events(events)
            for _ in range(len(events) if seconds else 0):
                self._step.observe(seconds / len(events))
        self._uncounted.clear()

    def _count_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, BranchEvent):
                self._branches.labels(str(event.kept).lower()).inc()
            elif isinstance(event, TokenEvent) and event.strategy and event.metrics:
                self._by_strategy[event.strategy].inc()
                self._entropy.observe(event.metrics.entropy)

    def first_token(self, seconds: float) -> None:
        """A reply's first token came."""
        self._first.observe(seconds)

    def ended(self, prompt_tokens: int, cached_tokens: int, decoded_tokens: int) -> None:
        """A reply has ended."""
        self._prompt_tokens.inc(prompt_tokens)
        self._cached_tokens.inc(cached_tokens)
        self._decoded_tokens.inc(decoded_tokens)

    def exposition(self) -> bytes:
        """All of it in Prometheus' text form."""
        self._count()
        return generate_latest(self._registry)
