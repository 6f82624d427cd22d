"""Draw docs/images/chat.svg: a conversation in a terminal, recorded from the program with the default model.

Usage: .venv/bin/python scripts/picture.py (needs tmux)
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from io import StringIO
from pathlib import Path

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

CHECKOUT = Path(__file__).parents[1]
TARGET = CHECKOUT / "docs" / "images" / "chat.svg"
COLUMNS, LINES = 100, 200
SESSION = f"entropix-edge-picture-{os.getpid()}"
CHAT = [sys.executable, "-m", "entropix_edge", "chat", "-sys", "You are a helpful assistant.", "-s", "3", "-n", "60"]
CHAT += ["-t", "1"]  # several threads wait for each other where something else runs, and the picture names the speed
# what is typed, and what is waited for after it
TYPED = [
    (["Why is the sky blue?", "Enter"], "tokens/s"),
    (["/why Ray", "Enter"], "tokens/s"),
    (["/branches", "Enter"], "any other key"),
    (["1"], "tokens/s"),
]
PATIENCE = 300  # seconds


def tmux(*arguments: str) -> str:
    return subprocess.run(["tmux", *arguments], check=True, capture_output=True, text=True).stdout


def screen() -> list[str]:
    """The lines on the screen, with their colours."""
    return tmux("capture-pane", "-p", "-e", "-t", SESSION).rstrip().split("\n")


def wait_for(text: str) -> None:
    """Wait until the last line says something."""
    deadline = time.monotonic() + PATIENCE
    time.sleep(1)
    while text not in Text.from_ansi(screen()[-1]).plain:
        if time.monotonic() > deadline:
            raise SystemExit(f"{text!r} did not come; the screen:\n" + "\n".join(screen()))
        time.sleep(0.5)


def record(home: str) -> list[str]:
    """The screen after all was typed."""
    command = f"ENTROPIX_EDGE_HOME={shlex.quote(home)} {shlex.join(CHAT)}"
    tmux("new-session", "-d", "-s", SESSION, "-x", str(COLUMNS), "-y", str(LINES), "-c", str(CHECKOUT), command)
    try:
        wait_for("context 0 of")
        for keys, then in TYPED:
            tmux("send-keys", "-t", SESSION, *keys)
            wait_for(then)
        return screen()
    finally:
        tmux("kill-session", "-t", SESSION)


def draw(lines: list[str]) -> str:
    """An SVG of terminal lines, which loads nothing from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    gap = "\n{4,}"  # down to the status line, on the screen's last
    console.print(Text.from_ansi(re.sub(gap, "\n\n\n", "\n".join(lines))), soft_wrap=True)
    form = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    form = form.replace("<svg ", '<svg xml:space="preserve" ', 1)
    return console.export_svg(title="entropix-edge chat", code_format=form, unique_id="chat")


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        lines = record(home)
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(draw(lines), "utf-8")


if __name__ == "__main__":
    main()
