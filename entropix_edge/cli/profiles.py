"""`--profile`: defaults for a kind of machine, from what this one is."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .defaults import Profile, set_from_profile

if TYPE_CHECKING:
    from collections.abc import Callable

PROFILES = ("auto", "laptop", "mac", "pi")
_GIB = 2**30
_BOARD = 9 * _GIB  # an ARM machine with less memory is taken for a board
_LITTLE = 2 * _GIB


class Machine(NamedTuple):
    """What profiles look at.

    Attributes:
        system: as Python names it, such as "darwin".
        architecture: such as "aarch64".
        processor: its name, or its board's.
        cores: worth computing on.
        memory: in bytes; None where the system does not say.
    """

    system: str
    architecture: str
    processor: str
    cores: int
    memory: int | None


def this_machine() -> Machine:
    """What this machine is."""
    from ..llama import default_threads, processor_name, total_memory

    return Machine(sys.platform, platform.machine(), processor_name(), default_threads(), total_memory())


def detect(machine: Machine) -> str:
    """The profile that suits a machine."""
    if machine.system == "darwin":
        return "mac"
    arm = machine.architecture.lower() in ("aarch64", "arm64", "armv7l", "armv8l")
    small = machine.memory is not None and machine.memory < _BOARD
    return "pi" if machine.processor.startswith("Raspberry Pi") or (arm and small) else "laptop"


def profile(name: str, machine: Machine) -> Profile:
    """A profile's values on a machine.

    On a board a micro-batch of 64 tokens reads prompts about as fast as a larger one and takes a fifth of the memory;
    forks are rarer, as a decode of several tokens takes nearly as many times as long. With less than 2 GiB the context
    and the types of its cells are smaller. What is not named here is chosen when the model is opened.
    """
    kind = detect(machine) if name == "auto" else name
    values: dict[str, Any] = {"threads": machine.cores}
    changes: tuple[tuple[str, str], ...] = ()
    if kind == "pi":
        values |= {"batch_size": 64, "ubatch_size": 64}
        changes = (("branch.budget", "0.1"),)
    if machine.memory is not None and machine.memory < _LITTLE:
        values |= {"ctx_size": 2048, "cache_type_k": "q8_0", "cache_type_v": "q8_0"}
    told = [machine.processor, f"{machine.cores} core{'s' if machine.cores > 1 else ''}"]
    if machine.memory is not None:
        told.append(f"{machine.memory / _GIB:.1f} GiB")
    return Profile(kind, ", ".join(told), values, changes)


def _chosen(context: click.Context, _parameter: click.Parameter, name: str) -> None:
    if context.resilient_parsing:
        return
    known = {parameter.name for parameter in context.command.params}
    found = profile(name, this_machine())
    values = {key: value for key, value in found.values.items() if key in known}
    set_from_profile(context, found._replace(values=values))


_OPTION = click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default="auto",
    is_eager=True,
    expose_value=False,
    callback=_chosen,
    help="Defaults for a kind of machine. Default: auto (what this one is).",
)


def profile_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--profile`, for commands that open a model for replies."""
    return _OPTION(command)
