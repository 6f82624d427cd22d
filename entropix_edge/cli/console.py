"""What is written beside the model's text: messages, the log, tables, JSON. rich is imported when it draws."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.table import Table

_UNLIMITED = 2**20  # characters in a line of a table


def console(*, colour: bool | None = None) -> Console:
    """Standard error: for everything but a command's result. Coloured as it can, or as is said."""
    return _console(stderr=True, soft_wrap=True, force_terminal=colour)


def output(*, colour: bool | None = None) -> Console:
    """Standard output, for results. Where it is no terminal, nothing is cut or wrapped to a width. Colour as above."""
    return _console(force_terminal=colour)


def _console(**options: Any) -> Console:
    from rich.console import Console

    class _Console(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit with 1; `cli.run` decides

    return _Console(highlight=False, **options)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, whole: bool = False) -> None:
    """Print a table to standard output.

    Args:
        headings: of the columns.
        rows: a text a column.
        left: how many columns are aligned to the left; the others hold numbers.
        whole: keep each row on one line on a narrow terminal too: it holds what a user copies.
    """
    from rich.segment import Segment, Segments

    table = make_table(headings, rows, left=left)
    out = output()
    limit = _UNLIMITED if whole or not out.is_terminal else out.width
    lines = out.render_lines(table, out.options.update(max_width=limit), pad=False)
    for line in lines:  # without the padding at their ends, which a narrow terminal would show as empty lines
        while line and not line[-1].text.rstrip():
            line.pop()
        if line:
            line[-1] = line[-1]._replace(text=line[-1].text.rstrip())
        out.print(Segments([*line, Segment.line()]), end="", crop=False)


def make_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> Table:
    """A table for rich to draw; arguments as of `print_table`."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        name = number < left
        table.add_column(heading, justify="left" if name else "right", overflow="fold", no_wrap=name)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def print_json(value: object, *, indent: int | None = None) -> None:
    """Print JSON to standard output, in letters that its encoding has."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    utf8 = encoding.lower().replace("-", "").replace("_", "") == "utf8"
    print(json.dumps(value, indent=indent, ensure_ascii=not utf8))


def wants_colour(wanted: str = "auto") -> bool:
    """Whether standard output is to be coloured: as its user says, or where it is a terminal that shows colour.

    Args:
        wanted: always, never or auto.
    """
    if wanted != "auto":
        return wanted == "always"
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return False
    return output().color_system is not None


def plain(text: str) -> str:
    """A text that may hold a stranger's words (a model file's, a server's): its control characters are shown."""
    from ..render import visible

    return text if text.isprintable() else visible(text)


@contextlib.contextmanager
def saying(line: Callable[[], str], *, after: float) -> Iterator[None]:
    """Say a line on standard error if what is done meanwhile takes longer than so many seconds."""
    timer = threading.Timer(after, lambda: console().print(line(), markup=False))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


# --- the log ----------------------------------------------------------------------------------------


def set_up_logging(*, verbose: bool) -> None:
    """Send the library's warnings (with `verbose`, everything) to standard error."""
    logger = logging.getLogger("entropix_edge")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = _StandardError()
    handler.setFormatter(_Lines())
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logger.propagate = False


class _StandardError(logging.Handler):
    """Writes above a progress bar that is drawn there; says a warning once, however many engines give it."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.levelno >= logging.WARNING:
            if text in self._said:
                return
            self._said.add(text)
        with contextlib.suppress(OSError, ValueError):  # full or closed: nobody can be told
            print(plain(text), file=sys.stderr)


class _Lines(logging.Formatter):
    """`Warning: …`; llama.cpp's own lines as they are."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{record.levelname.title()}: {text}" if record.levelno >= logging.WARNING else text
