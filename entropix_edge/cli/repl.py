"""The conversation in a terminal: lines are read, and done, until the user leaves."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Protocol

import click

from ..errors import EntropixError
from . import EXIT_INTERRUPTED
from .console import console, wants_colour
from .hints import explain
from .shell import Ask, Choose, Leave, Reopen, Shell, is_open, say
from .slash import run

if TYPE_CHECKING:
    from .talk import Talk

_PROMPT, _GOES_ON = ">>> ", "... "


class Reader(Protocol):
    """Asks the user for a line."""

    def line(self, default: str) -> str:
        """A line, or several.

        Args:
            default: what it begins as.

        Raises:
            EOFError: Ctrl-D.
            KeyboardInterrupt: Ctrl-C, with nothing typed.
        """

    def choice(self, count: int) -> int | None:
        """A number from 1 to `count`; None where the user wants none."""


class PlainReader:
    """Reads lines as the terminal gives them: for those that can do nothing else."""

    def line(self, default: str) -> str:
        """See `Reader`."""
        if default:
            say(f"It was: {default}")
        text = input(_PROMPT)
        while is_open(text):
            text += "\n" + input(_GOES_ON)
        return text

    def choice(self, _count: int) -> int | None:
        """See `Reader`."""
        say("/branches N goes on from there, and /undo comes back.")
        return None


def converse(talk: Talk, command: click.Command, *, greet: bool) -> int | Reopen:
    """Read and do lines.

    Args:
        talk: the conversation.
        command: `chat`'s own.
        greet: say first what this is.

    Returns:
        The exit code, or what is to be opened instead.
    """
    shell = Shell(talk, command)
    reader = _reader(shell)
    if greet:
        _greet(shell)
    default, leaving = "", False
    while True:
        try:
            with talk.interrupt.asking():
                line = reader.line(default)
        except EOFError:
            return 0
        except KeyboardInterrupt:
            if leaving:
                return EXIT_INTERRUPTED
            default, leaving, shell.revising = "", True, False
            say("Ctrl-C once more leaves; so do Ctrl-D and /exit.")
            continue
        outcome = _do(shell, command, line)
        if isinstance(outcome, Choose):
            with talk.interrupt.asking():
                chosen = reader.choice(outcome.ways)
            outcome = _do(shell, command, f"/branches {chosen}") if chosen else None
        if isinstance(outcome, Leave):
            return 0
        if isinstance(outcome, Reopen):
            return outcome
        default = outcome.text if isinstance(outcome, Ask) else ""
        leaving, talk.stopped = talk.stopped, False


def _do(shell: Shell, command: click.Command, line: str) -> object:
    """Do one line; what cannot be done is said."""
    try:
        return run(shell, line)
    except EntropixError as error:
        _print_error(explain(error, command))
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        where = f"{error.filename}: " if error.filename else ""
        _print_error(f"{where}{error.strerror or error}")
    return None


def _print_error(message: str) -> None:
    console().print(message, style="red", markup=False)


def _greet(shell: Shell) -> None:
    from ..render import legend

    talk = shell.talk
    say(f"{talk.engine.model.path.name}, {talk.engine.context.room} tokens of context. /? lists what can be typed.")
    if wants_colour(talk.options.color):
        console(colour=True).print(legend())
    if talk.conversation.turns:
        shell.print_last()


def _reader(shell: Shell) -> Reader:
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown") or sys.stderr is None:
        return PlainReader()
    from .terminal import TerminalReader

    return TerminalReader(shell)
