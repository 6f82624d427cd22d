"""Lines from a terminal that can edit them, with history, completion and a status line: prompt_toolkit lives here."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app, run_in_terminal
from prompt_toolkit.completion import (
    CompleteEvent,
    Completer,
    Completion,
    PathCompleter,
    get_common_complete_suffix,
)
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.styles import Style

from ..render import in_short
from . import conversations
from .console import output
from .shell import is_open, say
from .show import WHAT
from .slash import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .shell import Shell

logger = logging.getLogger("entropix_edge")

_LISTED = 120  # completions at a time
_GREY = "fg:ansibrightblack"
_STYLES = {"bottom-toolbar": "noreverse", "bottom-toolbar.text": _GREY, "placeholder": _GREY}


class TerminalReader:
    """Reads lines with prompt_toolkit.

    Args:
        shell: whose state is in the status line, and whose settings are completed.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._session: PromptSession[str] = PromptSession(
            history=_history(shell),
            complete_while_typing=False,
            multiline=Condition(lambda: is_open(get_app().current_buffer.text)),
            prompt_continuation=lambda width, _number, wraps: " " * width if wraps else "... ",
            key_bindings=_bindings(_Completer(shell)),
            bottom_toolbar=self._status,
            placeholder=self._placeholder,
            style=Style.from_dict(_STYLES),
            enable_open_in_editor=True,
        )

    def line(self, default: str) -> str:
        """See `repl.Reader`."""
        return self._session.prompt(">>> ", default=default)

    def choice(self, count: int) -> int | None:
        """See `repl.Reader`: one key."""
        bindings = KeyBindings()

        for number in range(1, count + 1):
            bindings.add(str(number))(lambda event, number=number: event.app.exit(result=str(number)))

        @bindings.add("<any>", eager=False)
        @bindings.add("enter")
        @bindings.add("c-c")
        @bindings.add("c-d")
        @bindings.add("escape")
        def _leave(event: KeyPressEvent) -> None:
            event.app.exit(result="")

        session: PromptSession[str] = PromptSession(key_bindings=bindings)
        chosen = session.prompt(f"Go on from (1 to {count}; any other key: none) ")
        return int(chosen) if chosen else None

    def _status(self) -> FormattedText:
        talk = self._shell.talk
        last = talk.conversation.turns[-1].reply if talk.conversation.turns else None
        parts = [talk.engine.model.path.stem]
        if last and last.generation_seconds and len(last.events) > 1:
            parts.append(f"{(len(last.events) - 1) / last.generation_seconds:.1f} tokens/s")
        if last and last.confidence:
            parts.append(in_short(last.confidence))
        room = talk.engine.context.room
        used = min(talk.conversation.tokens, room)  # a reply's last token is in no cell yet
        parts.append(f"context {used} of {room} ({100 * used / room:.0f} %)")
        parts += [f"with {name}" for name, _content in self._shell.attached]
        if self._shell.revising:
            parts.append("in place of the last question")
        return FormattedText([("class:bottom-toolbar.text", " · ".join(parts))])

    def _placeholder(self) -> FormattedText:
        return FormattedText([("class:placeholder", "Ask something (/? for help)")])


def _history(shell: Shell) -> History:
    """What was typed before, in this conversation and others."""
    if not shell.talk.keeper.wanted:
        return InMemoryHistory()
    try:
        path = conversations.history_file()
        path.touch(mode=0o600)
    except OSError as error:
        logger.warning("what is typed is not kept: %s", error)
        return InMemoryHistory()
    return _FileHistory(str(path))


class _FileHistory(FileHistory):
    """A file of lines; one that cannot be written costs no conversation."""

    def store_string(self, string: str) -> None:
        """Append a line."""
        try:
            super().store_string(string)
        except (OSError, UnicodeError) as error:
            logger.debug("a line is not kept", exc_info=error)


def _bindings(completer: Completer) -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("tab")
    def _complete(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        found = list(completer.get_completions(buffer.document, CompleteEvent(completion_requested=True)))
        common = get_common_complete_suffix(buffer.document, found)
        if len(found) == 1:
            buffer.apply_completion(found[0])
        elif common:
            buffer.insert_text(common)
        elif found:
            run_in_terminal(lambda: _list([each.display_text for each in found]))

    @bindings.add("c-c")
    def _interrupt(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    @bindings.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-b", filter=Condition(lambda: not get_app().current_buffer.text))
    def _branches(event: KeyPressEvent) -> None:
        event.app.exit(result="/branches")

    return bindings


def _list(names: Sequence[str]) -> None:
    """Print what a text may go on as, above the line that is typed."""
    from rich.columns import Columns
    from rich.text import Text

    output().print(Columns([Text(name) for name in names[:_LISTED]], padding=(0, 2), column_first=True))
    if more := len(names[_LISTED:]):
        say(f"and {more} more")


class _Completer(Completer):
    """Completes commands and what may follow them."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What the text before the cursor may go on as."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        name, space, rest = text[1:].partition(" ")
        if not space:
            yield from _beginning(name, sorted(BY_NAME))
        elif name == "read":
            yield from self._paths.get_completions(Document(rest, len(rest)), complete_event)
        else:
            with contextlib.suppress(OSError):  # a folder that cannot be read has no names to offer
                yield from _beginning(rest, self._arguments(name))

    def _arguments(self, name: str) -> Iterable[str]:
        match name:
            case "set":
                return self._shell.settings.names(self._shell.talk.options)
            case "show":
                return WHAT
            case "load" | "save":
                return conversations.saved()
            case "help":
                return sorted(BY_NAME)
            case "model":
                from ..hub import installed

                return [model.name for model in installed()]
        return ()


def _beginning(start: str, names: Iterable[str]) -> Iterable[Completion]:
    return (Completion(name, -len(start)) for name in names if name.startswith(start))
