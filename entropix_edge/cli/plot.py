"""`entropix-edge plot`: traces, calibrations and evaluations as pictures."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, get_args

import click

from ..errors import ConfigError
from .console import output, wants_colour
from .options import takes, verbose_option
from .plot_sources import source_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .plot_sources import Source

Form = Literal["terminal", "html", "svg", "png", "pdf"]
_PICTURES = ("svg", "png", "pdf")


class _PlotOptions(NamedTuple):
    """What is drawn, and where to."""

    files: Annotated[tuple[str, ...], click.argument("files", nargs=-1, required=True)]
    out: Annotated[
        Path | None,
        click.option(
            "--out",
            type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
            metavar="FILE",
            help="File to write; - for standard output.",
        ),
    ]
    form: Annotated[
        Form | None,
        click.option(
            "--format",
            "form",
            type=click.Choice(get_args(Form)),
            help="html: the text with every token's numbers, to be opened in a browser; svg, png, pdf: pictures. "
            "Default: by the name of --out; without --out, terminal.",
        ),
    ]
    chart: Annotated[
        str | None,
        click.option(
            "--chart",
            metavar="NAME",
            help="Which picture, where a file has several: timeline, plane or tree of a trace; accuracy of results; "
            "reliability or risk of recordings; quantiles of a calibration. Default: all that it has.",
        ),
    ]
    color: Annotated[
        Literal["auto", "always", "never"],
        click.option(
            "--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colour in the terminal."
        ),
    ]


@click.command("plot")
@takes(options=_PlotOptions)
@verbose_option
def command(options: _PlotOptions) -> None:
    """Draw FILES.

    A trace (of generate --trace, or exported from the page of serve) is drawn as its timeline in the terminal, as a
    page of its own, or as a picture: timeline, plane of entropy and varentropy, tree of branches. Several traces share
    one plane. Results of eval are drawn as accuracy against cost, recordings of eval --record as reliability and as
    risk against coverage, presets that calibrate fitted as quantiles. - reads standard input.
    """
    form = _form(options)
    sources = _sources(options.files)
    if form == "terminal":
        _in_terminal(sources, options)
    elif form == "html":
        _write(options, _page(sources).encode())
    else:
        _write(options, _picture(sources, form, options.chart))


def _form(options: _PlotOptions) -> Form:
    """What to write; said before anything is read."""
    for name in options.files:
        if options.out is not None and name != "-" and _same(options.out, Path(name)):
            raise click.UsageError(f"--out {options.out} is what is to be drawn: give another file")
    if options.chart and options.form in ("terminal", "html"):
        raise click.UsageError(f"--chart and --format {options.form} do not go together: charts are svg, png or pdf")
    if options.out is None:
        if options.form not in (None, "terminal"):
            raise click.UsageError(f"--format {options.form} needs --out: a file, or - for standard output")
        return "terminal"
    if options.form is not None:
        if options.form == "terminal":
            raise click.UsageError("--format terminal and --out do not go together: it is drawn in the terminal")
        return options.form
    suffix = options.out.suffix.removeprefix(".").lower()
    if suffix not in ("html", *_PICTURES):
        raise click.UsageError(f"--out {options.out} does not say what to draw: give --format html, svg, png or pdf")
    return suffix  # type: ignore[return-value]


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _sources(files: Sequence[str]) -> list[Source]:
    if files.count("-") > 1:
        raise click.UsageError("- is given twice: standard input is read once")
    return [_source(name) for name in files]


def _source(name: str) -> Source:
    with _on_disk(name) as (path, shown):
        if not path.exists():
            raise click.UsageError(f"{shown} does not exist: give a file, or - for standard input")
        if path.is_dir():
            raise click.UsageError(f"{shown} is a folder: give a file")
        try:
            return source_of(path, shown)
        except ConfigError as error:  # where it was held meanwhile is nobody's matter
            raise ConfigError(str(error).replace(str(path), shown)) from error


@contextlib.contextmanager
def _on_disk(name: str) -> Iterator[tuple[Path, str]]:
    """A file, or standard input as one."""
    if name != "-":
        yield Path(name), name
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError("- reads standard input, which is a terminal: pipe a file into it")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "standard input")
        path.write_bytes(sys.stdin.buffer.read())
        yield path, "standard input"


def _in_terminal(sources: Sequence[Source], options: _PlotOptions) -> None:
    from ..render.timeline import draw

    width = output().width if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "100"))
    for source in sources:
        if source.trace is None:
            raise click.UsageError(f"{source.name} is {source.kind}: in the terminal traces are drawn; give --out")
        out = output()
        text = draw(source.trace, width)
        if wants_colour(options.color):
            out.print(text, soft_wrap=True)
        else:
            click.echo(text.plain)


def _page(sources: Sequence[Source]) -> str:
    from ..render.page import trace_page

    for source in sources:
        if source.trace is None:
            raise click.UsageError(f"{source.name} is {source.kind}: it can be drawn as svg, png or pdf")
    return trace_page([(source.name, source.trace) for source in sources if source.trace])


def _picture(sources: Sequence[Source], form: Form, chart: str | None) -> bytes:
    try:
        from ..render.plots import picture
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        message = f"--format {form} needs matplotlib, which is not installed: pip install 'entropix-edge[plot]'"
        raise click.ClickException(message) from error
    kinds = {source.kind for source in sources}
    if len(kinds) > 1:
        raise click.UsageError(f"{' and '.join(sorted(kinds))} do not fit into one picture: draw them apart")
    return picture([(source.name, source.content) for source in sources], form, chart)


def _write(options: _PlotOptions, content: bytes) -> None:
    if str(options.out) == "-":
        sys.stdout.buffer.write(content)
    elif options.out is not None:
        from ..storage import write_whole

        write_whole(options.out, [content])
