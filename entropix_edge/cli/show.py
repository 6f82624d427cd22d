"""What `/show` shows: the model, the settings, the system message, what was said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigError
from .console import output

if TYPE_CHECKING:
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


def _print_state(talk: Talk) -> None:
    conversation, room = talk.conversation, talk.engine.context.room
    _print(f"model       {talk.engine.model.path.name}")
    _print(f"context     {conversation.tokens} of {room} tokens used, turns: {len(conversation.turns)}")
    _print(f"system      {conversation.system or 'none'}")
    _print(f"kept in     {talk.keeper.path or 'no file'}")


def _print_parameters(talk: Talk, settings: Settings) -> None:
    rows = settings.listed(talk.options)
    for name, value in rows:
        _print(f"{name:<11} {value}")
    if not rows:
        _print("settings    all as by default: /set lists them")


def _print_facts(talk: Talk, only: str) -> None:
    from ..llama import read_header
    from .info import facts

    path = talk.engine.model.path
    for name, value in facts(path, read_header(path), talk.options.engine_config()):
        if value is not None and only in name:
            _print(f"{name:<14} {value}")


def _print_history(talk: Talk) -> None:
    if talk.conversation.system:
        _print(f"system: {talk.conversation.system}")
    for message in talk.conversation.messages:
        _print(f"{'>>> ' if message['role'] == 'user' else ''}{message['content'].strip()}")
