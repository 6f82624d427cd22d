"""A file is trusted once its checksum held, and until it changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from entropix_edge.hub.verify import matches, remember, remembered

CONTENT = b"GGUF" + bytes(1000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Reads:
    """Counts how often a file is hashed."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, description: str, done: int, total: int | None) -> None:
        assert description == "checking model.gguf"
        assert done == total
        self.count += 1


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENTROPIX_EDGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def model(tmp_path: Path, home: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(CONTENT)
    return path


def test_a_file_is_hashed_once(model: Path) -> None:
    reads = Reads()
    for _ in range(3):
        assert matches(model, SHA256, size=len(CONTENT), progress=reads)
    assert reads.count == 1
    assert remembered(model) == SHA256


def test_a_changed_file_is_hashed_again(model: Path) -> None:
    reads = Reads()
    assert matches(model, SHA256, progress=reads)
    model.write_bytes(CONTENT[:-1] + b"x")
    os.utime(model, ns=(1, 1))
    assert remembered(model) is None
    assert not matches(model, SHA256, progress=reads)
    assert reads.count == 2


def test_what_does_not_match(model: Path) -> None:
    assert not matches(model, SHA256, size=1)
    assert not matches(model, "0" * 64)
    assert not matches(model.with_name("missing"), SHA256)
    assert matches(model, SHA256)
    assert not matches(model, "0" * 64)  # a record of another checksum is no proof


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b"null", b'{"x": 3}', b'{"x": [1, 2]}', b"[" * 100_000, b"\xff"])
def test_a_corrupt_record_is_no_record(model: Path, home: Path, record: bytes) -> None:
    home.mkdir()
    (home / "verified.json").write_bytes(record)
    reads = Reads()
    assert matches(model, SHA256, progress=reads)
    assert matches(model, SHA256, progress=reads)
    assert reads.count == 1


def test_a_record_that_cannot_be_written_is_not_missed(model: Path, home: Path) -> None:
    home.write_text("a file where the folder should be")
    assert matches(model, SHA256)
    assert matches(model, SHA256)


def test_files_that_are_gone_leave_the_record(model: Path, home: Path) -> None:
    remember(model, SHA256)
    other = model.with_name("other.gguf")
    other.write_bytes(b"x")
    model.unlink()
    remember(other, "1" * 64)
    assert model.name not in (home / "verified.json").read_text()
    assert [path.name for path in home.iterdir()] == ["verified.json"]
