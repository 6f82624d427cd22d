"""The list of architectures is that of the llama.cpp that is installed."""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path

import llama_cpp
import pytest

from entropix_edge.llama import architectures, read_header, soundness
from entropix_edge.llama.library import llama_functions

ADVICE = "llama.cpp has moved: run scripts/architectures.py, and look at what is new"


def test_the_list_was_made_for_this_llama_cpp() -> None:
    assert llama_cpp.__version__ == architectures.MADE_FOR, ADVICE


def test_the_list_is_that_of_the_library() -> None:
    """llama.cpp exports its function under its C++ name."""
    name_of = llama_functions()._Z13llm_arch_name8llm_arch
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.c_int]
    compiled = {name_of(number).decode() for number in range(1000)} - {"unknown", "(unknown)"}
    assert compiled == architectures.KNOWN, ADVICE


def test_every_list_names_what_is_known() -> None:
    assert architectures.KNOWN >= architectures.EMBEDDERS | architectures.OTHERS | architectures.WHOLE_HEAD_ROTATED
    assert not architectures.EMBEDDERS & architectures.OTHERS
    assert {"llama", "qwen2", "granitemoe"} <= architectures.WHOLE_HEAD_ROTATED
    assert {"gpt2", "gemma3", "mamba"}.isdisjoint(architectures.WHOLE_HEAD_ROTATED)


def test_another_llama_cpp_is_warned_of_once(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(soundness, "llama_cpp_version", lambda: "9.9.9")
    soundness.warn_of_another_llama_cpp.cache_clear()
    with caplog.at_level(logging.WARNING, "entropix_edge"):
        read_header(tiny_model)
        read_header(tiny_model)
    soundness.warn_of_another_llama_cpp.cache_clear()
    said = "files are checked for llama-cpp-python {} and this is 9.9.9: a damaged one may end the process"
    assert [record.getMessage() for record in caplog.records] == [said.format(architectures.MADE_FOR)]
