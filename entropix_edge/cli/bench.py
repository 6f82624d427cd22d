"""`entropix-edge bench`: how fast a model runs here, and what the loop costs beside raw llama.cpp."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeVar

import click

from ..engine_config import AttentionChoice, EngineConfig, FlashAttention
from ..errors import ContextError, EntropixError
from . import EXIT_INTERRUPTED
from .console import console
from .growing import rows
from .options import ModelOptions, gpu_option, takes, verbose_option
from .parameters import Attention, Numbers
from .session import Session, fetch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..bench.process import Starts
    from ..bench.report import Beside, Columns, Facts
    from ..bench.results import Speed, Variant
    from ..llama import Model
    from .growing import Rows

_Default = TypeVar("_Default")
_DEPTH = 64  # of generation, where nothing is said: the model is to have something to go on from
_FORMS = ["table", "md", "csv", "json", "jsonl"]


def _several(*names: str, least: int, what: str) -> object:
    """An option as llama-bench has it: a list, and repeatable."""
    return click.option(*names, type=Numbers(least), multiple=True, metavar="N,N", help=what)


class _BenchOptions(NamedTuple):
    """What is measured."""

    n_prompts: Annotated[
        tuple[tuple[int, ...], ...],
        _several("-p", "--n-prompt", "n_prompts", least=0, what="Prompt tokens; 0: no prompts. Default: 512."),
    ]
    n_gens: Annotated[
        tuple[tuple[int, ...], ...],
        _several("-n", "--n-gen", "n_gens", least=0, what="Generated tokens; 0: no generation. Default: 64."),
    ]
    n_depths: Annotated[
        tuple[tuple[int, ...], ...],
        _several(
            *("-d", "--n-depth", "n_depths"),
            least=0,
            what=f"Tokens in the cache before them. Default: 0 for prompts, {_DEPTH} for generation.",
        ),
    ]
    repetitions: Annotated[
        int,
        click.option("-r", "--repetitions", type=click.IntRange(min=1), default=5, help="Of each test. Default: 5."),
    ]
    loops: Annotated[
        tuple[str, ...],
        click.option(
            "--loop",
            "loops",
            type=click.Choice(["edge", "article", "greedy"]),
            multiple=True,
            help="The loops to measure. Repeatable. Default: all.",
        ),
    ]
    attentions: Annotated[
        tuple[AttentionChoice, ...],
        click.option(
            "--attention",
            "attentions",
            type=Attention(),
            multiple=True,
            metavar="last|all|off|L1,L2",
            help="The attention to measure with. Repeatable. Default: last, off and (generation) all.",
        ),
    ]
    flashes: Annotated[
        tuple[FlashAttention, ...],
        click.option(
            "-fa",
            "--flash-attn",
            "flashes",
            type=click.Choice(["on", "off", "auto"]),
            multiple=True,
            help="Flash attention of the loops. Repeatable. Default: auto.",
        ),
    ]
    threads: Annotated[
        tuple[tuple[int, ...], ...], _several("-t", "--threads", least=1, what="Threads. Default: the cores.")
    ]
    batch_sizes: Annotated[
        tuple[tuple[int, ...], ...],
        _several("-b", "--batch-size", "batch_sizes", least=1, what="Most prompt tokens in one decode."),
    ]
    n_gpu_layers: Annotated[int | Literal["auto", "all"], gpu_option]
    depth_cache: Annotated[
        Path | None,
        click.option(
            "--depth-cache",
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            help="Keep the cells of depths from 1024 there: another run need not decode them.",
        ),
    ]
    no_start: Annotated[
        bool, click.option("--no-start", is_flag=True, help="Leave out starting processes, which takes some seconds.")
    ]
    compare: Annotated[
        bool, click.option("--compare", is_flag=True, help="Also against llama_cpp.Llama.create_completion.")
    ]
    form: Annotated[
        Literal["table", "md", "csv", "json", "jsonl"],
        click.option(
            "--format",
            "-o",
            "--output",
            "form",
            type=click.Choice(_FORMS),
            default="table",
            help="How the rows are printed: md, csv and jsonl as they are measured. Default: table.",
        ),
    ]

    def tests(self) -> Iterator[tuple[int, list[int], list[int]]]:
        """A depth, and the lengths of prompts and of replies that are measured there."""
        prompts, gens = _flat(self.n_prompts, 512), _flat(self.n_gens, 64)
        if self.n_depths:
            for depth in _flat(self.n_depths, 0):
                yield depth, [count for count in prompts if count], [count for count in gens if count]
        else:
            yield 0, [count for count in prompts if count], []
            yield _DEPTH, [], [count for count in gens if count]

    def variants(self, *, prompts: bool = False) -> list[Variant]:
        """The ways to generate, the default first; or to process prompts, which cost the same with every loop."""
        from ..bench.results import ENGINE, Variant
        from ..bench.speed import LOOPS

        usual: tuple[AttentionChoice, ...] = ("last", "off") if prompts else ("last", "off", "all")
        loops = [ENGINE] if prompts else self.loops or LOOPS
        return [
            Variant(loop, attention, flash)
            for flash in self.flashes or ("auto",)
            for attention in self.attentions or usual
            for loop in loops
        ]

    def places(self) -> list[EngineConfig]:
        """Threads and batch sizes."""
        config = EngineConfig(gpu_layers=self.n_gpu_layers)
        return [
            replace(config, threads=threads, batch_size=batch_size)
            for threads in _flat(self.threads, None)
            for batch_size in _flat(self.batch_sizes, None)
        ]

    def columns(self) -> Columns:
        """What a table shows."""
        from ..bench.report import Columns

        threads, batches = _flat(self.threads, None), _flat(self.batch_sizes, None)
        return Columns(without_flash="off" in self.flashes, threads=len(threads) > 1, batches=len(batches) > 1)


def _flat(lists: Sequence[Sequence[int]], default: _Default) -> list[int | _Default]:
    return list(dict.fromkeys(itertools.chain(*lists))) or [default]


@click.command("bench")
@takes(options=_BenchOptions, model=ModelOptions)
@verbose_option
def command(options: _BenchOptions, model: ModelOptions) -> int:
    """Measure tokens a second, and the whole loop as a share of raw llama.cpp.

    The loop and raw (`llama_decode` and an argmax) take turns, a token each, in one process: what else the
    machine does falls on both. Rows go to standard output as they are measured, Ctrl-C keeps them.

    "of raw" counts the rounds without branches; what forks cost stands beside it: the share of rounds with branches,
    and how much longer that makes a token. A repetition that something else disturbed is done again, as many times at
    most as there are repetitions. The records are llama-bench's, with fields of our own.
    """
    from ..bench.report import Beside

    found: list[Speed] = []
    beside, interrupted = Beside(), False
    with rows(options.form, options.columns()) as shown, Session() as session:
        try:
            _measure(_Run(session, options, shown, found, beside), fetch(model.name, offline=model.offline))
        except (KeyboardInterrupt, EntropixError) as error:
            if not found:
                raise
            interrupted = isinstance(error, KeyboardInterrupt)
            if not interrupted:
                shown.end(beside, found)
                raise
        shown.end(beside, found)
    return EXIT_INTERRUPTED if interrupted else 0


class _Run(NamedTuple):
    """One call of the command: what was measured is in `found` and `beside` however it ends."""

    session: Session
    options: _BenchOptions
    shown: Rows
    found: list[Speed]
    beside: Beside


def _measure(run: _Run, path: Path) -> None:
    from ..bench.process import throttling
    from ..bench.speed import room
    from ..engine import planned_context
    from ..llama import Model

    options = run.options
    tests = [test for test in options.tests() if test[1] or test[2]]
    if not tests:
        raise click.UsageError("-p 0 and -n 0 leave nothing to measure: give a length")
    for config in options.places():
        config = replace(config, ctx_size=max(room(*test) for test in tests))
        planned = partial(planned_context, config)
        with (
            run.session.computing(config),
            Model(path, gpu_layers=config.gpu_layers, context=planned, cancelled=run.session.interrupt) as model,
        ):
            facts = _facts(path, model)
            if not run.found:
                run.shown.begin(facts)
            for test in tests:
                _measure_depth(run, facts, model, config, test)
    run.beside.throttling = throttling()
    if not options.no_start:
        run.shown.doing("process starts")
        run.beside.starts = _starts(path, run.found[0].test.threads, options.repetitions)


def _measure_depth(
    run: _Run, facts: Facts, model: Model, config: EngineConfig, test: tuple[int, list[int], list[int]]
) -> None:
    """The tests of one depth; with the first generation what else stands beside it."""
    from ..bench.contexts import Contexts
    from ..bench.kernels import time_kernels
    from ..bench.speed import Speeds, room

    depth, n_prompts, n_gens = test
    options = run.options
    config = replace(config, ctx_size=room(*test, trained=model.n_ctx_train))
    flashes = (True, False) if "off" in options.flashes else (True,)
    with Contexts(model, config, depth, run.session.interrupt, options.depth_cache) as contexts:
        speeds = Speeds(contexts, options.repetitions, flashes, run.shown.doing)
        found = itertools.chain(
            *(speeds.prompt(n_prompt, options.variants(prompts=True)) for n_prompt in n_prompts),
            *(speeds.generation(n_gen, options.variants()) for n_gen in n_gens),
        )
        for speed in found:
            run.found.append(speed)
            run.shown.add(facts, speed)
        if n_gens and run.beside.kernels is None:
            run.shown.doing("kernels")
            run.beside.kernels = time_kernels(contexts)
            if options.compare:
                run.shown.doing("create_completion")
                run.beside.completion = {
                    f"flash attention {'on' if flash else 'off'}": speeds.completion(n_gens[0], flash=flash)
                    for flash in (True, False)
                }


def _starts(path: Path, threads: int, repetitions: int) -> Starts | None:
    from ..bench.process import starts

    try:
        return starts(path, threads, repetitions)
    except ContextError as error:
        console().print(f"Warning: starts are not measured: {error}", markup=False)
        return None


def _facts(path: Path, model: Model) -> Facts:
    from ..bench.report import Facts
    from ..llama import devices, llama_cpp_version

    return Facts(
        cpu_info=", ".join(device.description for device in devices() if device.kind == "CPU"),
        gpu_info=", ".join(device.description for device in model.devices),
        backends=",".join(dict.fromkeys(device.name.rstrip("0123456789") for device in model.devices)) or "CPU",
        model_filename=str(path),
        model_type=model.description,
        model_size=model.size,
        model_n_params=model.header.parameters,
        n_gpu_layers=model.gpu_layers,
        llama_cpp_python=llama_cpp_version(),
    )
