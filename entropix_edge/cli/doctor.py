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
    from ..bench.process import throttling
    from ..hub import offline_by_environment, unreachable
    from ..llama import (
        MADE_FOR,
        available_memory,
        devices,
        hottest,
        llama_cpp_version,
        processor_features,
        swap,
        system_info,
        total_memory,
    )
    from ..native import can_keep
    from ..storage import cache_folder, config_folder, data_folder

    yield checkup.python()
    yield checkup.compiler()
    yield checkup.version(llama_cpp_version(), MADE_FOR)
    yield checkup.build(system_info(), processor_features())
    yield checkup.memory(available_memory(), total_memory())
    yield checkup.swap(swap(), total_memory())
    yield checkup.heat(hottest(), throttling())
    yield from checkup.folders({"data": data_folder, "settings": config_folder, "cache": cache_folder})
    yield checkup.settings(_commands)
    yield checkup.kernels(can_keep())
    yield checkup.hub(unreachable, offline=offline or offline_by_environment())
    yield checkup.gpu([device.name for device in devices() if device.takes_layers])


def _commands() -> Mapping[str, click.Command]:
    from . import cli

    context = click.Context(cli)
    commands = ((name, cli.get_command(context, name)) for name in cli.list_commands(context))
    return {name: command for name, command in commands if command}
