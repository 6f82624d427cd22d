"""What `/show` shows: the model, the settings, the system message, what was said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigError
from .console import output, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .settings import Settings
    from .talk import Talk

WHAT = ("info", "parameters", "system", "template", "history", "license")


def show(talk: Talk, settings: Settings, what: str) -> None:
    """Print one of them; without a name, what matters most.

    Raises:
        ConfigError: there is nothing of that name.
    """
    match what:
        case "":
            _print_state(talk)
            _print_parameters(talk, settings)
        case "info" | "model" | "license" | "licence":
            _print_facts(talk, only="licence" if what.startswith("licen") else "")
        case "parameters":
            _print_parameters(talk, settings)
        case "system":
            _print(talk.conversation.system or "There is no system message.")
        case "template":
            _print(str(talk.engine.model.chat_template))
        case "history":
            _print_history(talk)
        case "modelfile":
            raise ConfigError("there is no Modelfile: /show info describes the model's GGUF file")
        case _:
            raise ConfigError(f"/show {what!r} is not known: it must be one of {', '.join(WHAT)}")


def _print(text: str) -> None:
    from ..render import visible

    output().print(visible(text), markup=False, soft_wrap=True)


def _print_rows(rows: Iterable[tuple[str, object]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(min_width=14, no_wrap=True)
    for name, value in rows:
        table.add_row(name, Text(plain(str(value))))
    output().print(table)


def _print_state(talk: Talk) -> None:
    conversation, room = talk.conversation, talk.engine.context.room
    used = f"{min(conversation.tokens, room)} of {room} tokens used, turns: {len(conversation.turns)}"
    _print_rows(
        [
            ("model", talk.engine.model.path.name),
            ("context", used),
            ("system", conversation.system or "none"),
            ("kept in", talk.keeper.path or "no file"),
        ]
    )


def _print_parameters(talk: Talk, settings: Settings) -> None:
    _print_rows(settings.listed(talk.options) or [("settings", "all as by default: /set lists them")])


def _print_facts(talk: Talk, only: str) -> None:
    from ..llama import read_header
    from .info import facts

    path = talk.engine.model.path
    found = facts(path, read_header(path), talk.options.engine_config(), template="/show template")
    _print_rows((name, value) for name, value in found if value is not None and only in name)


def _print_history(talk: Talk) -> None:
    if talk.conversation.system:
        _print(f"system: {talk.conversation.system}")
    for message in talk.conversation.messages:
        _print(f"{'>>> ' if message['role'] == 'user' else ''}{message['content'].strip()}")
