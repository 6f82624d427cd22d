"""Where machine code is kept, and how long."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from entropix_edge import native
from entropix_edge.cli.session import compiling
from entropix_edge.native import cache
from entropix_edge.native.scratch import (
    Scratch,
    folded,
    indices_at,
    maxima_at,
    top_maxima_at,
    values_at,
    weights_at,
)

MONTH = 30 * 24 * 3600


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    chosen = tmp_path / "kept"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(chosen))
    return chosen


def test_what_is_kept_comes_back(folder: Path) -> None:
    assert list(cache.kept("kernels")) == []
    cache.keep("kernels", b"code")
    assert list(cache.kept("kernels")) == [b"code"]
    assert list(cache.kept("tap")) == []


def test_code_that_nobody_used_for_a_month_is_removed(folder: Path) -> None:
    cache.keep("kernels", b"code")
    [own] = folder.iterdir()
    names = {
        "kernels-0123456789abcdef.o": True,  # another version's
        "tap-0123456789abcdef.o": True,
        ".entropix-edge-0123456789abcdef.part": True,  # a write that was killed
        "kernels-notes.o": False,
        "describe-1.py311.nbi": False,  # numba's own, in the same folder
    }
    for age, stays in ((MONTH - 3600, True), (MONTH + 3600, False)):
        for name in names:
            (folder / name).write_bytes(b"")
            os.utime(folder / name, (0, time.time() - age))
        os.utime(own, (0, 0))
        list(cache.kept("kernels"))  # in use, and so not old
        cache.keep("tap", b"code")
        left = {path.name for path in folder.iterdir()}
        assert {name for name in names if name not in left} == {name for name in names if names[name] and not stays}
        assert own.name in left


def test_whether_code_can_be_kept_is_known_beforehand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.can_keep()
    assert list(folder.iterdir()) == []
    folder.rmdir()
    folder.write_bytes(b"a file")
    assert not native.can_keep()
    cache.keep("kernels", b"code")
    assert folder.read_bytes() == b"a file"
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/dev/null/kept")  # not even root can make it
    assert not native.can_keep()


def test_compiling_is_said_to_happen_once_where_it_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiling() == "Compiling the kernels for this machine: some seconds, once."
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/dev/null/kept")
    assert "some seconds, at every start: no folder can be written" in compiling()


def test_a_user_without_a_home_keeps_code_beside_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("ENTROPIX_EDGE_HOME", "~no-such-user/x")
    assert [folder.name for folder in cache._folders()] == ["__pycache__"]


def test_a_scratch_holds_what_its_layout_says() -> None:
    for size in (1, 7, 8, 9, 63, 64, 65, 1000, 49152):
        places = [
            weights_at(0),
            indices_at(0, size),
            values_at(0, size),
            maxima_at(0, size),
            top_maxima_at(0, size),
        ]
        maxima = folded(size)
        lengths = [8 * size, 8 * size, 4 * size, 4 * maxima, 4 * folded(maxima)]
        for place, length, following in zip(places, lengths, [*places[1:], None], strict=True):
            end = place + length
            assert end <= (Scratch(size)._words.nbytes if following is None else following)
