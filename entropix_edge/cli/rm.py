"""`entropix-edge rm`: remove a fetched model."""

from __future__ import annotations

import click
from rich.filesize import decimal

from ..hub import remove
from .options import verbose_option
from .terminal import set_up_logging


@click.command("rm")
@click.argument("model")
@verbose_option
def command(model: str, verbose: bool) -> None:
    """Remove MODEL, by a name that `ls` shows."""
    set_up_logging(verbose=verbose)
    freed = remove(model)
    click.echo(f"removed {model}: {decimal(freed)}", err=True)
