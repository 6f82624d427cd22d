"""What all commands share at the edges: logging, progress bars, standard input, Ctrl-C."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import stat
import sys
import threading
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

import click

from ..encoding import decode_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import FrameType

    from rich.console import Console
    from rich.progress import Progress, TaskID


_LONGEST_PROMPT = 32 * 2**20  # bytes


def console(*, colour: bool | None = None) -> Console:
    """Standard error: for everything but the model's text. Coloured as it can, or as is said."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True, force_terminal=colour)


def set_up_logging(*, verbose: bool) -> None:
    """Send the library's warnings (with `verbose`, everything) to standard error."""
    logger = logging.getLogger("entropix_edge")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logger.propagate = False


class _Lines(logging.Formatter):
    """`Warning: …`; llama.cpp's own lines as they are."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{record.levelname.title()}: {text}" if record.levelno >= logging.WARNING else text


def wants_colour() -> bool:
    """Whether standard output is a terminal that shows colour, and its user wants it."""
    if os.environ.get("NO_COLOR") or not (sys.stdout.isatty() or os.environ.get("FORCE_COLOR")):
        return False
    from rich.console import Console

    return Console().color_system is not None


@contextlib.contextmanager
def saying(text: str, *, after: float) -> Iterator[None]:
    """Say a line on standard error if what is done meanwhile takes longer than so many seconds."""
    timer = threading.Timer(after, lambda: console().print(text))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


# --- standard input ---------------------------------------------------------------------------------


def gather_prompt(prompt: str | None, option: str | None, files: Sequence[Path]) -> str:
    """The prompt from files, piped standard input and the command line, joined in that order.

    Raises:
        click.UsageError: there is none.
    """
    parts = [_read(path) for path in files]
    given = [text for text in (option, prompt) if text is not None]
    if "-" not in map(str, files) and _stdin_brings_text(needed=not parts and not given):
        parts.append(_read_stdin())
    text = "\n".join(part for part in (*parts, *given) if part)
    if not text.strip():
        raise click.UsageError("the prompt is empty: give it as an argument, with -p or -f, or on standard input")
    return text


def _read(path: Path) -> str:
    if str(path) == "-":
        return _read_stdin()
    with path.open("rb") as file:
        return _text_of(file, str(path))


def _read_stdin() -> str:
    return _text_of(sys.stdin.buffer, "standard input").removesuffix("\n")


def _text_of(file: BinaryIO, name: str) -> str:
    data = file.read(_LONGEST_PROMPT + 1)
    if len(data) > _LONGEST_PROMPT:
        raise click.UsageError(f"{name} holds more than {_LONGEST_PROMPT // 2**20} MiB: that is no prompt")
    return decode_text(data, name)


def _stdin_brings_text(*, needed: bool) -> bool:
    """Whether to read standard input: never a terminal; what is no pipe or file only when needed."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
        if sys.stdin.isatty():
            return False
    except (AttributeError, OSError, ValueError):
        return False
    return needed or stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


# --- progress ---------------------------------------------------------------------------------------


class DownloadBar:
    """Draws downloads on a terminal; elsewhere says one line when each begins."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID | None] = {}

    @cached_property
    def _console(self) -> Console:
        return console()

    def __call__(self, description: str, done: int, total: int | None) -> None:
        """Take note of how far a download is, in bytes."""
        if not self._console.is_terminal:
            if description not in self._tasks:
                self._tasks[description] = None
                self._console.print(description, markup=False)
            return
        if self._bar is None:
            self._bar = _progress(self._console)
            self._bar.start()
        task = self._tasks.get(description)
        if task is None:
            task = self._tasks[description] = self._bar.add_task(description, total=total)
        self._bar.update(task, completed=done, total=total)

    def __enter__(self) -> DownloadBar:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._bar:
            self._bar.stop()


def _progress(where: Console) -> Progress:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(),
        console=where,
        transient=True,
    )


# --- Ctrl-C -----------------------------------------------------------------------------------------


class Interrupt:
    """Ctrl-C, remembered. A second one ends the process.

    It raises KeyboardInterrupt as ever, but where llama.cpp works: there it is a flag to be asked for. Python
    loses an exception that falls into a destructor or a callback from C; the flag stays.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    def __call__(self) -> bool:
        """Whether it was asked for."""
        return self.requested

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            os._exit(130)
        self.requested = True
        if not self._deferred:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Remember Ctrl-C meanwhile; say nothing of one that fell where it cannot be raised."""
        before, hook = signal.signal(signal.SIGINT, self._handle), sys.unraisablehook

        def quiet(unraisable: sys.UnraisableHookArgs) -> None:
            if unraisable.exc_type is not KeyboardInterrupt:
                hook(unraisable)

        sys.unraisablehook = quiet
        try:
            yield
        finally:
            sys.unraisablehook = hook
            signal.signal(signal.SIGINT, before)

    @contextlib.contextmanager
    def deferring(self) -> Iterator[None]:
        """Take Ctrl-C as the flag alone; raise one that was lost before."""
        self._deferred = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._deferred = False
