"""Where the program starts all the same: users without a home, paths that are no text."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHORT = ["-t", "1", "-n", "3", "-s", "1"]

# The system's answer about a user that is not in its list, as in a container.
WITHOUT_HOME = """
import pwd, sys
def nobody(*_): raise KeyError("no such user")
pwd.getpwuid = nobody
from entropix_edge.cli import main
main()
"""


def run(
    *arguments: str, changes: dict[str, str | None], program: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, with changes to the environment."""
    kept = {name: value for name, value in os.environ.items() if name not in changes}
    begin = ["-m", "entropix_edge"] if program is None else ["-c", program]
    return subprocess.run(
        [sys.executable, *begin, *arguments],
        env=kept | {name: value for name, value in changes.items() if value is not None},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        cwd=cwd,
    )


HOMELESS: dict[str, str | None] = {"HOME": None, "XDG_CONFIG_HOME": None, "XDG_DATA_HOME": None}
FOLDERLESS = pytest.mark.parametrize(
    ("home", "complaint"),
    [
        (None, b"this user has no home folder: set ENTROPIX_EDGE_HOME to a folder"),
        ("~no-such-user/x", b"ENTROPIX_EDGE_HOME is '~no-such-user/x': there is no such home folder: give a path"),
    ],
)


@FOLDERLESS
def test_a_user_without_a_home_can_open_files(
    tiny_model: Path, compiled: None, home: str | None, complaint: bytes
) -> None:
    model = str(tiny_model)
    for arguments in (["generate", "-m", model, *SHORT, "hi"], ["info", model], ["ls"]):
        result = run(*arguments, changes=HOMELESS | {"ENTROPIX_EDGE_HOME": home}, program=WITHOUT_HOME)
        assert result.returncode == 0, result.stderr
        assert b"Traceback" not in result.stderr


@FOLDERLESS
def test_a_command_that_needs_a_folder_says_what_to_set(
    tiny_model: Path, compiled: None, home: str | None, complaint: bytes
) -> None:
    model = str(tiny_model)
    for arguments in (["calibrate", model], ["eval", "-m", model, "-n", "1", "--limit", "1"]):
        result = run(*arguments, changes=HOMELESS | {"ENTROPIX_EDGE_HOME": home}, program=WITHOUT_HOME)
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1] == b"Error: " + complaint


ASCII: dict[str, str | None] = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
UTF_8: dict[str, str | None] = {"LC_ALL": "C.UTF-8"}


@pytest.mark.parametrize(
    ("name", "locale"), [(b"m\xff.gguf", UTF_8), (b"m\xff.gguf", ASCII), ("模型.gguf".encode(), ASCII)]
)
def test_any_path_opens_and_is_shown(
    tiny_model: Path, tmp_path: Path, compiled: None, name: bytes, locale: dict[str, str | None]
) -> None:
    path = os.fsdecode(name)
    shutil.copy(tiny_model, tmp_path / path)
    trace, cache, results = (f"{kind}-{path}" for kind in ("trace", "cache", "results"))
    generate = ["generate", "-m", path, *SHORT, "--prompt-cache", cache, "hi"]
    ask = ["eval", "-m", path, "-t", "1", "-n", "2", "--limit", "1", "--policy", "greedy", "--format", "json"]
    for arguments in (
        ["info", path],
        ["pull", path],
        [*generate, "--trace", trace, "--json"],
        [*generate, "--trace", trace],  # from the prompt cache
        [*ask, "--out", results],
        [*ask, "--out", results],  # from the results
    ):
        result = run(*arguments, changes=locale, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert b"Traceback" not in result.stderr
    missing = run("generate", "-m", f"./none-{path}", "hi", changes=locale, cwd=tmp_path)
    assert missing.returncode == 1
    assert missing.stderr.startswith(b"Error: no such file: none-")
    [header, *_] = (tmp_path / trace).read_text("utf-8").splitlines()
    assert json.loads(header)["model"].endswith(".gguf")
