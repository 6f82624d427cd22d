"""`entropix-edge rm`: remove a fetched model."""

from __future__ import annotations

import click
from rich.filesize import decimal

from ..hub import remove
from .options import verbose_option


@click.command("rm")
@click.argument("model")
@verbose_option
def command(model: str) -> None:
    """Remove MODEL, by a name that `ls` shows."""
    freed = remove(model)
    click.echo(f"removed {model}: {decimal(freed)}", err=True)
