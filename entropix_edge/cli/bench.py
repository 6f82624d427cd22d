"""`entropix-edge bench`: how fast a model runs here, and what the loop costs beside raw llama.cpp."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ..config import EngineConfig
from ..errors import ContextError
from .options import batch_option, gpu_option, model_name, model_options, threads_option, verbose_option
from .terminal import DownloadBar, Interrupt, console, saying, set_up_logging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..bench.report import Report
    from ..bench.speed import Bench, Speed, Variant

_WIDTH = 120  # characters, where there is no terminal


@click.command("bench")
@click.option("-p", "--n-prompt", type=click.IntRange(min=2), default=512, help="Prompt tokens. Default: 512.")
@click.option("-n", "--n-gen", type=click.IntRange(min=1), default=64, help="Generated tokens. Default: 64.")
@click.option(
    "-d", "--n-depth", type=click.IntRange(min=1), default=64, help="Tokens in the cache before them. Default: 64."
)
@click.option("-r", "--repetitions", type=click.IntRange(min=1), default=5, help="Of each test. Default: 5.")
@click.option(
    "--loop",
    "loops",
    type=click.Choice(["greedy", "article", "edge"]),
    multiple=True,
    help="The loops to measure. Repeatable. Default: all.",
)
@click.option(
    "--attention",
    "attentions",
    type=click.Choice(["off", "last", "all"]),
    multiple=True,
    help="The attention to measure with. Repeatable. Default: all.",
)
@click.option("--no-start", is_flag=True, help="Leave out starting processes, which takes some seconds.")
@click.option("--compare", is_flag=True, help="Also against llama_cpp.Llama.create_completion.")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "md", "csv", "json", "jsonl"]),
    default="table",
    help="How the result is printed. Default: table.",
)
@threads_option
@batch_option
@gpu_option
@model_options
@verbose_option
def command(**options: Any) -> int:
    """Measure tokens a second, and the whole loop as a share of raw llama.cpp.

    The loop and raw (`llama_decode` and an argmax) take turns, a token each, in one process: what else the
    machine does falls on both. The result goes to standard output.
    """
    set_up_logging(verbose=options["verbose"])
    interrupt = Interrupt()
    with interrupt.watching():
        report = _measure(options, interrupt)
    _print(report, options["form"])
    return 0


def _measure(options: dict[str, Any], interrupt: Interrupt) -> Report:
    from ..bench.process import starts
    from ..bench.report import Report
    from ..bench.speed import Bench
    from ..engine import prepare
    from ..hub import resolve

    with DownloadBar() as bar:
        path = resolve(model_name(options), offline=options["offline"], progress=bar)
    config = EngineConfig(
        batch_size=options["batch_size"], threads=options["threads"], gpu_layers=options["n_gpu_layers"]
    )
    with saying("Compiling the kernels for this machine: some seconds, once.", after=1.0):
        prepare(config)
    with (
        interrupt.deferring(),
        Bench(
            path,
            config,
            n_prompt=options["n_prompt"],
            n_gen=options["n_gen"],
            depth=options["n_depth"],
            repetitions=options["repetitions"],
            cancelled=interrupt,
        ) as bench,
        console().status("Measuring") as status,
    ):
        speeds = []
        for speed in _speeds(bench, _variants(options)):
            speeds.append(speed)
            status.update(f"Measuring: {speed.test} {speed.loop}, attention {speed.attention}: {speed.rate} tokens/s")
        kernels = bench.kernels()
        completion = None
        if options["compare"]:
            completion = {
                f"flash attention {'on' if flash else 'off'}": bench.completion(flash) for flash in (True, False)
            }
        facts = _facts(path, bench)
    started = None
    if not options["no_start"]:
        with console().status("Measuring: process starts"):
            try:
                started = starts(path, facts.threads, options["repetitions"])
            except ContextError as error:
                console().print(f"Warning: starts are not measured: {error}", markup=False)
    return Report(facts=facts, speeds=tuple(speeds), kernels=kernels, starts=started, completion=completion)


def _variants(options: dict[str, Any]) -> list[Variant]:
    from ..bench.speed import LOOPS, Variant

    settings = [("off", True), ("off", False), ("last", False), ("all", False)]
    return [
        Variant(loop, attention, flash)  # type: ignore[arg-type]
        for attention, flash in settings
        if attention in (options["attentions"] or ("off", "last", "all"))
        for loop in options["loops"] or LOOPS
    ]


def _speeds(bench: Bench, variants: list[Variant]) -> Iterator[Speed]:
    yield from bench.prompt()
    yield from bench.generation(variants)


def _facts(path: Path, bench: Bench) -> Any:
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
        click.echo(json.dumps(report.as_record(), indent=2))
    elif form == "table":
        _print_table(report)
    else:
        click.echo({"md": markdown, "csv": as_csv, "jsonl": as_jsonl}[form](report))


def _print_table(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..bench.report import COLUMNS, cells

    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if number < 4 else "right")
    for speed in report.speeds:
        table.add_row(*cells(speed))
    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = _WIDTH
    out.print(report.head(), markup=False)
    out.print()
    out.print(table)
    out.print()
    for line in report.lines():
        out.print(line, markup=False)
