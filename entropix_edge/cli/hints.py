"""What the library advises, in the words of the command that was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

    from ..errors import EntropixError, Hint

# Settings whose options have other names, as llama.cpp's have.
NAMES = {"flash_attention": "flash_attn", "gpu_layers": "n_gpu_layers", "devices": "device", "loras": "lora"}


def explain(error: EntropixError, command: click.Command | None) -> str:
    """An error's message, its hint spelled as an option of `command`; in Python's way where it has none."""
    if not error.hint:
        return error.message
    option = _option(error.hint, command)
    return f"{error.message}: {error.hint.told(option) if option else error.hint}"


def _option(hint: Hint, command: click.Command | None) -> str | None:
    name = NAMES.get(hint.setting, hint.setting)
    for parameter in command.params if command else ():
        if parameter.name == name:
            option = max(parameter.opts, key=len)
            return option if hint.value in (None, True) else f"{option} {hint.value}"
    return None
