"""`entropix-edge bench`: how fast a model runs here, and what the loop costs beside raw llama.cpp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import click

from ..config import EngineConfig
from ..errors import ContextError
from .console import console, output, print_json, print_table
from .options import ModelOptions, batch_option, gpu_option, takes, threads_option, verbose_option
from .session import Session, fetch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..bench.process import Starts
    from ..bench.report import Facts, Report
    from ..bench.speed import Bench, Speed, Variant

_Attention = Literal["off", "last", "all"]


class _BenchOptions(NamedTuple):
    """What is measured."""

    n_prompt: Annotated[
        int,
        click.option("-p", "--n-prompt", type=click.IntRange(min=2), default=512, help="Prompt tokens. Default: 512."),
    ]
    n_gen: Annotated[
        int,
        click.option("-n", "--n-gen", type=click.IntRange(min=1), default=64, help="Generated tokens. Default: 64."),
    ]
    n_depth: Annotated[
        int,
        click.option(
            "-d",
            "--n-depth",
            type=click.IntRange(min=1),
            default=64,
            help="Tokens in the cache before them. Default: 64.",
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
            type=click.Choice(["greedy", "article", "edge"]),
            multiple=True,
            help="The loops to measure. Repeatable. Default: all.",
        ),
    ]
    attentions: Annotated[
        tuple[_Attention, ...],
        click.option(
            "--attention",
            "attentions",
            type=click.Choice(["off", "last", "all"]),
            multiple=True,
            help="The attention to measure with. Repeatable. Default: all.",
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
            "-o",
            "--format",
            "--output",
            "form",
            type=click.Choice(["table", "md", "csv", "json", "jsonl"]),
            default="table",
            help="How the result is printed. Default: table.",
        ),
    ]
    threads: Annotated[int | None, threads_option]
    batch_size: Annotated[int | None, batch_option]
    n_gpu_layers: Annotated[int | Literal["auto", "all"], gpu_option]

    def variants(self) -> list[Variant]:
        """The ways to generate."""
        from ..bench.speed import LOOPS, Variant

        settings: list[tuple[_Attention, bool]] = [
            ("last", True),  # the default
            ("off", True),
            ("all", True),
            ("off", False),
            ("last", False),
        ]
        return [
            Variant(loop, attention, flash)
            for attention, flash in settings
            if attention in (self.attentions or ("off", "last", "all"))
            for loop in self.loops or LOOPS
        ]


@click.command("bench")
@takes(options=_BenchOptions, model=ModelOptions)
@verbose_option
def command(options: _BenchOptions, model: ModelOptions) -> None:
    """Measure tokens a second, and the whole loop as a share of raw llama.cpp.

    The loop and raw (`llama_decode` and an argmax) take turns, a token each, in one process: what else the
    machine does falls on both. The result goes to standard output.
    """
    with Session() as session:
        report = _measure(session, options, fetch(model.name, offline=model.offline))
    _print(report, options.form)


def _measure(session: Session, options: _BenchOptions, path: Path) -> Report:
    from ..bench.report import Report
    from ..bench.speed import Bench

    config = EngineConfig(batch_size=options.batch_size, threads=options.threads, gpu_layers=options.n_gpu_layers)
    with (
        session.computing(config),
        Bench(
            path,
            config,
            n_prompt=options.n_prompt,
            n_gen=options.n_gen,
            depth=options.n_depth,
            repetitions=options.repetitions,
            cancelled=session.interrupt,
        ) as bench,
    ):
        speeds = _speeds(bench, options)
        with console().status("Measuring: kernels"):
            kernels = bench.kernels()
            completion = None
            if options.compare:
                completion = {
                    f"flash attention {'on' if flash else 'off'}": bench.completion(flash) for flash in (True, False)
                }
        facts = _facts(path, bench)
    started = None if options.no_start else _starts(path, facts.threads, options.repetitions)
    return Report(facts=facts, speeds=speeds, kernels=kernels, starts=started, completion=completion)


def _speeds(bench: Bench, options: _BenchOptions) -> tuple[Speed, ...]:
    found = []
    with console().status("Measuring") as status:
        for speed in _tests(bench, options):
            found.append(speed)
            status.update(f"Measuring: {speed.test} {speed.loop}, attention {speed.attention}: {speed.rate} tokens/s")
    return tuple(found)


def _tests(bench: Bench, options: _BenchOptions) -> Iterator[Speed]:
    yield from bench.prompt()
    yield from bench.generation(options.variants())


def _starts(path: Path, threads: int, repetitions: int) -> Starts | None:
    from ..bench.process import starts

    with console().status("Measuring: process starts"):
        try:
            return starts(path, threads, repetitions)
        except ContextError as error:
            console().print(f"Warning: starts are not measured: {error}", markup=False)
            return None


def _facts(path: Path, bench: Bench) -> Facts:
    from ..bench.process import throttling
    from ..bench.report import Facts
    from ..llama import devices, llama_cpp_version

    model = bench.model
    takers = [device for device in devices() if device.takes_layers] if model.gpu_layers else []
    names = [device.description for device in takers or devices()]
    return Facts(
        model=path.name,
        size=model.header.file_size,
        parameters=model.header.parameters,
        backend=", ".join(names),
        threads=bench.threads,
        gpu_layers=model.gpu_layers,
        llama_cpp=llama_cpp_version(),
        throttling=throttling(),
    )


def _print(report: Report, form: str) -> None:
    from ..bench.report import as_csv, as_jsonl, markdown

    if form == "json":
        print_json(report.as_record(), indent=2)
    elif form == "table":
        _print_table(report)
    else:
        print({"md": markdown, "csv": as_csv, "jsonl": as_jsonl}[form](report))


def _print_table(report: Report) -> None:
    from ..bench.report import COLUMNS, cells

    out = output()
    out.print(report.head(), markup=False, soft_wrap=True)
    out.print()
    print_table(COLUMNS, map(cells, report.speeds), left=4)
    out.print()
    for line in report.lines():
        out.print(line, markup=False, soft_wrap=True)
