"""`entropix-edge ls`: the models on this machine, and those that can be fetched by a short name."""

from __future__ import annotations

import click
from rich.filesize import decimal

from ..hub import catalogue_models, installed
from .console import console, print_json, print_table
from .options import verbose_option


@click.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@verbose_option
def command(as_json: bool) -> None:
    """List the models on this machine."""
    here = installed()
    if as_json:
        print_json([{"name": model.name, "size": model.size, "path": str(model.path)} for model in here])
        return
    if here:
        rows = [(model.name, decimal(model.size), str(model.path)) for model in here]
        print_table(("model", "size", "file"), rows, left=3, whole=True)
    missing = set(catalogue_models()) - {model.name for model in here}
    for alias in sorted(missing):
        entry = catalogue_models()[alias]
        console().print(f"pull {alias}: {entry.description} ({decimal(entry.size)})", style="dim", markup=False)
