"""llama.cpp's objects after `close` and after `fork`: an error, where C would crash or wait for ever."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from entropix_edge.errors import ContextError
from entropix_edge.llama import Context, Model, Vocabulary
from entropix_edge.types import Cell

CELLS = [Cell(5, 0, 0, wanted=True)]
ARGUMENTS: dict[str, object] = {
    "cells": CELLS,
    "source": 0,
    "target": 1,
    "sequence": 0,
    "state": b"state",
    "text": "hello\x01",
    "texts": ["hello"],
    "token": 60,
    "tokens": [60],
}


def call(owner: Any, name: str) -> object:
    """Read a property, or call a method with an argument of each name."""
    attribute = getattr(owner, name)
    if not callable(attribute):
        return attribute
    required = [p.name for p in inspect.signature(attribute).parameters.values() if p.default is p.empty]
    return attribute(*(ARGUMENTS[parameter] for parameter in required))


@pytest.mark.parametrize("kind", [Context, Model, Vocabulary])
def test_every_method_refuses_what_is_closed(kind: type, tiny_model: Path) -> None:
    public = [name for name, value in vars(kind).items() if callable(value) or isinstance(value, property)]
    public = [name for name in public if not name.startswith("_") and name not in ("close", "abandon")]
    assert len(public) > 2
    with Model(tiny_model) as model:
        context = Context(model, n_ctx=64, threads=1)
        context.decode(CELLS)
        context.close()
    owner: Any = {Context: context, Model: model, Vocabulary: model.vocabulary}[kind]
    for name in public:
        with pytest.raises(ContextError, match=rf"^the {kind.__name__.lower()} is closed: open it again$"):
            call(owner, name)
    owner.close()


def test_a_model_closes_its_contexts_first(tiny_model: Path) -> None:
    model = Model(tiny_model)
    context = Context(model, n_ctx=64, threads=1)
    model.close()
    with pytest.raises(ContextError, match="the context is closed"):
        context.decode(CELLS)
    with pytest.raises(ContextError, match="the model is closed"):
        Context(model, n_ctx=64)


def test_an_open_object_has_its_handle_in_its_own_dict(tiny_model: Path) -> None:
    """So that the guard costs nothing: the class's attribute is asked only where the instance has none."""
    with Model(tiny_model) as model, Context(model, n_ctx=64, threads=1) as context:
        assert vars(context)["handle"]
        assert vars(model)["handle"]
        assert not hasattr(inspect.getattr_static(Context, "handle"), "__set__")


FORK = """
import os, signal, sys
from pathlib import Path
from entropix_edge.errors import ContextError
from entropix_edge.llama import Context, Model
from entropix_edge.types import Cell
cells = [Cell(5, 0, 0, wanted=True)]

def said(call):
    try:
        return str(call())
    except ContextError as error:
        return str(error)

model = Model(Path(sys.argv[1]))
context = Context(model, n_ctx=64, threads=2)
if sys.argv[2] == "decoded":
    context.decode(cells)
child = os.fork()
if not child:
    signal.alarm(20)
    print(said(lambda: context.decode(cells)))
    print(said(lambda: context.truncate(0)))
    print(said(lambda: len(Context(model, n_ctx=64, threads=2).decode(cells))))
    print(model.vocabulary.tokenize("t ..."))
    context.close()
    model.close()
    sys.exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
context.truncate(0)
print(code, len(context.decode(cells)))
"""
IN_CHILD = "the context was opened before this process was forked: open one here"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("before", ["decoded", "only opened"])
def test_a_forked_child_is_told_rather_than_left_waiting(before: str, tiny_model: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(tiny_model), before]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    new = (
        "llama.cpp cannot compute in a process that was forked after its parent had decoded: "
        "start it with the method 'spawn', or fork before the first decode"
    )
    expected = [IN_CHILD, IN_CHILD, new if before == "decoded" else "1"]
    *in_child, tokens, in_parent = done.stdout.splitlines()
    assert in_child == expected
    assert tokens == "[119, 262]"
    assert in_parent == "0 1"
