"""llama-cpp-python's low-level bindings, without its high-level API, whose imports take 50 ms of every start."""

from __future__ import annotations

import re
import sys
import threading
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

after_package: list[Callable[[], object]] = []
"""What is called when the package's own code has run, which gives llama.cpp's log to itself."""

_lock = threading.RLock()  # its own code may ask it for what is not there yet


def _defer_package() -> None:
    """Put the package llama_cpp into `sys.modules` with its own code not yet run.

    Its submodules can be imported then. Whoever asks for anything else of it gets it, as ever: asking runs its code.
    """
    spec = None if "llama_cpp" in sys.modules else find_spec("llama_cpp")
    if spec is None or spec.loader is None:
        return  # imported by others, or not installed, which the import says better
    package, run = module_from_spec(spec), spec.loader.exec_module
    is_run = False

    def complete(name: str) -> Any:
        nonlocal is_run
        with _lock:  # of several threads one runs it, and the others wait
            if not is_run:
                is_run = True
                try:
                    run(package)
                except BaseException:
                    is_run = False
                    raise
                for call in after_package:
                    call()
        if name in package.__dict__:
            return package.__dict__[name]
        raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")

    package.__dict__["__getattr__"] = complete
    sys.modules["llama_cpp"] = package


_defer_package()

import llama_cpp.llama_cpp as llama  # noqa: E402

__all__ = ["after_package", "high_level", "llama", "version"]


def high_level() -> Any:
    """The whole package llama_cpp."""
    import llama_cpp

    return llama_cpp


def version() -> str:
    """The version of llama-cpp-python, as its package says it."""
    text = Path(str(high_level().__file__)).read_text("utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return found[1] if found else str(high_level().__version__)
