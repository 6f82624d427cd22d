"""What a reply took, and how sure the model was."""

from __future__ import annotations

import resource
import sys
from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ..types import BranchEvent, CorrectionEvent, Origin, RejectedEvent, RewindEvent, Strategy
from .terminal import STYLES
from .words import told

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from ..engine import Reply

_MIB = 2**20


def peak_memory() -> int:
    """The most memory this process has had resident, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Stats:
    """Statistics of one reply.

    Args:
        reply: the whole of it.
        startup_seconds: before the prompt: reading the model.
    """

    def __init__(self, reply: Reply, *, startup_seconds: float) -> None:
        tokens = [event for event in reply.events if event.token_id is not None]
        self.acts = {
            "branches": sum(isinstance(event, BranchEvent) and event.kept for event in reply.side_events),
            "rejections": sum(isinstance(event, RejectedEvent) for event in reply.side_events),
            "rewinds": sum(isinstance(event, RewindEvent) for event in reply.side_events),
            "corrections": sum(isinstance(event, CorrectionEvent) for event in reply.side_events),
            "pauses": _runs(event.origin is Origin.FORCED and event.strategy is Strategy.PAUSE for event in tokens),
        }
        self.tokens = len(tokens)
        self.prompt_tokens = reply.prompt_tokens
        self.cached_tokens = reply.cached_tokens
        self.decoded_tokens = reply.decoded_tokens
        self.prompt_seconds = reply.prompt_seconds
        self.generation_seconds = reply.generation_seconds
        self.startup_seconds = startup_seconds
        self.strategies = Counter(event.strategy for event in tokens if event.strategy)
        measured = [event.metrics for event in tokens if event.metrics]
        self.mean_entropy = _mean([metrics.entropy for metrics in measured])
        self.mean_varentropy = _mean([metrics.varentropy for metrics in measured])
        seen = [metrics.attention.entropy for metrics in measured if metrics.attention]
        self.mean_attention_entropy = _mean(seen) if seen else None
        self.confidence = told(reply.confidence, reply.events) if reply.confidence else None
        self.peak_memory = peak_memory()

    @property
    def prompt_rate(self) -> float:
        """Prompt tokens a second, those from the cache not counted."""
        return (self.prompt_tokens - self.cached_tokens) / self.prompt_seconds if self.prompt_seconds else 0.0

    @property
    def generation_rate(self) -> float:
        """Generated tokens a second, the first token not counted: it is the prompt's."""
        return (self.tokens - 1) / self.generation_seconds if self.tokens > 1 and self.generation_seconds else 0.0

    def share(self, strategy: Strategy) -> float:
        """The share of the tokens that a strategy put there, from 0 to 1."""
        return self.strategies[strategy] / self.tokens if self.tokens else 0.0

    def as_record(self) -> dict[str, Any]:
        """The same as plain values: seconds, tokens a second, bits, bytes, shares."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "tokens": self.tokens,
            "decoded_tokens": self.decoded_tokens,
            "startup_seconds": self.startup_seconds,
            "time_to_first_token": self.prompt_seconds,
            "generation_seconds": self.generation_seconds,
            "prompt_tokens_per_second": self.prompt_rate,
            "tokens_per_second": self.generation_rate,
            "mean_entropy": self.mean_entropy,
            "mean_varentropy": self.mean_varentropy,
            "mean_attention_entropy": self.mean_attention_entropy,
            "strategies": {strategy.value: self.share(strategy) for strategy in Strategy},
            "acts": self.acts,
            "peak_memory": self.peak_memory,
        }

    def table(self, **facts: object) -> Table:
        """A table for the terminal, with further facts below."""
        from rich.table import Table
        from rich.text import Text

        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        rate, first = self.prompt_rate, self.prompt_seconds
        prompt = f"{self.prompt_tokens} tokens" + (f" ({self.cached_tokens} cached)" if self.cached_tokens else "")
        table.add_row("prompt", f"{prompt}, {rate:.0f} tokens/s, first token after {first:.2f} s")
        table.add_row("reply", f"{self.tokens} tokens, {self.generation_rate:.1f} tokens/s")
        table.add_row("entropy", f"{self.mean_entropy:.2f} bits, varentropy {self.mean_varentropy:.2f} bits²")
        if self.mean_attention_entropy is not None:
            table.add_row("attention", f"entropy {self.mean_attention_entropy:.2f} bits")
        if self.confidence:
            table.add_row("confidence", Text(self.confidence))
        for strategy in STYLES:
            if self.strategies[strategy]:
                name = f"{strategy.value} {strategy.quadrant}"
                table.add_row(name, f"{100 * self.share(strategy):.0f} %", style=STYLES[strategy])
        table.add_row(
            "memory", f"{self.peak_memory / _MIB:.0f} MiB at most, model open in {self.startup_seconds:.2f} s"
        )
        for name, value in facts.items():
            table.add_row(name.replace("_", " "), str(value))
        return table


def _runs(marks: Iterable[bool]) -> int:
    """How many runs of True there are."""
    return sum(mark for mark, _group in groupby(marks))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
