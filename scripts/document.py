"""Write docs/COMMANDS.md from the commands' own --help.

Usage: .venv/bin/python scripts/document.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from entropix_edge.cli import cli

TARGET = Path(__file__).parents[1] / "docs" / "COMMANDS.md"


def help_of(command: click.Command, name: str, parent: click.Context | None = None) -> tuple[str, click.Context]:
    """A command's help text as a terminal of 100 columns shows it."""
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=100, help_option_names=["-h", "--help"]
    )
    lines = (line.rstrip() for line in command.get_help(context).splitlines())
    return "\n".join(lines), context


def document() -> str:
    """The whole page."""
    text, context = help_of(cli, "entropix-edge")
    parts = ["# Commands\n\nWritten by `scripts/document.py` from the commands' own `--help`.\n", f"```\n{text}\n```\n"]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        parts.append(f"## {name}\n\n```\n{help_of(command, name, context)[0]}\n```\n")
    return "\n".join(parts)


def main() -> int:
    text = document()
    if "--check" in sys.argv:
        return 0 if TARGET.read_text("utf-8") == text else 1
    TARGET.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
