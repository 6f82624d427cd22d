"""`entropix-edge calibrate`: the thresholds fitted to a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..config import DEFAULT_PRESET, EngineConfig
from ..storage import config_folder, data_folder, fingerprint, write_whole
from ..strategy import load_preset
from . import EXIT_INTERRUPTED
from .options import model_name, model_options, threads_option, verbose_option
from .terminal import DownloadBar, Interrupt, console, saying, set_up_logging

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.table import Table

    from ..config import Preset
    from ..engine import Engine
    from ..evaluation.calibration import Observation


@click.command("calibrate")
@click.argument("name", metavar="[MODEL]", required=False)
@model_options
@threads_option
@click.option("--force", is_flag=True, help="Begin anew, even if an earlier run was interrupted.")
@verbose_option
def command(**options: Any) -> int:
    """Fit the thresholds of the default preset to MODEL.

    The model answers some forty prompts, and the thresholds become quantiles of the entropy and varentropy
    seen. They are kept in the user's settings, and used with this model from then on. An interrupted run
    is continued by the next.
    """
    set_up_logging(verbose=options["verbose"])
    if options["name"] is not None:
        if options["hf_repo"] or _given("model"):
            raise click.UsageError(f"{options['name']!r} and an option both name a model: give one of them")
        options["model"] = options["name"]
    interrupt = Interrupt()
    with interrupt.watching():
        return _calibrate(options, interrupt)


def _given(option: str) -> bool:
    """Whether an option stands on the command line."""
    return click.get_current_context().get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE


def _calibrate(options: dict[str, Any], interrupt: Interrupt) -> int:
    from ..engine import Engine, prepare
    from ..evaluation.calibration import SEQUENCES, as_toml, fit
    from ..hub import resolve

    config = EngineConfig(threads=options["threads"], sequences=SEQUENCES, forks=0)
    with DownloadBar() as bar:
        path = resolve(model_name(options), offline=options["offline"], progress=bar)
    mark = fingerprint(path)
    target = config_folder() / "presets" / f"{mark}.toml"
    target.parent.mkdir(parents=True, exist_ok=True)  # or fail before the work
    with saying("Compiling the kernels for this machine: some seconds, once.", after=1.0):
        prepare(config)
    record_path = data_folder() / "calibration" / f"{mark}.jsonl"
    with interrupt.deferring(), Engine.open(path, config, cancelled=interrupt) as engine:
        observations = _measure(engine, record_path, mark, options, interrupt)
        before = engine.preset()
    if interrupt():
        return _interrupted()
    fitted = fit(observations, load_preset(DEFAULT_PRESET))
    write_whole(target, [as_toml(fitted, observations, path.name).encode()])
    record_path.unlink(missing_ok=True)
    _report(observations, before, fitted)
    console().print(f"The preset is used with this model from now on: {target}", markup=False)
    return 0


def _interrupted() -> int:
    console().print("Interrupted: the same command will continue.")
    return EXIT_INTERRUPTED


def _measure(
    engine: Engine, record_path: Path, mark: str, options: dict[str, Any], interrupt: Interrupt
) -> list[Observation]:
    """Ask the model, and show how it goes."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from ..evaluation.calibration import Questionnaire, measure, open_record, settings, shipped_prompts

    questionnaire = Questionnaire(shipped_prompts())
    record_path.parent.mkdir(parents=True, exist_ok=True)
    record = open_record(record_path, settings(engine, questionnaire, mark), anew=options["force"])
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=console(), transient=True, disable=not console().is_terminal)
    if record.records:
        console().print("Continuing an interrupted run (--force begins anew).")
    try:
        with bar:
            task = bar.add_task("measuring", total=questionnaire.most_tokens)
            return measure(
                engine,
                questionnaire,
                record,
                progress=lambda tokens: bar.update(task, completed=tokens),
                cancelled=interrupt,
            )
    finally:
        record.close()


def _report(observations: Sequence[Observation], before: Preset, fitted: Preset) -> None:
    from rich.console import Console

    out = Console(highlight=False)
    out.print(f"{len(observations)} tokens; entropy in bits, varentropy in bits²")
    for table in _tables(observations, before, fitted):
        out.print()
        out.print(table)


def _tables(observations: Sequence[Observation], before: Preset, fitted: Preset) -> list[Table]:
    from ..evaluation.calibration import DECILES, deciles, shares, thresholds
    from ..types import Strategy

    seen = deciles(observations)
    quantiles = _table("tokens below", *(quantity.replace("_", " ") for quantity in seen))
    for index, percent in enumerate(DECILES):
        quantiles.add_row(f"{percent} %", *(f"{values[index]:.2f}" for values in seen.values()))

    borders = _table("threshold", "before", "fitted")
    was = thresholds(before)
    for key, value in thresholds(fitted).items():
        borders.add_row(key, f"{was[key]:.2f}", f"{value:.2f}")

    quadrants = _table("tokens", "before", "fitted")
    shares_before, shares_fitted = shares(observations, before), shares(observations, fitted)
    for strategy in Strategy:
        name = f"{strategy.value} {strategy.quadrant}"
        quadrants.add_row(name, f"{100 * shares_before[strategy]:.1f} %", f"{100 * shares_fitted[strategy]:.1f} %")
    return [quantiles, borders, quadrants]


def _table(first: str, *others: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
