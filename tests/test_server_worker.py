"""The thread that decodes: when what it brings is delivered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entropix_edge.server import worker as server_worker
from entropix_edge.server.worker import News, Worker


class Clock:
    """Stands still until it is moved."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Beat:
    """A reply that has a token after each decode, from a decode of its own on, so many in all."""

    seed = prompt_tokens = cached_tokens = decoded_tokens = 0

    def __init__(self, tokens: int, prefill: int = 0) -> None:
        self.left, self.prefill, self.ready, self.count = tokens, prefill, False, 0

    @property
    def ended(self) -> bool:
        return self.left == 0

    def decode(self) -> None:
        if self.prefill:
            self.prefill -= 1
        elif self.left:
            self.left, self.count, self.ready = self.left - 1, self.count + 1, True

    def waiting(self) -> Iterator[Any]:
        if self.ready:
            self.ready = False
            yield self.count

    def cancel(self) -> None:
        self.left = 0

    close = cancel


class Work:
    """A request of one reply."""

    def __init__(self, beat: Beat) -> None:
        self.sources: Sequence[Any] = [beat]


class Decodes:
    """An engine whose decodes take so many seconds each; after some of them others come."""

    def __init__(self, clock: Clock, seconds: Sequence[float], coming: Mapping[int, Sequence[Callable[[], None]]]):
        self.clock, self.seconds, self.coming = clock, seconds, coming
        self.beats: list[Beat] = []
        self.decoded = 0

    def step(self) -> None:
        self.clock.now += self.seconds[self.decoded % len(self.seconds)]
        self.decoded += 1
        for beat in self.beats:
            beat.decode()
        for come in self.coming.get(self.decoded, ()):
            come()


def deliveries(
    monkeypatch: pytest.MonkeyPatch, seconds: Sequence[float], beats: Sequence[tuple[int, int, int]]
) -> tuple[list[float], dict[int, list[int]]]:
    """When a worker delivered, and the tokens that it delivered of each reply.

    Args:
        monkeypatch: pytest's.
        seconds: of decodes.
        beats: after how many decodes each reply comes, how many decodes its prompt takes, how many tokens it has.
    """
    clock = Clock()
    monkeypatch.setattr(server_worker, "time", clock)
    works = [Work(Beat(tokens, prefill)) for _at, prefill, tokens in beats]
    times: list[float] = []
    seen: dict[int, list[int]] = {number: [] for number in range(len(works))}
    open_ones = set(range(len(works)))

    def deliver(told: list[tuple[Any, News]]) -> None:
        times.append(clock.now)
        for work, news in told:
            number = works.index(work)
            seen[number] += [int(event) for event in news.events]  # type: ignore[call-overload]
            if news.ended:
                open_ones.discard(number)
        if not open_ones:
            worker.close()

    def add(number: int) -> None:
        engine.beats.append(works[number].sources[0])
        worker.add(works[number])

    coming: dict[int, list[Callable[[], None]]] = {}
    for number, (after, _prefill, _tokens) in enumerate(beats):
        coming.setdefault(after, []).append(partial(add, number))
    engine = Decodes(clock, seconds, coming)
    worker = Worker(engine, deliver)  # type: ignore[arg-type]
    for come in coming[0]:
        come()
    worker.run()
    return times, seen


def test_quick_tokens_leave_together_sixty_times_a_second_and_slow_ones_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times, seen = deliveries(monkeypatch, [0.005], [(0, 0, 40)])
    assert seen == {0: list(range(1, 41))}
    assert times[0] == pytest.approx(0.005)  # the first at once
    assert np.diff(times[:-1]) == pytest.approx(0.02)  # four tokens, the first time that is over a sixtieth
    assert times[-1] == pytest.approx(0.2)  # the last at once
    times, seen = deliveries(monkeypatch, [0.02], [(0, 0, 10)])
    assert times == pytest.approx([0.02 * number for number in range(1, 11)])


def test_no_token_waits_while_the_prompt_of_another_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [0.005] * 3 + [0.5] * 3 + [0.005] * 20
    times, seen = deliveries(monkeypatch, seconds, [(0, 0, 20), (3, 3, 4)])
    assert seen == {0: list(range(1, 21)), 1: [1, 2, 3, 4]}
    # the first token; two that were held, when the other comes; one with each part of its prompt
    assert times[:5] == pytest.approx([0.005, 0.015, 0.515, 1.015, 1.515])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seconds=st.lists(st.floats(0.0001, 0.1), min_size=1, max_size=8),
    beats=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(6, 30)), min_size=1, max_size=4),
)
def test_whatever_comes_when_every_token_is_delivered_once_and_in_order(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], beats: list[tuple[int, int, int]]
) -> None:
    beats = [(0, 0, 30), *beats]
    _times, seen = deliveries(monkeypatch, seconds, beats)
    assert seen == {number: list(range(1, tokens + 1)) for number, (_at, _prefill, tokens) in enumerate(beats)}
