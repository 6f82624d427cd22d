"""`entropix-edge pull`: fetch a model."""

from __future__ import annotations

import click

from .options import verbose_option
from .session import fetch


@click.command("pull")
@click.argument("model")
@verbose_option
def command(model: str) -> None:
    """Fetch MODEL: an alias, user/repo[:quant], or user/repo/file.gguf. Prints the file's path."""
    print(fetch(model))
