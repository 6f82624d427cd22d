"""`entropix-edge worker`: computes layers for an `--rpc` on another machine."""

from __future__ import annotations

import signal
import socket

import click

from ..addresses import is_loopback
from ..errors import ConfigError
from .console import console
from .options import threads_option, verbose_option

PORT = 50052  # as llama.cpp's rpc-server


@click.command("worker")
@click.option("--host", default="127.0.0.1", help="Address to listen on. Default: 127.0.0.1.")
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, help=f"Port. Default: {PORT}.")
@threads_option
@verbose_option
def command(host: str, port: int, threads: int | None) -> None:
    """Compute layers for the model of another machine that is started with --rpc HOST:PORT.

    It takes layers to its GPU, or to its CPU where it has none. There is no password and no encryption: whoever
    reaches the port can use this machine's memory, and perhaps more, since llama.cpp's authors call this part insecure.
    Listen on other addresses than 127.0.0.1 only in a network that you trust. Needs llama.cpp built by scripts/rpc.
    """
    from ..llama import default_threads, serve

    threads = threads or default_threads()
    _check_free(host, port)
    if not is_loopback(host):
        console().print(
            f"Warning: whoever reaches {host}:{port} can use this machine: no password, no encryption. "
            "Only in a network that you trust.",
            markup=False,
        )
    console().print(f"Worker on {host}:{port} with {threads} threads. Ctrl-C ends it.", markup=False)
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # it waits in C, where Python's own handler is not heard
    try:
        serve(host, port, threads)
    finally:
        signal.signal(signal.SIGINT, before)


def _check_free(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on: llama.cpp would only return."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        raise ConfigError(f"{host}:{port} cannot be listened on ({error.strerror or error}): give another") from error
