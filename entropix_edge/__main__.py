"""Where the program begins: `entropix-edge` and `python -m entropix_edge`."""

from __future__ import annotations

import os
import signal
from typing import NoReturn


def main() -> NoReturn:
    """Import the command line and run it."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:  # a Ctrl-C loses nothing yet, and prints no traceback of an import
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from .cli import main as run

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
