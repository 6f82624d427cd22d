"""The one way a command comes to a model: its file, the kernels, the engine, and Ctrl-C on the way."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Self

from .console import saying
from .defaults import say_sources
from .downloads import DownloadBar
from .interrupt import Interrupt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..config import EngineConfig
    from ..engine import Engine


def fetch(name: str, *, offline: bool = False) -> Path:
    """The file of the model called `name`; a download is shown.

    Raises:
        ModelError: it cannot be found or fetched.
    """
    from ..hub import resolve

    with DownloadBar() as bar:
        return resolve(name, offline=offline, progress=bar)


def compiling() -> str:
    """What is said while the kernels are compiled."""
    from ..native import can_keep

    how_often = "once" if can_keep() else "at every start: no folder can be written that would keep them"
    return f"Compiling the kernels for this machine: some seconds, {how_often}."


class Session:
    """Opens a model for one command. A context manager: Ctrl-C is remembered meanwhile.

    Attributes:
        interrupt: whether Ctrl-C was pressed; given to whatever works for long.
    """

    def __init__(self) -> None:
        self.interrupt = Interrupt()
        self._stack = contextlib.ExitStack()

    @contextlib.contextmanager
    def computing(self, config: EngineConfig) -> Iterator[None]:
        """The kernels are there, and Ctrl-C is a flag, since llama.cpp may be at work.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed before.
        """
        from ..engine import prepare

        with saying(compiling, after=1.0):
            prepare(config)
        with self.interrupt.deferring():
            yield

    @contextlib.contextmanager
    def engine(self, model: Path, config: EngineConfig) -> Iterator[Engine]:
        """An open engine on a file that `fetch` found.

        Raises:
            EntropixError: it cannot be opened.
            KeyboardInterrupt: Ctrl-C was pressed before it was open.
        """
        from ..engine import Engine

        with self.computing(config), Engine.open(model, config, cancelled=self.interrupt) as engine:
            yield engine

    def __enter__(self) -> Self:
        say_sources()
        self._stack.enter_context(self.interrupt.watching())
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()
