"""Folders of the user's, files written at once, logs that a killed run goes on with."""

from __future__ import annotations

import gzip
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entropix_edge import storage
from entropix_edge.errors import ConfigError
from entropix_edge.storage import (
    Log,
    LogFormat,
    cache_folder,
    config_folder,
    data_folder,
    json_line,
    read_log,
    write_whole,
)

# --- folders ----------------------------------------------------------------------------------------


@pytest.mark.skipif(os.uname().sysname == "Darwin", reason="macOS has folders of its own")
def test_folders_are_where_the_platform_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    assert (config_folder(), data_folder(), cache_folder()) == (home, home, home / "cache")
    monkeypatch.delenv("ENTROPIX_EDGE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder, variable, default in (
        (config_folder, "XDG_CONFIG_HOME", ".config"),
        (data_folder, "XDG_DATA_HOME", ".local/share"),
        (cache_folder, "XDG_CACHE_HOME", ".cache"),
    ):
        monkeypatch.setenv(variable, str(tmp_path / "xdg"))
        assert folder() == tmp_path / "xdg" / "entropix-edge"
        monkeypatch.setenv(variable, "relative")
        assert folder() == tmp_path / default / "entropix-edge"


def test_a_home_that_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTROPIX_EDGE_HOME", "~no-such-user/x")
    for folder in (config_folder, data_folder, cache_folder):
        with pytest.raises(FileNotFoundError, match=r"ENTROPIX_EDGE_HOME is '~no-such-user/x': there is no such home"):
            folder()


# --- files written at once --------------------------------------------------------------------------


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_a_new_file_has_the_umask_s_mode_and_an_old_one_keeps_its_own(tmp_path: Path, umask: None) -> None:
    path = tmp_path / "file"
    write_whole(path, [b"one"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    write_whole(path, [b"t", b"wo"], durable=False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert path.read_bytes() == b"two"


def test_a_link_keeps_pointing_at_the_file(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(path)
    for text in (b"one", b"two"):
        write_whole(link, [text])
        assert link.is_symlink()
        assert path.read_bytes() == text


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def parts() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, parts())
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_only_files_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(OSError, match="is not a regular file: give another path"):
            write_whole(tmp_path / name, [b"x"])
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none" / "file", [b"x"])
    assert [each.name for each in tmp_path.iterdir()] == ["pipe"]


def test_a_line_of_json_says_any_name() -> None:
    for name in ("a", "é", "\U0001f642", os.fsdecode(b"odd\xff"), 'quo"te\n'):
        line = json_line({"path": name})
        assert line.count(b"\n") == 1
        assert json.loads(line.decode("utf-8")) == {"path": name}
    assert "é" in json_line("é").decode()


# --- logs -------------------------------------------------------------------------------------------

NUMBERS = LogFormat[int]("list of numbers", lambda value: int(value["n"]), lambda number: {"n": number})
SETTINGS: dict[str, Any] = {"model": "m", "layers": (1, 2)}


def log_of(path: Path, *numbers: int, **options: Any) -> list[int]:
    """What the log holds when it is opened, and then adds."""
    with Log(path, NUMBERS, SETTINGS, **options) as log:
        for number in numbers:
            log.add(number)
        return log.records


def test_one_run_at_a_time_writes_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Log(path, NUMBERS, SETTINGS) as log:
        log.add(1)
        for options in ({}, {"anew": True}):
            with pytest.raises(ConfigError, match="log is being written by another run: wait for it"):
                Log(path, NUMBERS, SETTINGS, **options)
        log.add(2)
    assert log_of(path, 3) == [1, 2, 3]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 80), numbers=st.lists(st.integers(0, 10**6), max_size=4))
def test_a_log_cut_anywhere_goes_on(tmp_path: Path, cut: int, numbers: list[int]) -> None:
    path, whole = tmp_path / "log", tmp_path / "whole"
    assert log_of(whole, *numbers, anew=True) == numbers
    data = whole.read_bytes()
    path.write_bytes(data[: max(len(data) - cut, 0)])
    if 0 < path.stat().st_size < len(b'{"settings": {'):
        path.write_bytes(b"")
    kept = log_of(path)
    assert kept == numbers[: len(kept)]
    assert log_of(path, *numbers[len(kept) :]) == numbers
    assert path.read_bytes() == data
    assert read_log(path, NUMBERS) == ({"model": "m", "layers": [1, 2]}, numbers)


def test_a_record_is_there_as_soon_as_it_is_added(tmp_path: Path) -> None:
    with Log(tmp_path / "log", NUMBERS, SETTINGS) as log:
        log.add(7)
        assert read_log(tmp_path / "log", NUMBERS)[1] == [7]


def test_other_settings_are_named_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log_of(path, 1)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"list of numbers with model 'm', and this run has 'other'"):
        Log(path, NUMBERS, SETTINGS | {"model": "other"})
    assert path.read_bytes() == before
    assert log_of(path, anew=True) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"hello\n", "is not a list of numbers: its first line must hold the settings"),
        (b"hello", "is not a list of numbers"),
        (b"[1]\n", "is not a list of numbers"),
        (b'{"settings": 3}\n', "is not a list of numbers"),
        (b"\xff\n", "is not a list of numbers"),
        (b"[" * 100_000 + b"\n", "is not a list of numbers"),
        (b'{"settings": {"model": "m", "layers": [1, 2]}}\n{"n": 1}\n{"m": 1}\n', "line 3 is not a record of a list"),
        (b'{"settings": {"model": "m", "layers": [1, 2]}}\n\xff\n', "line 2 is not a record of a list of numbers"),
    ],
)
def test_a_file_that_holds_something_else_is_left_alone(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=rf"notes\.txt.* {message}"):
        Log(path, NUMBERS, SETTINGS)
    assert path.read_bytes() == text


def test_a_name_that_is_not_utf8_is_a_setting_too(tmp_path: Path) -> None:
    odd = {"model": os.fsdecode(b"m\xff.gguf")}
    for _ in range(2):
        Log(tmp_path / "log", NUMBERS, odd).close()
    assert read_log(tmp_path / "log", NUMBERS)[0] == odd


def test_the_fingerprint_of_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        storage.fingerprint(tmp_path / "none")


# --- gzipped logs -----------------------------------------------------------------------------------

PLAIN: LogFormat[dict[str, Any]] = LogFormat("test log", dict, dict)


@pytest.fixture
def gzipped(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl.gz"
    with Log(path, PLAIN, {"a": 1}) as log:
        for number in range(3):
            log.add({"number": number, "text": "é" * 50})
    return path


def test_a_gzipped_log_is_one_gzipped_text(gzipped: Path) -> None:
    lines = gzip.decompress(gzipped.read_bytes()).decode().splitlines()
    assert [json.loads(line).get("number") for line in lines] == [None, 0, 1, 2]
    assert read_log(gzipped, PLAIN)[1] == [{"number": number, "text": "é" * 50} for number in range(3)]


def test_a_gzipped_log_goes_on_wherever_a_kill_cut_it(gzipped: Path) -> None:
    data = gzipped.read_bytes()
    for cut in range(len(data)):
        gzipped.write_bytes(data[:cut])
        with Log(gzipped, PLAIN, {"a": 1}) as log:
            kept = [record["number"] for record in log.records]
            assert kept == [0, 1, 2][: len(kept)]
            log.add({"number": 9})
        assert [record["number"] for record in read_log(gzipped, PLAIN)[1]] == [*kept, 9]


def test_a_log_that_another_program_packed_goes_on(gzipped: Path) -> None:
    gzipped.write_bytes(gzip.compress(gzip.decompress(gzipped.read_bytes())))
    with Log(gzipped, PLAIN, {"a": 1}) as log:
        log.add({"number": 3})
    assert [record["number"] for record in read_log(gzipped, PLAIN)[1]] == [0, 1, 2, 3]


@pytest.mark.parametrize("data", [b"plain text", gzip.compress(b"something else"), gzip.compress(b"else" * 99)[:-9]])
def test_another_file_is_not_written_over(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"gzipped|settings"):
        Log(path, PLAIN, {})
    assert path.read_bytes() == data


def test_damage_before_the_last_line_is_refused_and_nothing_is_lost(gzipped: Path) -> None:
    whole = gzipped.read_bytes()
    last = whole.rindex(b"\x1f\x8b\x08")
    for place in range(last):
        data = bytearray(whole)
        data[place] ^= 0x24
        gzipped.write_bytes(data)
        try:
            with Log(gzipped, PLAIN, {"a": 1}) as log:
                assert len(log.records) == 3  # a time stamp, say
        except ConfigError:
            pass
        assert gzipped.read_bytes() == data
