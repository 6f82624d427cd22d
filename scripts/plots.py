"""Draw the pictures of docs/PLOT.md, each by the command that stands beside it there, from files of this checkout.

Usage: .venv/bin/python scripts/plots.py
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
COMMAND = re.compile(r"^entropix-edge (plot .* --out docs/images/.*)$", re.MULTILINE)


def main() -> None:
    page = (CHECKOUT / "docs" / "PLOT.md").read_text("utf-8").replace("\\\n", "")
    for arguments in COMMAND.findall(page):
        subprocess.run([sys.executable, "-m", "entropix_edge", *shlex.split(arguments)], cwd=CHECKOUT, check=True)


if __name__ == "__main__":
    main()
