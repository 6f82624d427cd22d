"""`entropix-edge plot`: a trace in the terminal, as a picture or as a page; what an evaluation found."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import click

from ..errors import ConfigError
from ..storage import write_whole
from .console import output, plain, wants_colour
from .options import takes, verbose_option

if TYPE_CHECKING:
    from ..render import Trace
    from ..render.canvas import Figure, Format

# annotations are not deferred here: the options in them would be compiled anew at each start

_FORMATS = ("svg", "png", "pdf", "html")
_CHARTS = {
    "trace": ("timeline", "plane", "tree"),
    "evaluation": ("accuracy", "gains", "reliability", "coverage", "escalation"),
    "calibration": ("quantiles",),
}
_OF_ONE = ("timeline", "tree", "quantiles")
_STANDARD = Path("-")  # input, or output
_GZIP = b"\x1f\x8b"
_LOG = b'{"settings": {'


class _Source(NamedTuple):
    """A file, and what messages call it."""

    path: Path
    name: str


class PlotOptions(NamedTuple):
    """What is drawn, and where to."""

    files: Annotated[
        tuple[Path, ...],
        click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True)),
    ]
    chart: Annotated[
        str | None,
        click.option(
            "--chart",
            type=click.Choice([chart for charts in _CHARTS.values() for chart in charts]),
            help="Of traces: timeline (of one), plane (of entropy and varentropy) or tree (of branches, of one). Of "
            "evaluations: accuracy (against decoded tokens), gains (over one policy), reliability, coverage or "
            "escalation. Of a calibration: quantiles. "
            "Default: timeline, plane for several traces, accuracy, quantiles.",
        ),
    ]
    out: Annotated[
        Path | None,
        click.option(
            "--out",
            type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
            metavar="FILE",
            help="Where to; - for standard output. Without it a trace's timeline is drawn in the terminal.",
        ),
    ]
    form: Annotated[
        str | None,
        click.option(
            "--format",
            "form",
            type=click.Choice(_FORMATS),
            help="Of the file; html is a page to look around in, of traces. Default: as the file's name ends.",
        ),
    ]
    color: Annotated[
        Literal["auto", "always", "never"],
        click.option(
            "--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colour in the terminal."
        ),
    ]
    policy: Annotated[
        str | None,
        click.option(
            "--policy", metavar="NAME", help="For reliability, coverage and escalation: whose answers, of several."
        ),
    ]
    extractor: Annotated[
        str | None,
        click.option(
            "--extractor",
            metavar="NAME",
            help="For reliability and coverage: the kind of the answers, where the recording does not say.",
        ),
    ]
    escalate: Annotated[
        Path | None,
        click.option(
            "--escalate",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            metavar="FILE",
            help="For escalation: the larger model's recording on the same problems.",
        ),
    ]
    against: Annotated[
        str,
        click.option(
            "--against",
            default="greedy",
            metavar="POLICY",
            help="For gains: the policy that they are over. Default: greedy.",
        ),
    ]
    by: Annotated[
        str,
        click.option(
            "--by",
            default="summed_entropy",
            metavar="FEATURE",
            help="For escalation: which replies are least sure. Default: summed_entropy.",
        ),
    ]


@click.command("plot")
@takes(options=PlotOptions)
@verbose_option
def command(options: PlotOptions) -> None:
    """Draw a trace, an evaluation or a calibration.

    FILES are traces of `generate --trace` (- reads one from standard input); or results of `eval`, its recordings, or
    summaries of these; or a file that `calibrate` wrote, finished or not. A trace alone is drawn in the terminal. With
    --out all are drawn as pictures, by matplotlib, and traces as an HTML page too, which shows what `serve` shows of a
    reply.
    """
    form = _form(options)
    with _sources(options.files) as sources:
        what = _what(sources[0].path)
        chart = _chart(options, what)
        if what == "trace":
            data = _of_traces(sources, chart, form, options.color)
        elif form is None or form == "html":
            raise click.UsageError(f"{sources[0].name} is no trace: it is drawn as a picture, --out FILE.svg")
        else:
            data = _picture(lambda: _figure_of_files([source.path for source in sources], chart, options), form)
    if options.out == _STANDARD:
        sys.stdout.buffer.write(data)
    elif options.out:
        write_whole(options.out, [data], durable=False)


# --- what is asked for --------------------------------------------------------------------------------


def _form(options: PlotOptions) -> "Format | Literal['html'] | None":
    """The format of the picture; None where it is drawn in the terminal."""
    for path in options.files:
        if options.out and path != _STANDARD and _same(options.out, path):
            raise click.UsageError(f"--out {plain(str(options.out))} is what is to be drawn: give another file")
    if options.out is None:
        if options.form:
            raise click.UsageError(f"--format {options.form} is of a file: name one with --out, - for standard output")
        return None
    ending = options.out.suffix.removeprefix(".").lower()
    form = options.form or ending
    if form not in _FORMATS:
        shown, endings = plain(str(options.out)), ", .".join(_FORMATS)
        raise click.UsageError(f"--out {shown} names no format: end it in .{endings}, or give --format")
    return form  # type: ignore[return-value]


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


@contextlib.contextmanager
def _sources(files: Sequence[Path]) -> "Iterator[list[_Source]]":
    """The files, of which one may be standard input; errors within call it that."""
    if files.count(_STANDARD) > 1:
        raise click.UsageError("- is given twice: standard input is read once")
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder, "input")
        if _STANDARD in files:
            if sys.stdin is None or sys.stdin.isatty():
                raise click.UsageError("- reads standard input, which is a terminal: pipe a file into it")
            data = sys.stdin.buffer.read()
            held = held.with_suffix(".gz" if data.startswith(_GZIP) else "")
            held.write_bytes(data)
        try:
            yield [
                _Source(held, "standard input") if path == _STANDARD else _Source(path, plain(path.name))
                for path in files
            ]
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(held), "standard input")) from error


def _what(path: Path) -> str:
    """What a file holds, by its beginning."""
    with path.open("rb") as file:
        begin = file.read(len(_LOG))
    if begin == _LOG or begin.startswith(_GZIP):
        from ..evaluation.calibration import is_record

        return "calibration" if is_record(path) else "evaluation"
    toml = path.suffix == ".toml" or (path.suffix == "" and begin.lstrip()[:1] in (b"#", b"["))
    return "calibration" if toml else "trace"


def _chart(options: PlotOptions, what: str) -> str:
    """Which plot is meant."""
    charts = _CHARTS[what]
    if options.chart is None:
        return "plane" if what == "trace" and len(options.files) > 1 else charts[0]
    if options.chart not in charts:
        raise click.UsageError(f"--chart {options.chart} is not of this {what}: it must be {', '.join(charts)}")
    if options.chart in _OF_ONE and len(options.files) > 1:
        raise click.UsageError(f"--chart {options.chart} draws one file, not {len(options.files)}")
    return options.chart


# --- drawing ------------------------------------------------------------------------------------------


def _of_traces(sources: Sequence[_Source], chart: str, form: "Format | Literal['html'] | None", colour: str) -> bytes:
    """Traces as a file; none where they were drawn in the terminal."""
    from ..render import parse_trace

    traces = [(source.name, parse_trace(source.path.read_bytes(), str(source.path))) for source in sources]
    if form is None:
        _show(traces, colour)
        return b""
    if form == "html":
        from ..render.page import trace_page

        return trace_page(traces).encode()
    return _picture(lambda: _figure_of_traces(traces, chart), form)


def _show(traces: "Sequence[tuple[str, Trace]]", colour: str) -> None:
    """Draw timelines in the terminal."""
    from ..render.strip import timeline

    out = output(colour=True if colour == "always" else None)
    for name, trace in traces:
        if len(traces) > 1:
            click.echo(name)
        text = timeline(trace, name, out.width, plain=out.options.ascii_only)
        if wants_colour(colour):
            out.print(text, soft_wrap=True)
        else:
            click.echo(text.plain)


def _picture(draw: "Callable[[], Figure]", form: "Format") -> bytes:
    from ..render.canvas import drawing, encoded

    with drawing():
        return encoded(draw(), form)


def _figure_of_traces(traces: "Sequence[tuple[str, Trace]]", chart: str) -> "Figure":
    from ..render import figures

    if chart == "plane":
        return figures.plane(traces)
    name, trace = traces[0]
    return figures.tree(trace, name) if chart == "tree" else figures.timeline(trace, name)


def _figure_of_files(paths: Sequence[Path], chart: str, options: PlotOptions) -> "Figure":
    from ..evaluation import plots

    match chart:
        case "accuracy":
            return plots.accuracy(paths)
        case "gains":
            return plots.gains(paths, options.against)
        case "escalation":
            if options.escalate is None:
                raise click.UsageError("--chart escalation needs the larger model's recording: --escalate FILE")
            return plots.escalation(paths, options.escalate, options.policy, options.by)
        case "quantiles":
            return plots.quantiles(paths[0])
        case _:
            draw = plots.reliability if chart == "reliability" else plots.coverage
            return draw(paths, options.policy, options.extractor)
