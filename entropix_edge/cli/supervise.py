"""`--rpc`: the engine in a child process, since llama.cpp ends its process where a worker goes away."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from . import EXIT_FAILED
from .console import console
from .parameters import Names

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence

CHILD = "_ENTROPIX_EDGE_RPC_CHILD"  # set in the child, which must not start another


def supervise(arguments: Sequence[str], endpoints: Sequence[str]) -> int:
    """Run the same command in a child process; its exit code, or 1 where it was ended by a signal.

    What it printed stays. Where it aborted, the workers that do not answer any more are named.

    Raises:
        ContextError: a worker does not answer now.
        ConfigError: this build has no RPC.
    """
    import subprocess

    from ..errors import ConfigError
    from ..llama import answers, has_rpc, lost

    if not has_rpc():
        raise ConfigError("this build of llama.cpp has no RPC: make one with scripts/rpc")
    for endpoint in endpoints:
        if not answers(endpoint):
            raise lost(endpoint)
    environment = os.environ | {CHILD: "1", "GGML_NO_BACKTRACE": "1"}
    with _terminal_kept():
        child = subprocess.Popen([sys.executable, "-m", "entropix_edge", *arguments], env=environment)
        with _signals_passed_on(child):
            code = child.wait()
    if code >= 0:
        return code
    _say_why(signal.Signals(-code).name, endpoints, answers)
    return EXIT_FAILED


def _say_why(signal_name: str, endpoints: Sequence[str], answers: Callable[[str], bool]) -> None:
    time.sleep(0.2)  # a worker that is going away may still answer
    gone = [endpoint for endpoint in endpoints if not answers(endpoint)]
    if gone:
        what = f"lost the worker {', '.join(gone)}: what was generated until then is above"
    else:
        what = f"the engine's process was ended by {signal_name}: what was generated until then is above"
    if sys.stdout is not None and sys.stdout.isatty():
        print()
    console().print(f"Error: {what}", markup=False)


@contextlib.contextmanager
def _signals_passed_on(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ctrl-C reaches the child by itself; what ends this process is passed on."""

    def forward(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda _number, _frame: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, forward),
        signal.SIGHUP: signal.signal(signal.SIGHUP, forward),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if child.poll() is None:
            child.terminate()
            child.wait()


@contextlib.contextmanager
def _terminal_kept() -> Iterator[None]:
    """The terminal as it was, even where the child could not put it back."""
    import termios

    try:
        before = termios.tcgetattr(0)
    except (termios.error, OSError):
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def _chosen(context: click.Context, _parameter: click.Parameter, endpoints: tuple[str, ...] | None) -> Any:
    """In the parent, become a supervisor; in the child, have what was printed flushed before an abort."""
    if not endpoints or context.resilient_parsing:
        return endpoints or ()
    if os.environ.get(CHILD):
        from ..llama import before_abort

        before_abort(_flush)
        return endpoints
    from ..engine_config import EngineConfig

    EngineConfig(rpc=endpoints)  # or say what is wrong with them
    arguments = context.find_root().obj
    raise click.exceptions.Exit(supervise(arguments, endpoints))


def _flush(_last_words: str) -> None:
    with contextlib.suppress(Exception):
        sys.stdout.flush()


rpc_option = click.option(
    "--rpc",
    type=Names(),
    callback=_chosen,
    metavar="HOST:PORT,…",
    help="Workers (`entropix-edge worker`) that take layers too; unencrypted, so only in a network that you trust.",
)
