"""`entropix-edge eval`: policies side by side on the same problems."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

import click

from ..config import DEFAULT_CANDIDATES, MOST_CANDIDATES
from ..engine_config import AttentionChoice, EngineConfig
from . import EXIT_INTERRUPTED
from .console import console, output, print_json, print_table
from .engine_options import EngineOptions
from .options import ModelOptions, attention_option, takes, verbose_option
from .profiles import profile_option
from .session import Session, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..engine import Engine
    from ..evaluation.policies import Policy
    from ..evaluation.records import Record
    from ..evaluation.results import Result
    from ..evaluation.run import Question
    from ..evaluation.tasks import Problem
    from ..storage import Log

Answered = TypeVar("Answered")  # a result or a record

_PROMPT_CELLS = 512  # tokens of context for the prompt of each problem in flight


class _EvalOptions(NamedTuple):
    """What is asked of whom, and what is told of it."""

    tasks: Annotated[Path | None, click.argument("tasks", type=click.Path(path_type=Path), required=False)]
    policies: Annotated[
        tuple[str, ...],
        click.option(
            "--policy",
            "policies",
            multiple=True,
            metavar="NAME",
            help="greedy, temperature[:T], article, edge, a preset's file, self-consistency:K or deliberate[:N]; "
            "with +check at its end numbers after `=` are checked. Repeatable. "
            "Default: greedy, temperature, temperature:1.0, article, edge.",
        ),
    ]
    deliberate: Annotated[
        int | None,
        click.option(
            "--deliberate",
            type=click.IntRange(2, MOST_CANDIDATES),
            is_flag=False,
            flag_value=DEFAULT_CANDIDATES,
            metavar="[N]",
            help=f"Also edge with up to N candidates a problem. Without N: {DEFAULT_CANDIDATES}.",
        ),
    ]
    extractor: Annotated[
        str | None,
        click.option("--extractor", metavar="NAME", help="last-number, choice, exact, regex:PATTERN or code."),
    ]
    template: Annotated[
        str,
        click.option("--template", default="{question}", metavar="TEXT", help="What is asked. Default: {question}."),
    ]
    skip: Annotated[
        int,
        click.option(
            "--skip", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out the first N problems."
        ),
    ]
    limit: Annotated[
        int | None, click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Take N problems.")
    ]
    seeds: Annotated[
        int, click.option("--seeds", type=click.IntRange(1, 1000), default=1, help="Runs of each problem. Default: 1.")
    ]
    n_predict: Annotated[
        int,
        click.option("-n", "--n-predict", type=click.IntRange(min=1), default=512, help="Most tokens. Default: 512."),
    ]
    parallel: Annotated[
        int,
        click.option(
            "-np",
            "--parallel",
            type=click.IntRange(1, 128),
            default=16,
            metavar="N",
            help="Problems in flight. Default: 16.",
        ),
    ]
    allow_code: Annotated[
        bool, click.option("--allow-code", is_flag=True, help="Run code that the model writes, in a limited process.")
    ]
    out: Annotated[
        Path | None,
        click.option(
            "--out",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Results, one JSON line a problem; a second run goes on there. Default: in the user's data folder.",
        ),
    ]
    record: Annotated[
        Path | None,
        click.option(
            "--record",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE.jsonl.gz",
            help="Results with every candidate and what was measured at its tokens, for `replay`; a second run goes on "
            "there. While there is a file named `pause` beside it, the run waits.",
        ),
    ]
    reuse: Annotated[
        Path | None,
        click.option(
            "--reuse",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE.jsonl.gz",
            help="With --record and policies such as greedy+check: a recording of `greedy`, whose replies are taken "
            "where the check would correct nothing.",
        ),
    ]
    baseline: Annotated[
        str, click.option("--baseline", default="greedy", metavar="NAME", help="What gains are over. Default: greedy.")
    ]
    keep_text: Annotated[bool, click.option("--keep-text", is_flag=True, help="Keep the replies in the results.")]
    form: Annotated[
        Literal["table", "md", "json"],
        click.option(
            "--format",
            "form",
            type=click.Choice(["table", "md", "json"]),
            default="table",
            help="How the report is printed. Default: table.",
        ),
    ]


@click.command("eval")
@takes(options=_EvalOptions, model=ModelOptions, engine=EngineOptions)
@profile_option
@attention_option(None, "last if a policy reads it, else off")
@verbose_option
def command(
    options: _EvalOptions, model: ModelOptions, engine: EngineOptions, attention: AttentionChoice | None
) -> int:
    """Measure policies on the problems of TASKS.

    TASKS is a JSONL file with `question` and `answer`, or GSM8K's or HumanEval's own; without it, a small
    set that ships with the program. The report goes to standard output.
    """
    from ..evaluation.policies import DEFAULT_POLICIES, forks, policy, reads_attention
    from ..evaluation.reuse import can_reuse

    if options.record and options.out:
        raise click.UsageError("--record keeps the results too: leave out --out")
    names = list(options.policies or DEFAULT_POLICIES)
    if options.deliberate:
        names.append(f"deliberate:{options.deliberate}")
    policies = [policy(name) for name in dict.fromkeys(names)]
    if options.reuse and not (options.record and all(map(can_reuse, policies))):
        raise click.UsageError(
            "--reuse is for --record with greedy, temperature or self-consistency:K, each with +check, and no other"
        )
    policy(options.baseline)  # or say that it is none
    problems = _problems(options)
    if attention is None:
        attention = "last" if any(map(reads_attention, policies)) else "off"
    config = _side_by_side(engine.config(attention), options)
    if options.record:
        parts = config.forks if any(map(forks, policies)) else 0
        config = dataclasses.replace(config, same_shapes=True, forks=parts)
    with Session() as session:
        path = fetch(model.name, offline=model.offline)
        return _evaluate(session, path, config, policies, problems, options)


def _problems(options: _EvalOptions) -> list[Problem]:
    from ..evaluation.code import network_is_cut
    from ..evaluation.tasks import SHIPPED, read_problems

    found = read_problems(options.tasks or SHIPPED, extractor=options.extractor, template=options.template)
    end = None if options.limit is None else options.skip + options.limit
    problems = found[options.skip : end]
    if not problems:
        raise click.UsageError(f"--skip {options.skip} leaves none of {len(found)} problems: skip fewer")
    if any(problem.extractor == "code" for problem in problems):
        if not options.allow_code:
            raise click.UsageError("these problems run code that the model writes: give --allow-code to allow that")
        if not network_is_cut():
            console().print("Warning: this system cannot cut the model's code off from the network.")
    return problems


def _side_by_side(config: EngineConfig, options: _EvalOptions) -> EngineConfig:
    """The same with room for all problems in flight."""
    parallel = options.parallel
    pooled = config.ctx_size is not None
    parts = parallel if pooled else 2 * parallel
    return dataclasses.replace(
        config,
        ctx_size=config.ctx_size or parts * (options.n_predict + _PROMPT_CELLS),
        sequences=parallel,
        forks=parallel,
        pooled=pooled,
    )


def _evaluate(
    session: Session,
    path: Path,
    config: EngineConfig,
    policies: Sequence[Policy],
    problems: Sequence[Problem],
    options: _EvalOptions,
) -> int:
    from ..evaluation.records import open_recording
    from ..evaluation.results import open_results
    from ..evaluation.run import Run, questions

    asked = questions(policies, problems, options.seeds)
    with session.engine(path, config) as engine:
        settings = _settings(engine, config, options)
        run = Run(engine, n_predict=options.n_predict, keep_text=options.keep_text)
        if options.record:
            out, stopped = options.record, _pausing(options.record, session.interrupt)
            settings |= _circumstances(engine, config, options)
            if not any(policy.sampler == "entropix" or policy.check for policy in policies):
                del settings["edge"]
            with open_recording(out, settings) as recording:
                if options.reuse:
                    _take_over(options.reuse, settings, asked, recording, engine)
                _answer(asked, recording, lambda missing: run.record(missing, stopped), lambda record: record.result)
            results = [record.result for record in recording.records]
        else:
            out = options.out or _default_out(settings)
            with open_results(out, settings) as log:
                _answer(asked, log, lambda missing: run.answer(missing, session.interrupt), lambda result: result)
            results = log.records
    known = {problem.id for problem in problems}
    _report([result for result in results if result.problem in known], settings, options)
    console().print(f"Results: {out}", markup=False)
    return EXIT_INTERRUPTED if session.interrupt() else 0


def _take_over(
    path: Path, settings: dict[str, Any], asked: Sequence[Question], recording: Log[Record], engine: Engine
) -> None:
    """Record the replies of another recording that the check would leave alone."""
    from ..evaluation.reuse import left_alone

    done = {record.key for record in recording.records}
    missing = [question for question in asked if question.key not in done]
    for record in left_alone(path, settings, missing, engine):
        recording.add(record)


def _pausing(record: Path, interrupt: Callable[[], bool]) -> Callable[[], bool]:
    """Whether to stop, asked between decodes; it waits while there is a file named `pause` beside the recording."""
    pause = record.with_name("pause")

    def stopped() -> bool:
        while pause.exists() and not interrupt():
            time.sleep(0.2)
        return interrupt()

    return stopped


def _settings(engine: Engine, config: EngineConfig, options: _EvalOptions) -> dict[str, Any]:
    """What a result depends on, and the policy does not say."""
    edge = json.dumps(dataclasses.asdict(engine.preset("edge")), sort_keys=True)
    return {
        "model": engine.model.path.name,
        "edge": hashlib.sha256(edge.encode()).hexdigest()[:12],
        "attention": config.attention,
        "n_predict": options.n_predict,
        "template": options.template,
        "extractor": options.extractor,
    }


def _circumstances(engine: Engine, config: EngineConfig, options: _EvalOptions) -> dict[str, Any]:
    """What the last digits of a recording depend on."""
    from ..llama import llama_cpp_version
    from ..llama.machine import processor_name
    from ..storage import fingerprint

    devices = [device.description for device in engine.model.devices]
    return ({"devices": devices} if devices else {}) | {
        "tasks": options.tasks.name if options.tasks else None,
        "fingerprint": fingerprint(engine.model.path),
        "build": f"llama-cpp-python {llama_cpp_version()}",
        "processor": processor_name(),
        "rows": config.sequences,
        "pooled": config.pooled,
        "same_shapes": config.same_shapes,
    }


def _default_out(settings: dict[str, Any]) -> Path:
    from ..storage import data_folder

    digest: str = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    folder = data_folder() / "evaluations"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{digest}.jsonl"


def _answer(
    asked: Sequence[Question],
    log: Log[Answered],
    answers: Callable[[list[Question]], Iterator[Answered]],
    result_of: Callable[[Answered], Result],
) -> None:
    """Answer what the file has nothing for, and show how it goes."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    found = [result_of(answered) for answered in log.records]
    done = {result.key for result in found}
    missing = [question for question in asked if question.key not in done]
    totals: dict[str, int] = {}
    for question in asked:
        totals[question.policy.name] = totals.get(question.policy.name, 0) + 1
    right = dict.fromkeys(totals, 0)
    ended = dict.fromkeys(totals, 0)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[accuracy]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(), disable=not console().is_terminal) as progress:
        tasks = {name: progress.add_task(name, total=total, accuracy="") for name, total in totals.items()}

        def count(result: Result) -> None:
            name = result.policy
            ended[name] += 1
            right[name] += result.right
            accuracy = f"{100 * right[name] / ended[name]:.1f} %"
            progress.update(tasks[name], completed=ended[name], accuracy=accuracy)

        wanted = {question.key for question in asked}
        for result in found:
            if result.key in wanted:
                count(result)
        for answered in answers(missing):
            log.add(answered)
            count(result_of(answered))


def _report(results: Sequence[Result], settings: dict[str, Any], options: _EvalOptions) -> None:
    from ..evaluation.summary import columns, markdown, summarise

    if not results:
        return
    form, baseline = options.form, options.baseline
    rows = summarise(results, baseline)
    if form == "json":
        record = {"settings": settings, "baseline": baseline, "rows": [row.as_record() for row in rows]}
        print_json(record, indent=2)
    elif form == "md":
        print(markdown(rows, baseline))
    else:
        print_table(columns(baseline), [row.cells() for row in rows])
        output().print(
            "In brackets: 95 % intervals. Written and decoded: tokens an answer.", style="dim", soft_wrap=True
        )
