"""`calibrate --confidence` and `--from-recording`: when a model's answers are right, fitted and kept."""

import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import click

from ..config import EngineConfig, GenerationConfig
from ..encoding import decode_text
from ..errors import EntropixError
from ..storage import config_folder, data_folder, fingerprint, write_whole
from .console import console, output, print_table
from .session import Session, fetch

if TYPE_CHECKING:
    from ..confidence import Fit, Rank
    from .options import ModelOptions

# annotations are not deferred here: the options in them would be compiled anew at each start

_TOKENS = 250  # of a reply, as a first guess
_SIDE_BY_SIDE = 8
_STEPS = 16  # decodes that are timed


class ConfidenceOptions(NamedTuple):
    """What a confidence is fitted to."""

    tasks: Annotated[
        Path | None,
        click.option(
            "--confidence",
            "tasks",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            metavar="FILE",
            help="Fit when answers are right instead, on problems with known answers (JSONL, as for `eval`). Hours.",
        ),
    ]
    recordings: Annotated[
        tuple[Path, ...],
        click.option(
            "--from-recording",
            "recordings",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            multiple=True,
            metavar="FILE",
            help="The same from answers that `eval --record` recorded, or a summary of them. Repeatable.",
        ),
    ]
    extractor: Annotated[
        str | None,
        click.option(
            "--extractor", metavar="NAME", help="The kind of answer: last-number, choice, exact or regex:PATTERN."
        ),
    ]
    policy: Annotated[
        str | None,
        click.option(
            "--policy",
            metavar="NAME",
            help="Whose answers, as for `eval`; it holds for replies like that. Default: edge.",
        ),
    ]
    skip: Annotated[
        int,
        click.option("--skip", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out the first N."),
    ]
    limit: Annotated[
        int | None, click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Take N problems.")
    ]
    least: Annotated[
        int,
        click.option(
            "--least", type=click.IntRange(min=20), default=300, metavar="N", help="Fewest problems. Default: 300."
        ),
    ]
    out: Annotated[
        Path | None,
        click.option(
            "--out",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Where the fit is kept. Default: in the user's settings, where replies find it.",
        ),
    ]

    @property
    def are_given(self) -> bool:
        """Whether a confidence is to be fitted at all."""
        return self.tasks is not None or bool(self.recordings)


def fit_confidence(options: ConfidenceOptions, model: "ModelOptions", name: str | None, threads: int | None) -> int:
    """Fit it, keep it, and say how good it is. The exit code.

    Raises:
        click.UsageError: options that do not go together, or too few problems.
        EntropixError: the model fails, or the recordings hold too little.
    """
    if options.tasks and options.recordings:
        raise click.UsageError("--confidence and --from-recording both name answers: give one of them")
    if options.recordings:
        _fit_recordings(options.recordings, options)
        return 0
    recording, code = _recorded(options, model, model.name_or(name), threads)
    if code == 0:
        _fit_recordings([recording], options)
    return code


def _recorded(options: ConfidenceOptions, model: "ModelOptions", name: str, threads: int | None) -> tuple[Path, int]:
    """The recording of the problems' answers, made where it is not there; and how that ended."""
    from . import eval as evaluation

    assert options.tasks
    count, prompt = _problems(options)
    policy = options.policy or "edge"
    path = fetch(name, offline=model.offline)
    settings = [fingerprint(path), hashlib.sha256(options.tasks.read_bytes()).hexdigest(), policy, options.extractor]
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    recording = data_folder() / "calibration" / f"{digest}.jsonl.gz"
    recording.parent.mkdir(parents=True, exist_ok=True)
    _say_how_long(path, prompt, count, recording, threads)
    arguments = [str(options.tasks), "-m", str(path), "--policy", policy, "--baseline", policy]
    arguments += ["--record", str(recording), "--parallel", str(_SIDE_BY_SIDE), "--skip", str(options.skip)]
    given = {"--extractor": options.extractor, "--limit": options.limit, "--threads": threads}
    arguments += [part for name, value in given.items() if value is not None for part in (name, str(value))]
    with evaluation.command.make_context("eval", arguments, parent=click.get_current_context()) as context:
        code: int = evaluation.command.invoke(context)
    if code:
        console().print("The same command will continue.")
    return recording, code


def _problems(options: ConfidenceOptions) -> tuple[int, str]:
    """How many problems there are, and the first one's question.

    Raises:
        click.UsageError: too few.
    """
    from ..evaluation.tasks import read_problems

    assert options.tasks
    found = read_problems(options.tasks, extractor=options.extractor)[options.skip :][: options.limit]
    if len(found) < options.least:
        raise click.UsageError(
            f"{len(found)} problems are too few to fit a confidence to: it must be at least {options.least} (--least)"
        )
    return len(found), found[0].question


def _say_how_long(model: Path, question: str, count: int, recording: Path, threads: int | None) -> None:
    """Time some decodes, and say what all will take."""
    from ..evaluation.records import read_recording

    done = 0
    if recording.exists():
        with contextlib.suppress(EntropixError):  # said when it is opened
            done = len(read_recording(recording)[1])
    if done >= count:
        return
    config = EngineConfig(threads=threads, sequences=_SIDE_BY_SIDE, forks=0, attention="off")
    with Session() as session, session.engine(model, config) as engine:
        raw = engine.prompts.chat_template is None
        streams = [
            engine.stream(question, GenerationConfig(sampler="temperature", seed=seed), raw=raw)
            for seed in range(_SIDE_BY_SIDE)
        ]
        while not all(stream.decoded_tokens for stream in streams) and engine.step():
            pass
        start = time.perf_counter()
        for _ in range(_STEPS):
            engine.step()
        a_token = (time.perf_counter() - start) / (_STEPS * _SIDE_BY_SIDE)
        for stream in streams:
            stream.close()
    minutes = (count - done) * _TOKENS * a_token / 60
    shown = f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"
    left = f"{count - done} of {count} problems are left" if done else f"{count} problems"
    console().print(f"{left}: about {shown} on this machine. Ctrl-C stops, and the same command goes on.", markup=False)


# --- what was recorded ----------------------------------------------------------------------------------


def _fit_recordings(recordings: tuple[Path, ...] | list[Path], options: ConfidenceOptions) -> None:
    """Fit, keep, and report.

    Raises:
        ConfigError: they hold too little, or not one policy's answers.
    """
    from ..evaluation.judged import fit_recorded, judged_answers
    from ..evaluation.samples import read_samples

    samples = [sample for path in recordings for sample in read_samples(path)]
    recorded = judged_answers(samples, options.policy)
    presets = None
    with contextlib.suppress(OSError):
        presets = config_folder() / "presets"
    fit = fit_recorded(recorded, presets, answer=options.extractor, least=options.least)
    target = keep(str(recorded.source["fingerprint"]), str(recorded.source["model"]), fit=fit, target=options.out)
    _report(fit)
    console().print(f"Kept in {target}", markup=False)


def keep(
    mark: str, model: str, *, fit: "Fit | None" = None, rank: "Rank | None" = None, target: Path | None = None
) -> Path:
    """Keep what was fitted to a model's replies, beside what was fitted to them before.

    Args:
        mark: the fingerprint of the model's file.
        model: its name.
        fit: in place of an earlier one of the same kind and policy.
        rank: in place of an earlier one.
        target: the file; None for the user's own.
    """
    from ..confidence import Fits, as_toml, read_fits

    target = target or config_folder() / "confidence" / f"{mark}.toml"
    target.parent.mkdir(parents=True, exist_ok=True)
    before = Fits()
    if target.is_file():
        try:
            before = read_fits(decode_text(target.read_bytes(), str(target)))
        except EntropixError:
            console().print(f"{target} was damaged and is replaced.", markup=False)
    write_whole(target, [as_toml(Fits(rank, (fit,) if fit else ()).over(before), model).encode()])
    return target


def _report(fit: "Fit") -> None:
    out = output()
    out.print(
        f"{fit.problems} answers ({fit.answer}) by {fit.policy}, {100 * fit.right:.1f} % right. In cross-validation: "
        f"AUROC {fit.auroc:.3f}, calibration error {fit.calibration_error:.3f}.",
        markup=False,
        soft_wrap=True,
    )
    out.print()
    print_table(
        ("feature", "weight", "holds from", "to"),
        [
            (name, f"{fit.weights[name]:+.3g}" if name in fit.weights else "", f"{low:.3g}", f"{high:.3g}")
            for name, (low, high) in fit.ranges.items()
        ],
    )
