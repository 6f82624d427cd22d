"""What `doctor` looks at: each check says what it found, and how a fault is mended."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import sys
from typing import TYPE_CHECKING, Literal, NamedTuple

from rich.filesize import decimal

from ..errors import EntropixError
from .defaults import config_path, read_config

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    import click

_GIB = 2**30
_MUCH = 3 * _GIB  # of memory: with less, compiling llama.cpp may need swap
_HOT = 80.0  # degrees Celsius; a Raspberry Pi slows down from here on

# llama.cpp's name of what a build uses, and Linux's names of what the processor must have for it.
_FEATURES = {
    "AVX": "avx",
    "AVX2": "avx2",
    "F16C": "f16c",
    "FMA": "fma",
    "BMI2": "bmi2",
    "AVX_VNNI": "avx_vnni",
    "AVX512": "avx512f",
    "AVX512_VBMI": "avx512vbmi",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "NEON": "asimd",
    "DOTPROD": "asimddp",
    "MATMUL_INT8": "i8mm",
    "FP16_VA": "asimdhp",
    "SVE": "sve",
}
_REBUILD = "pip install --force-reinstall --no-binary llama-cpp-python --no-cache-dir --no-deps llama-cpp-python"


class Check(NamedTuple):
    """What was found.

    Attributes:
        name: of what was looked at.
        state: a fault keeps something from working; a warning makes it slow or may.
        found: in words.
        mend: what to do about it; empty where nothing is to be done.
    """

    name: str
    state: Literal["ok", "warning", "fault"]
    found: str
    mend: str = ""


def python(translated: bool) -> Check:
    """The interpreter: version, width, and whether it is translated by Rosetta."""
    bits = struct.calcsize("P") * 8
    found = f"{platform.python_version()}, {bits} bits, {platform.machine()}"
    if translated:
        return Check(
            "python",
            "fault",
            f"{found}, for Intel's processors, translated by Rosetta: llama.cpp has neither Metal nor speed in it",
            "install a Python for Apple Silicon (arm64) and entropix-edge in it anew",
        )
    if sys.version_info < (3, 11) or bits < 64:
        return Check("python", "fault", found, "install a 64-bit Python, 3.11 or newer")
    return Check("python", "ok", found)


def compiler(which: Callable[[str], str | None] = shutil.which) -> Check:
    """What compiles llama.cpp, which only an installation needs."""
    names = [name for name in ("c++", "g++", "clang++") if which(name)]
    if names:
        return Check("compiler", "ok", which(names[0]) or names[0])
    get = "xcode-select --install" if sys.platform == "darwin" else "apt install g++ cmake (or your system's packages)"
    return Check("compiler", "warning", "none: llama.cpp could not be compiled anew", get)


def build(info: str, features: Collection[str]) -> Check:
    """What llama.cpp was compiled for, against the processor.

    Args:
        info: llama.cpp's own list, from `system_info`.
        features: of the processor; none where that is not known.
    """
    parts = (part.rpartition(":")[2].strip() for part in info.split("|"))
    used = {part.partition(" = ")[0] for part in parts if part.endswith("= 1")}
    found = f"llama.cpp uses {', '.join(name for name in _FEATURES if name in used) or 'no special instructions'}"
    if not features:
        return Check("build", "ok", found)
    missing = [name for name in used & _FEATURES.keys() if _FEATURES[name] not in features]
    if missing:
        lacks = ", ".join(sorted(missing))
        return Check("build", "fault", f"{found}; this processor lacks {lacks}: it may crash", _REBUILD)
    unused = [name for name, flag in _FEATURES.items() if flag in features and name not in used]
    if unused:
        return Check("build", "warning", f"{found}; this processor also has {', '.join(unused)}", _REBUILD)
    return Check("build", "ok", found)


def not_loaded(error: Exception) -> Check:
    """What keeps llama.cpp from being loaded: nothing can be asked of it then."""
    why = " ".join(str(error).split())
    return Check("llama.cpp", "fault", f"it cannot be loaded: {why}", _REBUILD)


def version(installed: str, made_for: str) -> Check:
    """The version of llama-cpp-python against the one that the attention taps were written for."""
    found = f"llama-cpp-python {installed}"
    if installed == made_for:
        return Check("llama.cpp", "ok", found)
    return Check(
        "llama.cpp", "warning", f"{found}, and {made_for} is expected", f"install llama-cpp-python=={made_for}"
    )


def memory(available: int | None, total: int | None) -> Check:
    """Memory that a model may take."""
    if available is None or total is None:
        return Check("memory", "ok", "the system does not say")
    found = f"{decimal(available)} available of {decimal(total)}"
    if available < _GIB // 2:
        return Check("memory", "warning", found, "close other programs, or take the smallest model: smollm2-135m")
    return Check("memory", "ok", found)


def swap(swapped: tuple[int, int] | None, total: int | None) -> Check:
    """Swap, which a build on a small machine needs."""
    if swapped is None:
        return Check("swap", "ok", "the system does not say")
    every, free = swapped
    found = f"{decimal(free)} free of {decimal(every)}" if every else "none"
    if not every and total is not None and total < _MUCH:
        return Check(
            "swap",
            "warning",
            found,
            "add 2 GB of swap before llama.cpp is compiled, or set CMAKE_BUILD_PARALLEL_LEVEL=1",
        )
    return Check("swap", "ok", found)


def heat(degrees: float | None, throttled: str | None) -> Check:
    """Temperature, and what a Raspberry Pi's firmware says."""
    said = [f"{degrees:.0f} °C"] if degrees is not None else []
    said += [f"throttling: {throttled}"] if throttled else []
    found = "; ".join(said) or "the system does not say"
    if (degrees or 0) >= _HOT or (throttled and throttled != "none"):
        power = "; under-voltage needs a stronger power supply" if throttled and "voltage" in throttled else ""
        return Check("heat", "warning", found, f"cool the processor: a heat sink and a fan{power}")
    return Check("heat", "ok", found)


def folders(places: Mapping[str, Callable[[], Path]]) -> Iterator[Check]:
    """The user's folders: whether they can be written."""
    for name, place in places.items():
        try:
            path = place()
        except OSError as error:
            yield Check(name, "fault", str(error), "set ENTROPIX_EDGE_HOME to a folder")
            continue
        existing = next(parent for parent in (path, *path.parents) if parent.exists())
        if os.access(existing, os.W_OK | os.X_OK) and existing.is_dir():
            yield Check(name, "ok", str(path))
        else:
            yield Check(name, "fault", f"{path} cannot be written", f"make {existing} yours, or set ENTROPIX_EDGE_HOME")


def settings(commands: Callable[[], Mapping[str, click.Command]]) -> Check:
    """config.toml: whether it is understood."""
    try:
        path = config_path()
        found = read_config(path, commands)
    except (EntropixError, OSError) as error:
        return Check("config.toml", "fault", str(error), "mend the file, or remove it")
    return Check("config.toml", "ok", f"{path}, {len(found)} entries" if found else "none")


def kernels(can_keep: bool) -> Check:
    """Whether compiled kernels can be kept."""
    if can_keep:
        return Check("kernels", "ok", "compiled once, and kept")
    return Check(
        "kernels", "warning", "no folder keeps them: compiled at every start", "make the cache folder writable"
    )


def hub(reach: Callable[[], str | None], *, offline: bool) -> Check:
    """Whether models can be fetched."""
    if offline:
        return Check("hub", "ok", "not asked: offline")
    fault = reach()
    if fault is None:
        return Check("hub", "ok", "reachable")
    return Check("hub", "warning", f"cannot be reached: {fault}", "check the network, HF_ENDPOINT and HTTPS_PROXY")


def gpu(names: Collection[str], system: str = sys.platform) -> Check:
    """Devices that take layers."""
    if names:
        return Check("gpu", "ok", ", ".join(names))
    if system == "darwin":
        return Check("gpu", "fault", "none, and this is a Mac: llama.cpp was built without Metal", _REBUILD)
    return Check("gpu", "ok", "none: all layers run on the CPU")
