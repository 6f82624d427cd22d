"""Tokens a second of the whole loop and of raw llama.cpp, a token each in turns.

So whatever else the machine does falls on both, and a ratio repeats where a rate does not. Raw is `llama_decode` and
an argmax, nothing else.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from ..config import EngineConfig, GenerationConfig
from ..engine import Engine, open_context, planned_context
from ..errors import ContextError
from ..llama import Completion, Context, Model, RawLoop
from ..metrics import describe
from ..sampling import draw
from ..strategy import load_preset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ..config import AttentionChoice

LOOPS = {
    "greedy": GenerationConfig(preset="article", sampler="greedy"),
    "article": GenerationConfig(preset="article"),
    "edge": GenerationConfig(preset="edge"),
}
_PROMPT = "Write a long story about a lighthouse keeper, the sea, and a ship that never came home. "
_WARM = 4  # tokens generated before anything is timed
_ORDERS = tuple(itertools.permutations(range(3)))  # who comes after whom is worth 1 to 2 %: all orders, in turns
_ATTEMPTS = 20  # replies, if they end early
_ROWS = 24  # real rows that the kernels are timed on
_REPEATS = 15  # of each timing of a kernel; the median counts


class Variant(NamedTuple):
    """One way to generate.

    Attributes:
        loop: one of `LOOPS`.
        attention: the layers whose attention is measured.
        flash: whether flash attention is on.
    """

    loop: str
    attention: AttentionChoice
    flash: bool


class Spread(NamedTuple):
    """Mean and standard deviation over repetitions."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of at least one value."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)

    def __str__(self) -> str:
        digits = 3 if self.mean < 10 else 1
        return f"{self.mean:.{digits}f} ± {self.deviation:.{digits}f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What one variant came to.

    Attributes:
        test: "pp512" for a prompt of 512 tokens, "tg64" for 64 generated ones.
        loop: "raw", or one of `LOOPS`.
        attention: as in `EngineConfig`.
        flash: whether flash attention was on.
        rate: tokens a second; forks, rejected draws and rewinds are paid, not counted.
        ratio: against raw with the same flash attention, each repetition's own; None for raw.
        flash_ratio: against raw with flash attention on.
        decode_share: the part of the time that llama.cpp took, callbacks included; None for raw.
    """

    test: str
    loop: str
    attention: str
    flash: bool
    rate: Spread
    ratio: Spread | None = None
    flash_ratio: Spread | None = None
    decode_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """Median seconds a token of what is not llama.cpp, on real rows.

    Attributes:
        n_vocab: length of a row.
        maximum: `numpy.max` over the row, to compare with.
        metrics: the metrics kernel.
        draw: one draw with the filters of the preset `article`.
        python: the rest of the loop's step: Python, and the calls into C.
        raw: what raw's step takes beside llama.cpp: Python, calls, and its argmax.
    """

    n_vocab: int
    maximum: float
    metrics: float
    draw: float
    python: float
    raw: float


class Bench:
    """A model opened once, with a context for each setting. A context manager.

    Args:
        path: of the GGUF file.
        config: threads, layers on the GPU, batch size and context; the variants say the rest.
        n_prompt: tokens of the prompt whose processing is timed.
        n_gen: tokens generated in a repetition.
        depth: tokens in the cache before them.
        repetitions: of everything.
        cancelled: asked now and then; True stops it with KeyboardInterrupt.
    """

    def __init__(
        self,
        path: Path,
        config: EngineConfig,
        *,
        n_prompt: int,
        n_gen: int,
        depth: int,
        repetitions: int,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._n_prompt, self._n_gen, self._depth = n_prompt, n_gen, depth
        self._repetitions = repetitions
        self._cancelled = cancelled
        self._contexts: dict[tuple[AttentionChoice, bool, bool], Context] = {}
        self._config = replace(config, ctx_size=config.ctx_size or max(n_prompt, depth + n_gen) + 64)
        self.model = self._stack.enter_context(
            Model(path, gpu_layers=config.gpu_layers, context=partial(planned_context, self._config), mmap=config.mmap)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    @property
    def threads(self) -> int:
        """How many threads decode."""
        return self._context("off", flash=True, raw=True).threads

    # --- the tests ------------------------------------------------------------------------------------

    def prompt(self) -> Iterator[Speed]:
        """Processing of a prompt: raw, and through the engine with attention off and of the last layer."""
        test = f"pp{self._n_prompt}"
        pairs: dict[Variant, list[tuple[float, float, float]]] = {
            variant: [] for variant in (Variant("article", "off", True), Variant("article", "last", True))
        }
        raw: dict[bool, list[float]] = {True: [], False: []}
        random = np.random.default_rng(0)
        for number in range(self._repetitions + 1):
            for variant, timed in pairs.items():
                tokens = self._ordinary(random, self._n_prompt)
                raws = {flash: self._seconds(self._raw_prompt, flash, tokens) for flash in (True, False)}
                ours = self._seconds(self._prompt, variant, tokens)
                if number:  # the first warms up
                    timed.append((ours, raws[variant.flash], raws[True]))
                    for flash, seconds in raws.items():
                        raw[flash].append(self._n_prompt / seconds)
        for flash, rates in raw.items():
            yield Speed(test=test, loop="raw", attention="off", flash=flash, rate=Spread.of(rates))
        for variant, timed in pairs.items():
            yield Speed(
                test=test,
                loop="engine",
                attention=str(variant.attention),
                flash=variant.flash,
                rate=Spread.of([self._n_prompt / t[0] for t in timed]),
                ratio=Spread.of([t[1] / t[0] for t in timed]),
                flash_ratio=Spread.of([t[2] / t[0] for t in timed]),
            )

    def generation(self, variants: Sequence[Variant]) -> Iterator[Speed]:
        """Generation: each variant in turns with raw, flash attention on and off; then raw itself."""
        raw: dict[bool, list[float]] = {True: [], False: []}
        for variant in variants:
            rounds = [self._round(variant, seed) for seed in range(-1, self._repetitions)][1:]
            for steps in rounds:
                raw[True].append(1 / steps[:, 1].mean())
                raw[False].append(1 / steps[:, 2].mean())
            yield self._speed(variant, rounds)
        for flash, rates in raw.items():
            yield Speed(test=self._test, loop="raw", attention="off", flash=flash, rate=Spread.of(rates))

    def kernels(self) -> Kernels:
        """What a token costs beside llama.cpp: kernels on real rows, Python as what is left of a greedy step."""
        context = self._context("off", flash=True, raw=True)
        raw = RawLoop(context, self._text(self._depth))
        settings = load_preset("article").sampler.settings()
        times, beside = [], []
        for _ in range(_ROWS):
            before = raw.decode_seconds
            seconds = self._seconds(raw.step)
            beside.append(seconds - (raw.decode_seconds - before))
            row = raw.logits
            known = describe(row, 0)
            calls = (
                row.max,
                lambda row=row: describe(row, 0),
                lambda row=row, known=known: draw(row, known, settings, 0.5),
            )
            times.append([_median_seconds(call) for call in calls])
        maximum, metrics, drawing = np.median(times, axis=0).tolist()
        rounds = np.concatenate([self._round(Variant("greedy", "off", True), seed) for seed in range(2)])
        python = float(np.median(rounds[:, 0] - rounds[:, 3])) - metrics
        return Kernels(
            n_vocab=row.size,
            maximum=maximum,
            metrics=metrics,
            draw=drawing,
            python=python,
            raw=float(np.median(beside)),
        )

    def completion(self, flash: bool) -> Spread:
        """The loop's rate against that of `create_completion` with the same filters, attention off, in turns."""
        engine = self._engine("off", flash)
        prompt = self._text(self._depth)
        settings = load_preset("article").sampler.settings()
        config = replace(LOOPS["article"], n_predict=self._n_gen)
        ratios = []
        with Completion(
            self.model.path,
            n_ctx=engine.context.n_ctx,
            threads=self.threads,
            gpu_layers=self.model.gpu_layers,
            flash_attention=flash,
        ) as other:
            for seed in range(-1, self._repetitions):
                start = time.perf_counter()
                ours = len(engine.stream_tokens(prompt, replace(config, seed=seed + 1)).reply().events)
                middle = time.perf_counter()
                theirs = other.run(prompt, self._n_gen, settings, seed + 1)
                end = time.perf_counter()
                if seed >= 0:
                    ratios.append((ours / (middle - start)) / (theirs / (end - middle)))
        return Spread.of(ratios)

    # --- one repetition -------------------------------------------------------------------------------

    def _round(self, variant: Variant, seed: int) -> Any:
        """Seconds of the loop's step, raw's with flash attention on and off, and the loop's decodes: (steps, 4).

        A reply that ends early is followed by another, to another prompt.

        Raises:
            ContextError: the model has nothing to say.
        """
        steps: list[list[float]] = []
        for attempt in range(_ATTEMPTS):
            steps += self._reply(variant, seed, attempt)[: self._n_gen - len(steps)]
            if len(steps) == self._n_gen:
                break
        if not steps:
            raise ContextError(f"the model ends each of {_ATTEMPTS} replies at once: its speed cannot be measured")
        return np.array(steps)

    def _reply(self, variant: Variant, seed: int, attempt: int) -> list[list[float]]:
        engine = self._engine(variant.attention, variant.flash)
        context = engine.context
        prompt = self._text(self._depth + attempt)[attempt:]
        config = replace(LOOPS[variant.loop], seed=(seed + attempt) % 2**32, n_predict=self._n_gen + _WARM)
        raws = [RawLoop(self._context("off", flash=flash, raw=True), prompt) for flash in (True, False)]
        steps: list[list[float]] = []
        with engine.stream_tokens(prompt, config) as stream, contextlib.suppress(StopIteration):
            calls = (stream.__next__, *(raw.step for raw in raws))
            for number in itertools.count(-_WARM):
                before = context.decode_seconds
                taken = [0.0] * len(calls)
                for turn in _ORDERS[number % len(_ORDERS)]:
                    taken[turn] = self._seconds(calls[turn])
                if number >= 0:
                    steps.append([*taken, context.decode_seconds - before])
        return steps

    def _speed(self, variant: Variant, rounds: list[Any]) -> Speed:
        ours = [float(steps[:, 0].mean()) for steps in rounds]
        same = 1 if variant.flash else 2
        return Speed(
            test=self._test,
            loop=variant.loop,
            attention=str(variant.attention),
            flash=variant.flash,
            rate=Spread.of([1 / seconds for seconds in ours]),
            ratio=Spread.of([float(steps[:, same].mean()) / own for steps, own in zip(rounds, ours, strict=True)]),
            flash_ratio=Spread.of([float(steps[:, 1].mean()) / own for steps, own in zip(rounds, ours, strict=True)]),
            decode_share=float(sum(steps[:, 3].sum() for steps in rounds) / sum(steps[:, 0].sum() for steps in rounds)),
        )

    def _raw_prompt(self, flash: bool, tokens: Sequence[int]) -> None:
        RawLoop(self._context("off", flash=flash, raw=True), tokens)

    def _prompt(self, variant: Variant, tokens: Sequence[int]) -> None:
        self._engine(variant.attention, variant.flash).stream_tokens(tokens, GenerationConfig(n_predict=1)).reply()

    def _seconds(self, call: Callable[..., object], *arguments: object) -> float:
        if self._cancelled():
            raise KeyboardInterrupt
        start = time.perf_counter()
        call(*arguments)
        return time.perf_counter() - start

    # --- what they need -------------------------------------------------------------------------------

    @property
    def _test(self) -> str:
        return f"tg{self._n_gen}" + (f" @ d{self._depth}" if self._depth else "")

    def _context(self, attention: AttentionChoice, *, flash: bool, raw: bool = False) -> Context:
        key = (attention, flash, raw)
        if key not in self._contexts:
            config = replace(
                self._config,
                attention=attention,
                flash_attention="on" if flash else "off",
                forks=0 if raw else self._config.forks,
            )
            self._contexts[key] = self._stack.enter_context(open_context(self.model, config, self._cancelled))
        return self._contexts[key]

    def _engine(self, attention: AttentionChoice, flash: bool) -> Engine:
        return self._engines.setdefault(
            (attention, flash), Engine(self.model, self._context(attention, flash=flash), self._config)
        )

    @cached_property
    def _engines(self) -> dict[tuple[AttentionChoice, bool], Engine]:
        return {}

    def _text(self, count: int) -> list[int]:
        """A prompt of so many tokens, at least one."""
        tokens = self.model.vocabulary.tokenize(_PROMPT, add_bos=True)
        more = self.model.vocabulary.tokenize(_PROMPT)
        while len(tokens) < count:
            tokens += more
        return tokens[: max(count, 1)]

    def _ordinary(self, random: np.random.Generator, count: int) -> list[int]:
        """Tokens that mean nothing, none of them a control token."""
        vocabulary = self.model.vocabulary
        found: list[int] = []
        while len(found) < count:
            token = int(random.integers(vocabulary.size))
            if not vocabulary.is_control(token):
                found.append(token)
        return found


def _median_seconds(call: Callable[[], object]) -> float:
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
