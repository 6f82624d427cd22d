"""llama.cpp's objects after `close`, and in a process that was forked."""

from __future__ import annotations

import os
from typing import Any
from weakref import WeakSet

from ..errors import ContextError

_CLOSED = "is closed: open it again"
_FORKED = "was opened before this process was forked: open one here"


class Handle:
    """A C object's address, which its owner keeps as an attribute and removes when the object is freed.

    An instance's attribute goes before a descriptor of the class that has no `__set__`. So this one is asked only
    where there is no address any more, and as long as there is one the check costs nothing.
    """

    def __get__(self, owner: Any, kind: type) -> Any:
        if owner is None:
            return self
        raise ContextError(f"the {kind.__name__.lower()} {vars(owner).get('_gone', _CLOSED)}")


def forget_handles(owner: object, reason: str = _CLOSED) -> None:
    """Remove the addresses of an owner's C objects: touching one raises a ContextError from now on."""
    kept = vars(owner)
    for name, attribute in vars(type(owner)).items():
        if isinstance(attribute, Handle):
            kept.pop(name, None)
    kept.setdefault("_gone", reason)


class _Process:
    """What this process has of llama.cpp that a fork breaks.

    A child has none of its parent's threads, and OpenMP waits for them for ever. Memory is all that it has: a model's
    weights and vocabulary are as good in the child.
    """

    def __init__(self) -> None:
        self.contexts: WeakSet[Any] = WeakSet()
        self.has_computed = False
        self.cannot_compute = False

    def after_fork(self) -> None:
        self.cannot_compute = self.cannot_compute or self.has_computed
        for context in list(self.contexts):
            context.abandon(_FORKED)
        self.contexts = WeakSet()


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.after_fork)


def watch_for_forks(context: Any) -> None:
    """Have a context's `abandon` called, with the reason, where this process is the child of a fork.

    Raises:
        ContextError: it is one already, and llama.cpp would wait for ever for the threads of its parent.
    """
    if _process.cannot_compute:
        raise ContextError(
            "llama.cpp cannot compute in a process that was forked after its parent had decoded: "
            "start it with the method 'spawn', or fork before the first decode"
        )
    _process.contexts.add(context)


def has_computed() -> None:
    """Note that llama.cpp's threads are there."""
    _process.has_computed = True
