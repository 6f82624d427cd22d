"""Tokens a second of the whole loop and of raw llama.cpp, a token each in turns.

So whatever else the machine does falls on both, and a ratio repeats where a rate does not. Raw is `llama_decode` and
an argmax, nothing else.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import GenerationConfig
from ..errors import ContextError
from ..llama import Completion
from ..strategy import load_preset
from ..types import TokenEvent
from .repeating import Load, repeat
from .results import ENGINE, RAW, Case, Sample, Speed, Spread, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..engine import Engine, ReplyStream
    from ..llama import RawLoop
    from .contexts import Contexts

LOOPS = {
    "edge": GenerationConfig(preset="edge"),  # the default
    "article": GenerationConfig(preset="article"),
    "greedy": GenerationConfig(preset="article", sampler="greedy"),
}
_WARM = 4  # rounds before anything is timed
_SPARE = 256  # tokens of a reply beyond those that are timed: a branch brings several at once
_ATTEMPTS = 20  # replies, if they end early


def room(depth: int, n_prompts: Sequence[int], n_gens: Sequence[int], trained: int = 2**31) -> int:
    """How many cells a context needs for the tests of one depth; no more than the model is trained for, where it can.

    Args:
        depth: tokens before.
        n_prompts: of prompts.
        n_gens: of replies.
        trained: the model's context.
    """
    needed = depth + max([1, *n_prompts, *(n_gen + _WARM for n_gen in n_gens)])
    return min(needed + 2 * _SPARE, max(needed, trained))


class Speeds:
    """Measures on contexts of one depth.

    Args:
        contexts: for the variants.
        repetitions: of everything.
        flashes: raw's settings of flash attention; True is among them.
        doing: told what is measured next.
    """

    def __init__(
        self,
        contexts: Contexts,
        repetitions: int,
        flashes: Sequence[bool] = (True,),
        doing: Callable[[str], None] = lambda _what: None,
    ) -> None:
        self._contexts = contexts
        self._repetitions = repetitions
        self._flashes = flashes
        self._doing = doing
        raw = contexts.raw(flash=True).context
        self._threads, self._n_batch = raw.threads, raw.n_batch
        self._load = Load(self._threads)

    def prompt(self, n_prompt: int, variants: Sequence[Variant]) -> Iterator[Speed]:
        """Processing of a prompt: through the engine of each variant, in turns with raw; then raw itself."""
        random = np.random.default_rng(0)

        def once(variant: Variant) -> Sample:
            tokens = [*(self._contexts.prompt() if self._contexts.depth else ()), *self._noise(random, n_prompt)]
            raw = {flash: self._seconds(self._contexts.raw(flash).start, tokens) for flash in self._flashes}
            engine = self._contexts.engine(variant)
            seconds = self._seconds(lambda: engine.stream_tokens(tokens, GenerationConfig(n_predict=1)).reply())
            return Sample(seconds=seconds, step=seconds, raw=raw)

        engines = dict.fromkeys(variant._replace(loop=ENGINE) for variant in variants)
        yield from self._rows(self._test(n_prompt=n_prompt), list(engines), lambda variant, _seed: once(variant))

    def generation(self, n_gen: int, variants: Sequence[Variant]) -> Iterator[Speed]:
        """Generation: each variant in turns with raw; then raw itself."""
        yield from self._rows(
            self._test(n_gen=n_gen), variants, lambda variant, seed: self._generated(variant, seed, n_gen)
        )

    def completion(self, n_gen: int, *, flash: bool) -> Spread:
        """The loop's rate against that of `create_completion` with the same filters, attention off, in turns."""
        engine = self._contexts.engine(Variant("article", "off", "on" if flash else "off"))
        prompt = self._contexts.prompt()
        settings = load_preset("article").sampler.settings()
        config = replace(LOOPS["article"], n_predict=n_gen)
        ratios = []
        with Completion(
            engine.model.path,
            n_ctx=engine.context.n_ctx,
            threads=self._threads,
            gpu_layers=engine.model.gpu_layers,
            flash_attention=flash,
        ) as other:
            for seed in range(-1, self._repetitions):
                start = time.perf_counter()
                ours = len(engine.stream_tokens(prompt, replace(config, seed=seed + 1)).reply().events)
                middle = time.perf_counter()
                theirs = other.run(prompt, n_gen, settings, seed + 1)
                end = time.perf_counter()
                self._contexts.check()
                if seed >= 0:
                    ratios.append((ours / (middle - start)) / (theirs / (end - middle)))
        return Spread.of(ratios)

    # --- rows -----------------------------------------------------------------------------------------

    def _rows(self, test: Case, variants: Sequence[Variant], once: Callable[[Variant, int], Sample]) -> Iterator[Speed]:
        """A row a variant as it is measured, then raw's.

        Raises:
            KeyboardInterrupt: it was interrupted; what was measured came before.
        """
        all_began, samples = datetime.now(UTC), list[Sample]()
        for variant in variants:
            began = datetime.now(UTC)
            self._doing(f"{test} {variant}")
            try:
                found = repeat(partial(once, variant), self._repetitions, self._load)
            except KeyboardInterrupt:
                yield from self._raw_rows(test, samples, all_began)
                raise
            samples += found.samples
            yield found.speed(test, variant, began)
            if found.interrupted:
                yield from self._raw_rows(test, samples, all_began)
                raise KeyboardInterrupt
        yield from self._raw_rows(test, samples, all_began)

    def _raw_rows(self, test: Case, samples: Sequence[Sample], began: datetime) -> Iterator[Speed]:
        for flash in self._flashes if samples else ():
            times = [sample.raw[flash] * (test.n_gen or 1) for sample in samples]
            besides = [sample.raw_beside for sample in samples if sample.raw_beside is not None]
            yield Speed(
                test=test,
                variant=Variant(RAW, "off", "on" if flash else "off"),
                began=began,
                seconds=tuple(times),
                beside=float(np.median(besides)) if besides and flash else None,
            )

    def _test(self, n_prompt: int = 0, n_gen: int = 0) -> Case:
        return Case(n_prompt, n_gen, self._contexts.depth, self._threads, self._n_batch)

    # --- one repetition -------------------------------------------------------------------------------

    def _generated(self, variant: Variant, seed: int, n_gen: int) -> Sample:
        """Rounds of the loop and steps of raw in turns, until so many tokens are written.

        A reply that ends early is followed by another, to another prompt.

        Raises:
            ContextError: the model has nothing to say.
        """
        rounds = _Rounds()
        engine = self._contexts.engine(variant)
        for attempt in range(_ATTEMPTS):
            self._reply(engine, variant, (seed, attempt), n_gen, rounds)
            if rounds.tokens >= n_gen:
                return rounds.sample(n_gen, self._flashes)
        if not rounds.tokens:
            raise ContextError(f"the model ends each of {_ATTEMPTS} replies at once: its speed cannot be measured")
        return rounds.sample(n_gen, self._flashes)

    def _reply(self, engine: Engine, variant: Variant, number: tuple[int, int], n_gen: int, rounds: _Rounds) -> None:
        seed, attempt = number
        prompt = self._contexts.prompt(attempt)
        raws = [self._contexts.raw(flash) for flash in self._flashes]
        for raw in raws:
            raw.start(prompt)
        # who comes after whom is worth 1 to 2 %: all orders, in turns
        orders = itertools.cycle(itertools.permutations(range(len(raws) + 1)))
        config = replace(LOOPS[variant.loop], seed=seed + attempt, n_predict=n_gen + _WARM + _SPARE)
        with engine.stream_tokens(prompt, config) as stream:
            while not stream.ended and not any(stream.waiting()):  # the prompt
                self._contexts.check()
                engine.step()
            for count in itertools.count():
                self._contexts.check()
                timed = _Round(engine, stream, raws, next(orders))
                if stream.ended:
                    return
                if count >= _WARM:
                    rounds.add(timed)
                    if rounds.tokens >= n_gen:
                        return

    def _noise(self, random: np.random.Generator, count: int) -> list[int]:
        return self._contexts.noise(random, count)

    def _seconds(self, call: Callable[..., object], *arguments: object) -> float:
        self._contexts.check()
        start = time.perf_counter()
        call(*arguments)
        return time.perf_counter() - start


class _Round:
    """One round of the loop and one step of each raw, timed.

    Attributes:
        seconds: of each, the loop first.
        beside: of it, what llama.cpp did not take.
        tokens: that the loop wrote.
        forked: whether there were branches, before it or after.
    """

    def __init__(self, engine: Engine, stream: ReplyStream, raws: Sequence[RawLoop], order: Sequence[int]) -> None:
        self.seconds = [0.0] * len(order)
        self.beside = [0.0] * len(order)
        self.tokens = 0
        self.forked = stream.is_forked
        clock = time.perf_counter
        for turn in order:
            decoder: Any = raws[turn - 1] if turn else engine.context
            before = decoder.decode_seconds
            start = clock()
            if turn:
                decoder.step()
            else:
                engine.step()
                events = list(stream.waiting())
            self.seconds[turn] = clock() - start
            self.beside[turn] = self.seconds[turn] - (decoder.decode_seconds - before)
        self.tokens = sum(isinstance(event, TokenEvent) for event in events)
        self.forked = self.forked or stream.is_forked


@dataclass(slots=True)
class _Rounds:
    """Those of a repetition."""

    seconds: list[list[float]] = field(default_factory=list)
    beside: list[list[float]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def tokens(self) -> int:
        """How many were written."""
        return self.counts["tokens"]

    def add(self, timed: _Round) -> None:
        """Note a round."""
        self.counts.update(tokens=timed.tokens, rounds=1, forked=int(timed.forked))
        self.seconds.append([*timed.seconds, float(timed.forked)])
        self.beside.append(timed.beside)

    def sample(self, n_gen: int, flashes: Sequence[bool]) -> Sample:
        """What they come to."""
        seconds, beside = np.array(self.seconds), np.array(self.beside)
        whole = float(seconds[:, 0].sum()) * n_gen / self.tokens
        plain = seconds[:, -1] == 0
        has_plain = bool(plain.any())
        if has_plain:
            seconds, beside = seconds[plain], beside[plain]
        return Sample(
            seconds=whole,
            step=float(seconds[:, 0].mean()) if has_plain else None,
            raw={flash: float(seconds[:, 1 + place].mean()) for place, flash in enumerate(flashes)},
            beside=float(np.median(beside[:, 0])) if has_plain else None,
            raw_beside=float(np.median(beside[:, 1])),
            rounds=self.counts["rounds"],
            forked=self.counts["forked"],
        )
