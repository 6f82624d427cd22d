"""Write docs/COMMANDS.md from the commands' own --help, and docs/FILES.md from the files' own first lines.

Usage: .venv/bin/python scripts/document.py [--check]
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import click

from entropix_edge.cli import cli

CHECKOUT = Path(__file__).parents[1]


def help_of(command: click.Command, name: str, parent: click.Context | None = None) -> tuple[str, click.Context]:
    """A command's help text as a terminal of 100 columns shows it."""
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=100, help_option_names=["-h", "--help"]
    )
    lines = (line.rstrip() for line in command.get_help(context).splitlines())
    return "\n".join(lines), context


def commands() -> str:
    """Every command's help."""
    text, context = help_of(cli, "entropix-edge")
    parts = ["# Commands\n\nWritten by `scripts/document.py` from the commands' own `--help`.\n", f"```\n{text}\n```\n"]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        parts.append(f"## {name}\n\n```\n{help_of(command, name, context)[0]}\n```\n")
    return "\n".join(parts)


def files() -> str:
    """What each file of the package says it is, room by room."""
    package = CHECKOUT / "entropix_edge"
    parts = [
        "# Files\n\nWritten by `scripts/document.py` from the first line of each file; "
        "[ARCHITECTURE.md](ARCHITECTURE.md) says\nhow they work together.\n"
    ]
    rooms = [package, *sorted(path.parent for path in package.glob("*/__init__.py"))]
    for room in rooms:
        rows = [(path.name, first_line(path)) for path in sorted(room.glob("*.py")) if path.name != "__init__.py"]
        title = "The package itself" if room == package else f"{room.name}/"
        parts.append(f"## {title}\n\n{first_line(room / '__init__.py')}\n\n| file | what it holds |\n|---|---|")
        parts[-1] += "".join(f"\n| `{name}` | {line} |" for name, line in rows) + "\n"
    return "\n".join(parts)


def first_line(path: Path) -> str:
    """The first line of a file's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0].replace("|", "\\|")


def main() -> int:
    pages = {"COMMANDS.md": commands(), "FILES.md": files()}
    for name, text in pages.items():
        path = CHECKOUT / "docs" / name
        if "--check" not in sys.argv:
            path.write_text(text, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            print(f"docs/{name} is not up to date")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
