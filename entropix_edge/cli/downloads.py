"""How a download is shown."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from .console import console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


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
