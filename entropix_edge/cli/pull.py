"""`entropix-edge pull`: fetch a model."""

from __future__ import annotations

import click

from ..hub import resolve
from .options import verbose_option
from .terminal import DownloadBar, set_up_logging


@click.command("pull")
@click.argument("model")
@verbose_option
def command(model: str, verbose: bool) -> None:
    """Fetch MODEL: an alias, user/repo[:quant], or user/repo/file.gguf. Prints the file's path."""
    set_up_logging(verbose=verbose)
    with DownloadBar() as bar:
        path = resolve(model, progress=bar)
    click.echo(path)
