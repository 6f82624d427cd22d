"""What can be typed in a conversation beside questions: commands that begin with a slash."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..encoding import decode_text
from ..errors import ConfigError, EntropixError, PromptError
from ..types import FinishReason
from . import conversations
from .console import output, print_json
from .settings import THINKING
from .shell import Ask, Choose, Leave, Outcome, Reopen, Shell, first_word, number, say, unquoted, words
from .show import show


class Command(NamedTuple):
    """One command: its name, what may follow it, what it does, and what does it."""

    name: str
    arguments: str
    told: str
    run: Callable[[Shell, str], Outcome]


def run(shell: Shell, line: str) -> Outcome:
    """Do what a line says: a command, or a question.

    Raises:
        EntropixError: it cannot be done; nothing has changed.
        OSError: a file cannot be read or written.
    """
    revises, shell.revising = shell.revising, False
    if path := _file_at_the_beginning_of(line):
        say(f"{path} is a file: Enter puts it before the question. A space before its name leaves it out.")
        outcome: Outcome = Ask(f"/read {line}")
    elif line.startswith("/") and not line.startswith(_COMMENTS):
        name, _, rest = line[1:].partition(" ")
        outcome = command_of(name).run(shell, unquoted(rest.strip(), _SEVERAL_LINES))
    elif line.lower() in _WORDS:
        say(f"/{line.lower()} is the command; a space before the word makes it a question.")
        outcome = None
    else:
        question = unquoted(line.strip(), _SEVERAL_LINES)
        outcome = shell.ask(question, revises=revises) if question else None
    shell.revising = isinstance(outcome, Ask) and outcome.revises
    return outcome


def command_of(name: str) -> Command:
    """The command of a name, without its slash.

    Raises:
        ConfigError: there is none.
    """
    small = name.lower()
    found = BY_NAME.get(_ALSO.get(small, small))
    if found is None:
        close = difflib.get_close_matches(small, BY_NAME, 1)
        advice = f"did you mean /{close[0]}?" if close else "/help lists them"
        raise ConfigError(f"/{name} is not a command: {advice} (a space before the slash makes it a question)")
    return found


def _file_at_the_beginning_of(line: str) -> Path | None:
    """The file whose path a line begins with, as one that is dragged into the terminal is typed."""
    if line[:1] not in _PATHS or "\n" in line:
        return None
    try:
        name, _question = first_word(line)
        path = Path(name).expanduser()
        return path if "/" in name and path.is_file() else None
    except (PromptError, OSError, ValueError):  # an apostrophe; longer than names can be
        return None


# --- the conversation ---------------------------------------------------------------------------------


def _clear(shell: Shell, _rest: str) -> Outcome:
    if shell.talk.conversation.turns:
        shell.talk.conversation.set_turns(())
    shell.talk.keeper.begin()
    shell.attached.clear()
    say("A new conversation; /undo brings the old one back.")
    return None


def _regenerate(shell: Shell, _rest: str) -> Outcome:
    shell.after(shell.talk.regenerate())
    return None


def _undo(shell: Shell, _rest: str) -> Outcome:
    conversation = shell.talk.conversation
    if not conversation.undo():
        raise PromptError("there is no step to undo")
    shell.talk.keeper.keep(conversation)
    shell.print_last()
    return None


def _edit(shell: Shell, rest: str) -> Outcome:
    last = shell.last_turn()
    return shell.ask(rest, revises=True) if rest else Ask(last.question, revises=True)


def _more(shell: Shell, _rest: str) -> Outcome:
    last = shell.last_turn()
    if last.finish_reason not in (FinishReason.LENGTH, FinishReason.CANCELLED) or not last.reply_ids:
        raise PromptError("the last reply is whole: /regen makes another")
    shell.after(shell.talk.go_on_from(len(last.reply_ids), ()))
    return None


def _read(shell: Shell, rest: str) -> Outcome:
    name, question = first_word(rest)
    if not name:
        raise PromptError("/read needs a file: /read FILE, then the question")
    path = Path(name).expanduser()
    content = decode_text(path.read_bytes(), str(path)).removesuffix("\n")
    if not content.strip():
        raise PromptError(f"{path} is empty: there is nothing to read in it")
    shell.attached.append((path.name, content))
    if question:
        return shell.ask(question)
    say(f"{path.name}, {len(content)} characters, goes before the next question.")
    return None


def _drop(shell: Shell, rest: str) -> Outcome:
    conversation = shell.talk.conversation
    conversation.drop_oldest(number(rest) if rest else 1)
    shell.talk.keeper.keep(conversation)
    say(f"Turns left: {len(conversation.turns)}; /undo brings the others back.")
    return None


def _system(shell: Shell, rest: str) -> Outcome:
    conversation = shell.talk.conversation
    if not rest:
        output().print(conversation.system or "There is no system message: /system TEXT sets one.", markup=False)
        return None
    text = unquoted(rest)
    conversation.system = None if text == "none" else text
    shell.talk.keeper.keep(conversation)
    say(f"system message: {text}")
    return None


# --- what the model knew ------------------------------------------------------------------------------


def _why(shell: Shell, rest: str) -> Outcome:
    from ..render import why

    turn = shell.known_turn()
    if turn is None:
        return None
    events = turn.events
    if not rest:
        output().print(why.overview(events))
        say("/why N or /why WORD looks closer, /why all walks through; /branches goes another way.")
        return None
    if rest == "all":
        output().print(why.walk(events))
        return None
    reply = why.places(events)
    found = [reply[number(rest)]] if rest.isdecimal() and number(rest) < len(reply) else why.places_of(reply, rest)
    if not found:
        raise PromptError(f"{rest!r} is not in the reply: give a word of it, or a number from 0 to {len(reply) - 1}")
    output().print(why.closer(events, found[0].token.index))
    if others := ", ".join(str(place.token.index) for place in found[1:9]):
        say(f"Also at {others}.")
    return None


def _branches(shell: Shell, rest: str) -> Outcome:
    from ..render.ways import listing, ways

    turn = shell.known_turn()
    if turn is None:
        return None
    found = ways(turn.events)
    if not found:
        say("The model saw no other way on that was at all likely.")
        return None
    if not rest:
        output().print(listing(turn.events, found))
        return Choose(len(found))
    if not 1 <= number(rest) <= len(found):
        raise PromptError(f"there is no way {rest}: it must be from 1 to {len(found)}")
    way = found[number(rest) - 1]
    shell.after(shell.talk.go_on_from(way.place, way.token_ids))
    return None


def _json(shell: Shell, _rest: str) -> Outcome:
    shell.last_turn()
    record = shell.talk.record()
    if record is None:
        raise PromptError("the last reply was not generated here, so there is no record of it: /regen makes another")
    print_json(record)
    return None


# --- files and models ---------------------------------------------------------------------------------


def _save(shell: Shell, rest: str) -> Outcome:
    given = words(rest)
    names = [word for word in given if word != "-f"]
    if len(names) != 1:
        raise PromptError("/save needs one name: /save NAME")
    path = conversations.saved_file(names[0])
    if path.exists() and path != shell.saved_as and "-f" not in given:
        raise PromptError(f"{names[0]} is there already: /save -f {names[0]} replaces it")
    shell.talk.conversation.save(path)
    shell.saved_as = path
    tokens = shell.talk.engine.save_prompt_cache(path.with_suffix(".cache"))
    say(f"Saved as {path}: turns: {len(shell.talk.conversation.turns)}, tokens in the KV cache: {tokens}.")
    return None


def _load(shell: Shell, rest: str) -> Outcome:
    from ..sessions import Conversation

    given, names = words(rest), ", ".join(conversations.saved())
    if not given:
        say(f"Saved: {names}" if names else "No conversation is saved: /save NAME saves one.")
        return None
    path = conversations.saved_file(given[0])
    if not path.exists():
        raise PromptError(f"no conversation is saved as {given[0]!r} (saved: {names or 'none'}); /model opens a model")
    shell.talk.conversation = Conversation.load(path, shell.talk.engine)
    shell.talk.keeper.begin()
    shell.saved_as = path
    cache = path.with_suffix(".cache")
    if cache.exists():
        try:
            shell.talk.engine.load_prompt_cache(cache)
        except (EntropixError, OSError) as error:
            say(f"Its KV cache is not used, so what was said is read again: {error}")
    shell.print_last()
    return None


def _model(shell: Shell, rest: str) -> Outcome:
    from ..hub import installed
    from .session import fetch

    if rest:
        return Reopen(fetch(rest, offline=shell.talk.options.model.offline), shell.talk.options)
    say(f"This is {shell.talk.engine.model.path.name}. On this machine:")
    for model in installed():
        say(f"  {model.name}")
    return None


# --- settings -----------------------------------------------------------------------------------------


def _set(shell: Shell, rest: str) -> Outcome:
    name, _, value = rest.partition(" ")
    if name == "parameter":  # as Ollama has it
        name, _, value = value.strip().partition(" ")
    value = unquoted(value.strip())
    if name == "system":
        return _system(shell, value)
    if name in THINKING:
        return _think(shell, THINKING[name])
    if not name:
        names = ", ".join(shell.settings.names(shell.talk.options))
        output().print(f"/set KEY VALUE sets a threshold, such as pause.entropy_above, or one of {names}", markup=False)
        return None
    change = shell.settings.change(shell.talk.options, name, value)
    changed = change.options
    if changed.verdict != shell.talk.options.verdict:
        model = shell.talk.engine.model.path
        changed.verdict.check_fit(model, changed.generation_config, changed.candidates.voting())
    say(change.told)
    if change.reopens:
        return Reopen(shell.talk.engine.model.path, change.options)
    shell.talk.options = change.options
    return None


def _think(shell: Shell, wanted: bool) -> Outcome:
    """Tell the chat template, where it asks."""
    if "enable_thinking" not in (shell.talk.engine.model.chat_template or ""):
        raise ConfigError("this model's chat template cannot switch its thoughts: /set thoughts fold folds them")
    shell.talk.conversation.chat_template_kwargs["enable_thinking"] = wanted
    shell.talk.keeper.keep(shell.talk.conversation)
    say("the model is asked to think first" if wanted else "the model is asked to answer at once")
    return None


def _show(shell: Shell, rest: str) -> Outcome:
    show(shell.talk, shell.settings, rest)
    return None


def _help(shell: Shell, rest: str) -> Outcome:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    if rest.lower() in ("keys", "shortcuts"):  # as Ollama has it
        for key, told in KEYS:
            table.add_row(key, told)
        output().print(table)
        return None
    for command in [command_of(rest.lstrip("/"))] if rest else COMMANDS:
        table.add_row(Text(f"/{command.name} {command.arguments}"), Text(command.told))
    output().print(table)
    if not rest:
        output().print('\n""" begins and ends a text of several lines. Ctrl-C stops a reply, Ctrl-D leaves.')
        output().print("/help keys lists the other keys, /help set what can be set.")
    elif command.name == "set":
        return _set(shell, "")
    return None


def _leave(_shell: Shell, _rest: str) -> Outcome:
    return Leave()


COMMANDS = [
    Command("help", "[COMMAND]", "List what can be typed; also /?.", _help),
    Command("clear", "", "Begin a new conversation.", _clear),
    Command("regen", "", "Answer the last question again.", _regenerate),
    Command("more", "", "Go on with a reply that was cut or stopped.", _more),
    Command("undo", "", "Go back to before the last step.", _undo),
    Command("edit", "[TEXT]", "Ask the last question in other words.", _edit),
    Command("read", "FILE [QUESTION]", "Put a text file before the next question.", _read),
    Command("drop", "[N]", "Leave out the oldest turns.", _drop),
    Command("system", "[TEXT]", "Show or set the system message; `none` takes it away.", _system),
    Command("set", "KEY VALUE", "Change an option, such as temperature 0.2.", _set),
    Command("show", "[WHAT]", "Show the settings; info, parameters, system, template, history.", _show),
    Command("why", "[N|WORD|all]", "Say where the model was unsure in the last reply, and of what.", _why),
    Command("branches", "[N]", "List other ways on from the last reply, and go one of them.", _branches),
    Command("json", "", "Print the last reply as `generate --json` does.", _json),
    Command("save", "NAME", "Save the conversation with its KV cache.", _save),
    Command("load", "[NAME]", "Load a saved conversation, or list them.", _load),
    Command("model", "[NAME]", "Go on with another model, or list them.", _model),
    Command("exit", "", "Leave; also /bye and Ctrl-D.", _leave),
]
BY_NAME = {command.name: command for command in COMMANDS}
KEYS = [
    ("Enter, Alt-Enter", "Ask; begin another line."),
    ("Tab", "Complete a command, an option, a file's name."),
    ("Up, Down, Ctrl-R", "Go through what was typed before; search it."),
    ("Ctrl-A, Ctrl-E", "Go to the beginning or the end of the line."),
    ("Ctrl-W, Ctrl-U", "Delete a word, or all before the cursor; Ctrl-Y puts it back."),
    ("Ctrl-X Ctrl-E", "Write the question in $EDITOR."),
    ("Ctrl-B", "On an empty line: /branches."),
    ("Ctrl-L", "Clear the screen; the conversation stays."),
    ("Ctrl-C", "Stop a reply, or clear the line; twice: leave."),
    ("Ctrl-D", "On an empty line: leave."),
]
_COMMENTS = ("//", "/*")  # of pasted code
_PATHS = tuple("/~.'\"")  # how a path may begin, quoted or not
_SEVERAL_LINES = ('"""',)
_ALSO = {"?": "help", "bye": "exit", "quit": "exit", "retry": "regen", "new": "clear"}
_WORDS = ("exit", "quit", "bye", "help", "clear")  # which a user who wants a command may type
