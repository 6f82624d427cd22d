"""`entropix-edge doctor`: what is wrong with this machine's setup, and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import EXIT_FAILED, checkup
from .console import print_json
from .options import offline_option, verbose_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .checkup import Check


@click.command("doctor")
@offline_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@verbose_option
def command(offline: bool, as_json: bool) -> int:
    """Look at Python, the compiler, llama.cpp's build, memory, folders, the hub and the GPU.

    Each fault is named with what mends it. The exit code is 1 where there is one; warnings do not count.
    """
    found = []
    for check in _checks(offline):
        found.append(check)
        if not as_json:
            mend = f"\n{'':<13} -> {check.mend}" if check.mend else ""
            print(f"{_MARKS[check.state]:<8} {check.name:<12} {check.found}{mend}", flush=True)
    if as_json:
        print_json([check._asdict() for check in found])
    return EXIT_FAILED if any(check.state == "fault" for check in found) else 0


_MARKS = {"ok": "ok", "warning": "warning", "fault": "FAULT"}


def _checks(offline: bool) -> Iterator[Check]:
    from ..hub import offline_by_environment, unreachable
    from ..native import can_keep
    from ..storage import cache_folder, config_folder, data_folder

    yield from _engine_checks()
    yield from checkup.folders({"data": data_folder, "settings": config_folder, "cache": cache_folder})
    yield checkup.settings(_commands)
    yield checkup.kernels(can_keep())
    yield checkup.hub(unreachable, offline=offline or offline_by_environment())


def _engine_checks() -> Iterator[Check]:
    """What llama.cpp runs on, as far as it can be asked."""
    try:
        from .. import llama
    except (ImportError, OSError, RuntimeError) as error:  # the last is llama-cpp-python's own
        yield checkup.python(translated=False)
        yield checkup.compiler()
        yield checkup.not_loaded(error)
        return
    from ..bench.process import throttling

    yield checkup.python(llama.is_translated())
    yield checkup.compiler()
    yield checkup.version(llama.llama_cpp_version(), llama.MADE_FOR)
    yield checkup.build(llama.system_info(), llama.processor_features())
    yield checkup.memory(llama.available_memory(), llama.total_memory())
    yield checkup.swap(llama.swap(), llama.total_memory())
    yield checkup.heat(llama.hottest(), throttling())
    yield checkup.gpu([device.name for device in llama.devices() if device.takes_layers])


def _commands() -> Mapping[str, click.Command]:
    from . import cli

    context = click.Context(cli)
    commands = ((name, cli.get_command(context, name)) for name in cli.list_commands(context))
    return {name: command for name, command in commands if command}
