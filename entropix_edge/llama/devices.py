"""What this machine has: cores for threads, devices for layers, memory for both."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import llama_cpp
import llama_cpp.llama_cpp as llama

from .library import ggml, ggml_devices, initialise

_KINDS = {0: "CPU", 1: "GPU", 2: "integrated GPU", 3: "accelerator"}
_OFFLOAD_KINDS = (1, 2)
_HEADROOM = 0.9  # share of a device's free memory that a model may fill


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One compute device. Memory is in bytes."""

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
        found.append(
            Device(
                name=library.ggml_backend_dev_name(handle).decode(),
                description=library.ggml_backend_dev_description(handle).decode(),
                kind=_KINDS.get(kind, "other"),
                takes_layers=kind in _OFFLOAD_KINDS,
                free_memory=free.value,
                total_memory=total.value,
            )
        )
    return found


def llama_cpp_version() -> str:
    """The version of llama-cpp-python."""
    return str(llama_cpp.__version__)


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


def offload(gpu_layers: int | str, n_layer: int, needed: int) -> int:
    """The number of layers to ask llama.cpp to offload: 0 where nothing takes them."""
    takers = [device for device in devices() if device.takes_layers]
    if not takers:
        return 0
    if gpu_layers == "auto":
        return layers_that_fit(n_layer, needed, sum(device.free_memory for device in takers))
    return n_layer + 1 if gpu_layers == "all" else int(gpu_layers)


# --- threads and memory -----------------------------------------------------------------------------


@cache
def default_threads() -> int:
    """Cores worth computing on: the performance cores of a Mac, else the physical cores we may use."""
    if sys.platform == "darwin":
        for key in ("hw.perflevel0.physicalcpu", "hw.physicalcpu"):
            if count := _sysctl(key):
                return count
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    count = len(allowed) if allowed is not None else os.cpu_count() or 1
    siblings = {_siblings(cpu) for cpu in allowed} if allowed is not None else set()
    if siblings and "" not in siblings:
        count = len(siblings)
    return max(1, min(count, _quota() or count))


def _siblings(cpu: int) -> str:
    """The hardware threads that share a core with this one, as Linux writes them; empty if unknown."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return ""


def _quota() -> int | None:
    """Whole processors that a container may use, None where nothing limits it."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None


def available_memory() -> int | None:
    """Bytes that a new allocation may expect, None where the system does not say."""
    if sys.platform == "darwin":
        return _sysctl("hw.memsize")
    amounts = [amount for amount in (_meminfo_available(), _container_room()) if amount is not None]
    return min(amounts) if amounts else None


def _meminfo_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _container_room() -> int | None:
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        current = int((group / "memory.current").read_text())
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return limit - current + int(cached.get("file", 0))
    except (OSError, ValueError):
        return None


def _sysctl(key: str) -> int | None:
    try:
        result = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=True, timeout=5)
        return int(result.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
