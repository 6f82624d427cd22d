"""`entropix-edge ls`: the models on this machine, and those that can be fetched by a short name."""

from __future__ import annotations

from typing import Any

import click
from rich.filesize import decimal

from ..hub import catalogue_models, installed, known_models
from .console import console, print_json, print_table
from .options import verbose_option

_GB = 10**9
_SUITS = ((0.5, "a board with 1 GB"), (1.5, "a board with 4 GB"), (3.5, "a board with 8 GB"))  # by GB in use


@click.command("ls")
@click.option("--all", "every", is_flag=True, help="The catalogue: every model with a short name.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@verbose_option
def command(every: bool, as_json: bool) -> None:
    """List the models on this machine.

    With --all the models that have a short name: what they are, which machine they suit, and which fit this one.
    What is marked with ~ is estimated: those files were not compared; size and checksum come from the hub at `pull`.
    """
    if every:
        _print_catalogue(as_json)
        return
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
    console().print(f"ls --all lists {len(known_models())} more that can be pulled by name.", style="dim", markup=False)


def _print_catalogue(as_json: bool) -> None:
    from ..llama import available_memory

    free = available_memory()
    records = sorted(_records(free), key=lambda record: int(record["size"]))
    if as_json:
        print_json(records)
        return
    rows = [
        (
            record["name"],
            record["kind"],
            f"{'' if record['verified'] else '~'}{decimal(record['size'])}",
            {True: "yes", False: "no", None: "?"}[record["fits"]],
            record["suits"],
            record["licence"],
            record["source"],
        )
        for record in records
    ]
    print_table(("model", "kind", "size", "fits here", "suits", "licence", "from"), rows, left=7, whole=True)


def _records(free: int | None) -> list[dict[str, Any]]:
    found = []
    for entry in catalogue_models().values():
        kind = "chat" if "chats" in entry.description else "base"
        found.append(_record(entry.alias, kind, entry.size, entry.licence, entry.parts[0].wheel, free, verified=True))
    for known in known_models().values():
        source = f"{known.repository}/{known.file}"
        found.append(_record(known.alias, "chat", known.about, known.licence, source, free, verified=False))
    return found


def _record(
    name: str, kind: str, size: int, licence: str, source: str, free: int | None, *, verified: bool
) -> dict[str, Any]:
    needed = 1.2 * size + 0.2 * _GB  # with a context of 4096 tokens
    return {
        "name": name,
        "kind": kind,
        "size": size,
        "fits": None if free is None else needed <= free,
        "suits": next((suits for most, suits in _SUITS if needed <= most * _GB), "a laptop, a Mac"),
        "licence": licence,
        "source": source,
        "verified": verified,
    }
