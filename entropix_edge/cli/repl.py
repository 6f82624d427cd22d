"""The conversation in a terminal: lines are read, and done, until the user leaves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from ..errors import EntropixError
from . import EXIT_INTERRUPTED
from .console import console, wants_colour
from .hints import explain
from .shell import Ask, Choose, Leave, Outcome, Reopen, Shell, is_open, say
from .slash import run

if TYPE_CHECKING:
    import click

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


class Conversing:
    """A conversation in a terminal.

    Args:
        talk: the conversation.
        command: `chat`'s own.
    """

    def __init__(self, talk: Talk, command: click.Command) -> None:
        self._shell = Shell(talk, command)
        self._command = command
        self._reader = _reader(self._shell)
        _greet(talk)
        if talk.conversation.turns:
            self._shell.print_last()

    def go_on_with(self, talk: Talk) -> None:
        """Go on with another engine."""
        conversation, keeper = self._shell.talk.conversation, self._shell.talk.keeper
        conversation.move_to(talk.engine)
        talk.begin(conversation, keeper)
        self._shell.talk = talk
        _greet(talk)

    def run(self) -> int | Reopen:
        """Read and do lines. The exit code, or what is to be opened instead."""
        default, leaving = "", False
        while True:
            try:
                with self._shell.talk.interrupt.asking():
                    line = self._reader.line(default)
            except EOFError:
                return 0
            except KeyboardInterrupt:
                if leaving:
                    return EXIT_INTERRUPTED
                default, leaving, self._shell.revising = "", True, False
                say("Ctrl-C once more leaves; so do Ctrl-D and /exit.")
                continue
            outcome = self._do(line)
            if isinstance(outcome, Leave):
                return 0
            if isinstance(outcome, Reopen):
                return outcome
            print()
            default = outcome.text if isinstance(outcome, Ask) else ""
            leaving = self._shell.talk.stopped
            self._shell.talk.stopped = False

    def _do(self, line: str) -> Outcome:
        """Do one line; what cannot be done is said."""
        try:
            outcome = run(self._shell, line)
            if not isinstance(outcome, Choose):
                return outcome
            with self._shell.talk.interrupt.asking():
                chosen = self._reader.choice(outcome.ways)
            return run(self._shell, f"/branches {chosen}") if chosen else None
        except BrokenPipeError:
            raise
        except (EntropixError, OSError) as error:
            print_error(error, self._command)
        except KeyboardInterrupt:  # while a model was fetched, or a choice was waited for
            say("(stopped)")
        return None


def print_error(error: EntropixError | OSError, command: click.Command) -> None:
    """Say in one line what could not be done."""
    if isinstance(error, EntropixError):
        message = explain(error, command)
    else:
        message = f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}"
    say(message, style="red")


def _greet(talk: Talk) -> None:
    from ..render import legend

    say(f"{talk.engine.model.path.name}, {talk.engine.context.room} tokens of context. /? lists what can be typed.")
    if wants_colour(talk.options.color):
        console(colour=True).print(legend())


def _reader(shell: Shell) -> Reader:
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return PlainReader()
    from .terminal import TerminalReader

    return TerminalReader(shell)
