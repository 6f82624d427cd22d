"""What llama.cpp computes on: devices, and how many layers they take."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import ConfigError
from . import machine
from .bindings import llama, version
from .library import ggml, ggml_devices, initialise

if TYPE_CHECKING:
    from collections.abc import Sequence

_CPU = "CPU"
_KINDS = {0: _CPU, 1: "GPU", 2: "integrated GPU", 3: "accelerator"}
_OFFLOAD_KINDS = (1, 2)
_HEADROOM = 0.9  # share of a device's free memory that a model may fill


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One compute device. Memory is in bytes; 0 where the device does not say."""

    name: str
    description: str
    kind: str
    takes_layers: bool
    free_memory: int
    total_memory: int


def devices() -> list[Device]:
    """The devices that this build of llama.cpp can compute on."""
    initialise()
    registry, library = ggml_devices(), ggml()
    found = []
    for index in range(registry.ggml_backend_dev_count()):
        handle = registry.ggml_backend_dev_get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        library.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
        kind = library.ggml_backend_dev_type(handle)
        device = Device(
            name=library.ggml_backend_dev_name(handle).decode(),
            description=library.ggml_backend_dev_description(handle).decode(),
            kind=_KINDS.get(kind, "other"),
            takes_layers=kind in _OFFLOAD_KINDS,
            free_memory=free.value,
            total_memory=total.value,
        )
        found.append(_as_system_tells(device) if device.kind == _CPU else device)
    return found


def _as_system_tells(device: Device) -> Device:
    """The CPU with what ggml leaves out: which memory is free, limits of containers, names of ARM's processors."""
    return replace(
        device,
        description=machine.processor_name() if device.description == _CPU else device.description,
        free_memory=machine.available_memory() or device.free_memory,
        total_memory=machine.total_memory() or device.total_memory,
    )


def llama_cpp_version() -> str:
    """The version of llama-cpp-python."""
    return version()


def system_info() -> str:
    """llama.cpp's own list of the build's features."""
    initialise()
    text: str = llama.llama_print_system_info().decode("utf-8", "replace")
    return text.strip().strip("|").strip()


def can_repack() -> bool:
    """Whether llama.cpp may lay weights out anew for this processor, which makes prompts faster.

    Not where it would do so for AMX (Xeons since 2023): compilers drop stores of its tile configuration, and the
    first decode ends the process (https://github.com/ggml-org/llama.cpp/issues/20824, pull request 26954).
    """
    return "AMX_INT8 = 1" not in system_info()


def repacked_types() -> frozenset[str]:
    """Ggml's names of the types whose matrices llama.cpp lays out anew on this processor; the mapped ones stay too.

    Compared with what it logs (tests/test_memory.py), on ARM under emulation.
    """
    if not can_repack():
        return frozenset()
    uses = {part.rpartition(":")[2].strip() for part in system_info().split("|")}
    found: set[str] = set()
    if "AVX2 = 1" in uses:
        found |= {"q4_0", "q4_K", "iq4_nl", "mxfp4"}
    if "AVX512 = 1" in uses:
        found |= {"q2_K"}
    if "DOTPROD = 1" in uses:
        found |= {"q4_0", "q4_K", "q5_K", "q6_K", "q8_0", "iq4_nl", "mxfp4"}
    return frozenset(found)


def model_params() -> llama.llama_model_params:
    """llama.cpp's default parameters of a model, such that this machine can run it."""
    params = llama.llama_model_default_params()
    params.use_extra_bufts = can_repack()
    return params


def layers_that_fit(n_layer: int, needed: int, free: int) -> int:
    """How many of a model's layers a device takes.

    Args:
        n_layer: layers of the model; the output counts as one more.
        needed: bytes of the whole model and its cache.
        free: bytes free on the devices.
    """
    if needed <= free * _HEADROOM:
        return n_layer + 1
    return int((n_layer + 1) * free * _HEADROOM / needed)


def takers_of_layers(names: Sequence[str] | None = None) -> list[Device]:
    """The devices that take layers, all or those of these names.

    Raises:
        ConfigError: there is none of such a name.
    """
    takers = [device for device in devices() if device.takes_layers]
    if names is None:
        return takers
    known = {device.name: device for device in takers}
    for name in names:
        if name not in known:
            there = f"one of {', '.join(known)}" if known else "none: this build of llama.cpp finds no GPU here"
            raise ConfigError(f"devices names {name!r}: it must be {there}")
    return [known[name] for name in names]


def device_list(chosen: Sequence[Device]) -> ctypes.Array[ctypes.c_void_p]:
    """llama.cpp's list of devices, which ends with a null pointer."""
    registry, library = ggml_devices(), ggml()
    every = [registry.ggml_backend_dev_get(index) for index in range(registry.ggml_backend_dev_count())]
    by_name = {library.ggml_backend_dev_name(handle).decode(): handle for handle in every}
    return (ctypes.c_void_p * (len(chosen) + 1))(*(by_name[device.name] for device in chosen))


def offload(gpu_layers: int | str, n_layer: int, needed: int, takers: Sequence[Device]) -> int:
    """The number of layers to ask llama.cpp to offload to these devices: 0 where there are none."""
    if not takers:
        return 0
    if gpu_layers == "auto":
        return layers_that_fit(n_layer, needed, sum(device.free_memory for device in takers))
    return n_layer + 1 if gpu_layers == "all" else int(gpu_layers)
