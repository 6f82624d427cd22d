"""`entropix-edge calibrate`: the thresholds fitted to a model."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import click

from ..config import DEFAULT_PRESET, EngineConfig
from ..storage import config_folder, data_folder, fingerprint, write_whole
from ..strategy import load_preset
from . import EXIT_INTERRUPTED
from .confidence import ConfidenceOptions, fit_confidence, keep
from .console import console, output, print_table
from .options import ModelOptions, takes, threads_option, verbose_option
from .session import Session, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ..config import Preset
    from ..engine import Engine
    from ..evaluation.calibration import Measured, Observation


@click.command("calibrate")
@click.argument("name", metavar="[MODEL]", required=False)
@takes(model=ModelOptions, confidence=ConfidenceOptions)
@threads_option
@click.option("--force", is_flag=True, help="Start over, even if an earlier run was interrupted.")
@verbose_option
def command(
    name: str | None, model: ModelOptions, confidence: ConfidenceOptions, threads: int | None, force: bool
) -> int:
    """Fit the thresholds of the default preset to MODEL.

    The model answers some forty prompts, and the thresholds become quantiles of the entropy and varentropy
    seen. They are kept in the user's settings, and used with this model from then on. An interrupted run
    is continued by the next.

    With --confidence, fit how likely its answers are right instead: it answers the problems of a file.
    """
    if confidence.are_given:
        return fit_confidence(confidence, model, name, threads)
    chosen = model.name_or(name)
    with Session() as session:
        path = fetch(chosen, offline=model.offline)
        return _calibrate(session, path, threads=threads, anew=force)


def _calibrate(session: Session, path: Path, *, threads: int | None, anew: bool) -> int:
    from ..evaluation.calibration import SEQUENCES, as_toml, fit
    from ..evaluation.fitting import rank_of

    mark = fingerprint(path)
    target = config_folder() / "presets" / f"{mark}.toml"
    target.parent.mkdir(parents=True, exist_ok=True)  # or fail before the work
    record_path = data_folder() / "calibration" / f"{mark}.jsonl"
    with session.engine(path, EngineConfig(threads=threads, sequences=SEQUENCES, forks=0)) as engine:
        replies = _measure(engine, record_path, mark, session.interrupt, anew=anew)
        before = engine.preset()
    if session.interrupt():
        console().print("Interrupted: the same command will continue.")
        return EXIT_INTERRUPTED
    observations = list(itertools.chain(*replies))
    fitted = fit(observations, load_preset(DEFAULT_PRESET))
    write_whole(target, [as_toml(fitted, observations, path.name).encode()])
    keep(mark, path.name, rank=rank_of([[seen.entropy for seen in reply] for reply in replies]))
    record_path.unlink(missing_ok=True)
    _report(observations, before, fitted)
    console().print(f"The preset is used with this model from now on: {target}", markup=False)
    return 0


def _measure(
    engine: Engine, record_path: Path, mark: str, interrupt: Callable[[], bool], *, anew: bool
) -> list[Measured]:
    """Ask the model, and show how it goes."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from ..evaluation.calibration import Questionnaire, measure, open_record, settings, shipped_prompts

    questionnaire = Questionnaire(shipped_prompts())
    record_path.parent.mkdir(parents=True, exist_ok=True)
    record = open_record(record_path, settings(engine, questionnaire, mark), anew=anew)
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=console(), transient=True, disable=not console().is_terminal)
    if record.records:
        console().print("Continuing an interrupted run (--force starts over).")
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
    from ..evaluation.calibration import DECILES, deciles, shares
    from ..strategy import thresholds
    from ..types import Strategy

    out = output()
    out.print(f"{len(observations)} tokens; entropy in bits, varentropy in bits²", soft_wrap=True)
    seen = deciles(observations)
    out.print()
    print_table(
        ("tokens below", *(quantity.replace("_", " ") for quantity in seen)),
        [
            (f"{percent} %", *(f"{values[index]:.2f}" for values in seen.values()))
            for index, percent in enumerate(DECILES)
        ],
    )
    was = thresholds(before)
    out.print()
    print_table(
        ("threshold", "before", "fitted"),
        [(key, f"{was[key]:.2f}", f"{value:.2f}") for key, value in thresholds(fitted).items()],
    )
    shares_before, shares_fitted = shares(observations, before), shares(observations, fitted)
    out.print()
    print_table(
        ("tokens", "before", "fitted"),
        [
            (
                f"{strategy.value} {strategy.quadrant}",
                f"{100 * shares_before[strategy]:.1f} %",
                f"{100 * shares_fitted[strategy]:.1f} %",
            )
            for strategy in Strategy
        ],
    )
