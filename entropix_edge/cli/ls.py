"""`entropix-edge ls`: the models on this machine, and those that can be fetched by a short name."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from ..hub import InstalledModel, catalogue_models, installed
from .options import verbose_option
from .terminal import console, set_up_logging


@click.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@verbose_option
def command(as_json: bool, verbose: bool) -> None:
    """List the models on this machine."""
    set_up_logging(verbose=verbose)
    here = installed()
    if as_json:
        click.echo(json.dumps([{"name": m.name, "size": m.size, "path": str(m.path)} for m in here]))
        return
    if here:
        Console(soft_wrap=True).print(_table(here))
    missing = set(catalogue_models()) - {model.name for model in here}
    for alias in sorted(missing):
        entry = catalogue_models()[alias]
        console().print(f"pull {alias}: {entry.description} ({decimal(entry.size)})", style="dim", markup=False)


def _table(models: list[InstalledModel]) -> Table:
    table = Table("model", "size", "file", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for model in models:
        table.add_row(model.name, decimal(model.size), str(model.path))
    return table
