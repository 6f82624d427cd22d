"""The state of a conversation in a terminal: what is asked, and what is said of how a reply ended."""

from __future__ import annotations

import io
import shlex
from typing import TYPE_CHECKING, NamedTuple

from ..errors import PromptError
from ..types import FinishReason
from .console import console, output
from .settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import click

    from ..errors import Hint
    from ..sessions import Turn
    from .talk import Options, Talk


class Leave(NamedTuple):
    """The conversation is over."""


class Reopen(NamedTuple):
    """The conversation goes on with another model, or with the same one opened in another way."""

    path: Path
    options: Options


class Ask(NamedTuple):
    """The next line begins as this text, which can be changed; it may take the place of the last question."""

    text: str
    revises: bool = False


class Choose(NamedTuple):
    """One of several ways on, which were listed, may be chosen with a key."""

    ways: int


Outcome = Leave | Reopen | Ask | Choose | None


class Shell:
    """One conversation in a terminal.

    Args:
        talk: the conversation.
        command: `chat`'s own, whose options can be set.

    Attributes:
        attached: names and contents of the files that go before the next question.
        saved_as: the file that the conversation was saved to, or loaded from.
        revising: whether the next question takes the place of the last.
    """

    def __init__(self, talk: Talk, command: click.Command) -> None:
        self.talk = talk
        self.settings = Settings(command)
        self.attached: list[tuple[str, str]] = []
        self.saved_as: Path | None = None
        self.revising = False

    def ask(self, question: str, *, revises: bool = False) -> Outcome:
        """Ask; what does not fit is said, with what can be done, and comes back to be changed."""
        whole = "\n\n".join([*(content for _name, content in self.attached), question])
        try:
            turn = self.talk.revise(whole) if revises else self.talk.ask(whole)
        except PromptError as error:
            if not _is_too_long(error.hint):
                raise
            self._say_full(f"{error.message}.")
            return Ask(question, revises)
        if turn is None:
            say("(stopped before anything was said: nothing is kept)")
            return Ask(question, revises)
        self.attached.clear()
        self.after(turn)
        return None

    def after(self, turn: Turn | None) -> None:
        """Say how a reply ended, where that was not by itself."""
        if turn is None:
            say("(stopped before anything was said: the conversation is as it was)")
            return
        match turn.finish_reason:
            case FinishReason.CANCELLED:
                say("(stopped; /more goes on)")
            case FinishReason.LENGTH:
                say(f"(cut after {len(turn.reply_ids)} tokens; /more goes on)")
            case FinishReason.REPETITION:
                say("(ended, since it went round in a loop)")
            case FinishReason.CONTEXT:
                self._say_full(f"The context of {self.talk.engine.context.room} tokens is full: the reply ends here.")

    def _say_full(self, what: str) -> None:
        turns, room = len(self.talk.conversation.turns), self.talk.engine.context.room
        say(what, style="yellow")
        if turns:
            say(f"  /drop leaves out the oldest turn of {turns}, /drop N so many of them")
        if room < self.talk.engine.model.n_ctx_train:
            larger = min(2 * room, self.talk.engine.model.n_ctx_train)
            say(f"  /set ctx_size {larger} opens the model with a larger context")
        say("  /clear begins anew")

    def last_turn(self) -> Turn:
        """The last turn.

        Raises:
            PromptError: there is none.
        """
        if not self.talk.conversation.turns:
            raise PromptError("nothing was said yet: ask something first")
        return self.talk.conversation.turns[-1]

    def known_turn(self) -> Turn | None:
        """The last turn, with what happened in it: measured again where it was loaded. None where Ctrl-C stopped that.

        Raises:
            PromptError: there is none, or it is another model's.
        """
        if not self.last_turn().events:
            if not self.talk.measure():
                say("(stopped)")
                return None
            say(_MEASURED)
        return self.last_turn()

    def print_last(self) -> None:
        """Print the last turn, for who comes back to it."""
        turns = self.talk.conversation.turns
        if not turns:
            say("Nothing was said yet.")
            return
        from ..render import visible

        say(f"{len(turns)} turns; the last one:" if len(turns) > 1 else "One turn:")
        output().print(f">>> {visible(turns[-1].question)}", markup=False, style="bold")
        output().print(visible(turns[-1].text).strip(), markup=False)


# --- what is typed ------------------------------------------------------------------------------------


def say(text: str, style: str = "dim") -> None:
    """Say something beside the model's text; in a terminal its lines break between words."""
    beside = console()
    beside.print(text, style=style, markup=False, soft_wrap=not beside.is_terminal)


def words(text: str) -> list[str]:
    """The words of a command, as a shell reads them.

    Raises:
        PromptError: a quotation does not end.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise PromptError(f"{text!r} cannot be read: {error}") from error


def first_word(text: str) -> tuple[str, str]:
    """The first word of a text, as a shell reads it, and what follows it as it stands.

    Raises:
        PromptError: a quotation does not end.
    """
    source = io.StringIO(text)
    lexer = shlex.shlex(source, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return lexer.get_token() or "", source.read().strip()
    except ValueError as error:
        raise PromptError(f"{text!r} cannot be read: {error}") from error


def number(text: str) -> int:
    """A whole number.

    Raises:
        PromptError: it is none.
    """
    if not text.isdecimal():
        raise PromptError(f"{text!r} is not a whole number")
    return int(text)


def unquoted(text: str, quotes: Sequence[str] = ('"""', '"')) -> str:
    """A text without the quotes around it."""
    for quote in quotes:
        if len(text) >= 2 * len(quote) and text.startswith(quote) and text.endswith(quote):
            inner = text[len(quote) : -len(quote)]
            return text if quote in inner else inner.strip("\n")
    return text


def is_open(text: str) -> bool:
    """Whether a text of several lines has begun and not ended."""
    begins = text.lstrip()
    return begins.startswith(('"""', "/")) and begins.count('"""') % 2 == 1


_MEASURED = "Measured again, since a file keeps no probabilities: what else was done at that time is not known."


def _is_too_long(hint: Hint | None) -> bool:
    return hint is not None and hint.setting == "ctx_size"
