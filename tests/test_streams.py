"""The standard streams of every command: what cannot be written, who has stopped reading, and what is read."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tiny_gguf

Answer = Callable[[str], bytes]

COMMAND = [sys.executable, "-m", "entropix_edge"]
POLICIES = ["--policy", "greedy", "--policy", "temperature", "--limit", "2"]
REVISION = "0" * 40
LONG = "a-folder-with-a-long-name/" * 8


def environment(**variables: str) -> dict[str, str]:
    """As a user has it: Python writes to a buffer, which it does not where PYTHONUNBUFFERED is set."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONUNBUFFERED", "COLUMNS")}
    return kept | variables


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face cache with one model in it, far down."""
    folder = tmp_path_factory.mktemp("hf") / LONG
    snapshot = folder / "models--some--model-GGUF" / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    refs = folder / "models--some--model-GGUF" / "refs"
    refs.mkdir()
    (refs / "main").write_text(REVISION)
    tiny_gguf.write_llama(snapshot / "model-F32.gguf")
    return folder


def commands(model: Path, results: Path) -> dict[str, list[str]]:
    """One call of each command that writes to standard output, small."""
    common = ["-m", str(model), "-t", "1"]
    return {
        "generate": ["generate", *common, "-n", "4", "-s", "1", "hi"],
        "json": ["generate", *common, "-n", "4", "-s", "1", "hi", "--json"],
        "bench": ["bench", *common, "-p", "8", "-n", "3", "-d", "2", "-r", "1", "--no-start", "--loop", "greedy"],
        "eval": ["eval", *common, "-n", "4", "-np", "2", "-c", "256", *POLICIES, "--out", str(results)],
        "ls": ["ls"],
        "info": ["info", str(model)],
        "help": ["--help"],
        "help of generate": ["generate", "--help"],
        "version": ["--version"],
    }


NAMES = list(commands(Path(), Path()))


@pytest.fixture(params=NAMES)
def each(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> list[str]:
    return [*COMMAND, *commands(tiny_model, tmp_path / "results.jsonl")[request.param]]


# --- what cannot be written -------------------------------------------------------------------------


def test_a_full_disk_is_said_in_one_line(each: Sequence[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            each, stdout=full, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment(), timeout=60
        )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1:] == [b"Error: No space left on device"]
    assert b"Traceback" not in result.stderr
    assert b"Exception ignored" not in result.stderr


def test_a_reader_that_has_gone_is_no_failure(each: Sequence[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            each, stdout=writer, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment(), timeout=60
        )
    finally:
        os.close(writer)
    assert result.returncode == 0
    assert b"Error" not in result.stderr
    assert b"Exception ignored" not in result.stderr


def test_a_slow_reader_of_a_non_blocking_stream_gets_everything() -> None:
    # what Node.js and others leave behind; more than a pipe holds
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    command = [*COMMAND, "generate", "--help"]
    whole = subprocess.run(command, capture_output=True, env=environment(), timeout=60).stdout
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, env=environment()) as process:
        os.close(writer)
        time.sleep(1.5)
        with open(reader, "rb") as out:
            assert out.read() == whole
        assert process.wait(60) == 0
    assert len(whole) > 4096


@pytest.mark.parametrize("redirections", [">&-", "2>&-", "<&-", ">&- 2>&-", ">/dev/full 2>/dev/full"])
@pytest.mark.parametrize("name", ["generate", "ls"])
def test_closed_streams_end_in_an_exit_code(name: str, redirections: str, tiny_model: Path, tmp_path: Path) -> None:
    command = [*COMMAND, *commands(tiny_model, tmp_path / "results.jsonl")[name]]
    result = subprocess.run(
        ["bash", "-c", f'"$@" {redirections}', "bash", *command],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=environment(),
        timeout=60,
    )
    assert result.returncode in (0, 1, 2)
    assert b"Traceback" not in result.stderr
    assert b"Exception ignored" not in result.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(("name", "sign", "spelled"), [("bench", "±", "+/-"), ("eval", "×", "x")])
def test_a_table_is_written_in_any_encoding(
    name: str, sign: str, spelled: str, encoding: str, tiny_model: Path, tmp_path: Path
) -> None:
    result = subprocess.run(
        [*COMMAND, *commands(tiny_model, tmp_path / "results.jsonl")[name]],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=environment(PYTHONIOENCODING=encoding),
        timeout=60,
    )
    assert result.returncode == 0
    assert "greedy" in result.stdout.decode(encoding)
    assert (sign if encoding == "latin-1" else spelled) in result.stdout.decode(encoding)


def test_json_loses_no_letter_in_any_encoding(tmp_path: Path) -> None:
    model = tiny_gguf.write_llama(tmp_path / "modèle-模.gguf")
    for encoding in ("ascii", "utf-8"):
        result = subprocess.run(
            [*COMMAND, "info", "--json", str(model)],
            capture_output=True,
            env=environment(PYTHONIOENCODING=encoding),
            timeout=60,
        )
        assert json.loads(result.stdout.decode(encoding))["path"] == str(model)


def test_a_file_name_that_is_no_text_is_written_as_it_is(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.gguf"
    tiny_gguf.write_llama(tmp_path / "plain.gguf").rename(Path(os.fsdecode(name)))
    for encoding in ("ascii", "utf-8"):
        result = subprocess.run(
            [*map(os.fsencode, COMMAND), b"pull", name],
            capture_output=True,
            env=environment(PYTHONIOENCODING=encoding),
            timeout=60,
        )
        assert result.stdout == name + b"\n"


def test_paths_are_whole_in_a_pipe_and_on_a_narrow_terminal(catalogue: Path) -> None:
    variables = environment(HF_HUB_CACHE=str(catalogue), COLUMNS="40")
    piped = subprocess.run([*COMMAND, "ls"], capture_output=True, text=True, env=variables, timeout=60).stdout
    shown = on_a_terminal([*COMMAND, "ls"], variables)
    for text in (piped, shown):
        assert f"{catalogue}/models--some--model-GGUF/snapshots/{REVISION}/model-F32.gguf\n" in text
        assert "…" not in text
        assert all(line == line.rstrip() for line in text.split("\n"))


def on_a_terminal(command: Sequence[str], variables: dict[str, str]) -> str:
    """What a command shows on a terminal, without colours."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=variables | {"TERM": "xterm", "NO_COLOR": "1"}
    )
    os.close(follower)
    seen = b""
    while piece := read_terminal(leader):
        seen += piece
    os.close(leader)
    assert process.wait(timeout=60) == 0
    return re.sub(r"\x1b\[[\d;]*m", "", seen.decode().replace("\r\n", "\n"))


def read_terminal(leader: int) -> bytes:
    try:
        return os.read(leader, 4096)
    except OSError:  # Linux: the other side is closed
        return b""


# --- what is read -----------------------------------------------------------------------------------


@pytest.fixture
def ask(tiny_model: Path) -> list[str]:
    return [*COMMAND, "generate", "-m", str(tiny_model), "-t", "1", "-n", "8", "--sampler", "greedy"]


@pytest.fixture
def answer_to(ask: list[str]) -> Answer:
    def answer(prompt: str) -> bytes:
        return subprocess.run([*ask, prompt], capture_output=True, stdin=subprocess.DEVNULL, check=True).stdout

    return answer


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hi"], b"Waiting for standard input, which joins the prompt (</dev/null leaves it out)."),
        (["-f", "-", "hi"], b"Waiting for standard input, which joins the prompt (</dev/null leaves it out)."),
        ([], b"Waiting for the prompt on standard input."),
    ],
)
def test_what_is_waited_for_is_said_within_a_second(ask: list[str], arguments: list[str], said: bytes) -> None:
    with subprocess.Popen(
        [*ask, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdin
        assert process.stderr
        begun = time.perf_counter()
        line = process.stderr.readline()
        waited = time.perf_counter() - begun
        process.stdin.write(b"hello")
        process.stdin.close()
        assert process.wait(timeout=60) == 0
    assert line == said + b"\n"
    assert 0.3 < waited < 5  # a machine under load starts Python in seconds


def test_nothing_is_said_of_a_pipe_that_is_ready(ask: list[str]) -> None:
    result = subprocess.run([*ask, "world"], input=b"hello\n", capture_output=True, env=environment(), timeout=60)
    assert (result.returncode, result.stderr) == (0, b"")


def test_a_loop_keeps_its_lines(ask: list[str], answer_to: Answer, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("one\ntwo\nthree\n")
    loop = 'while read line; do "$@" "$line"; done <' + str(lines)
    result = subprocess.run(["bash", "-c", loop, "bash", *ask], capture_output=True, env=environment(), timeout=120)
    assert result.stdout == b"".join(map(answer_to, ("one", "two", "three")))
    warnings = result.stderr.splitlines()
    assert len(warnings) == 2  # after the last line nothing is left that could be missed
    assert all(
        line.startswith(b"Warning: standard input is not read: another program is part-way") for line in warnings
    )


def test_a_file_from_its_beginning_joins(ask: list[str], answer_to: Answer, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("hello\n")
    with file.open("rb") as stdin:
        joined = subprocess.run([*ask, "world"], stdin=stdin, capture_output=True, check=True)
    assert joined.stdout == answer_to("hello\nworld")


def test_the_rest_of_a_file_is_read_where_it_is_asked_for(ask: list[str], answer_to: Answer, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("first\nhello\n")
    for arguments in (["-f", "-"], []):
        with file.open("rb", buffering=0) as stdin:
            stdin.seek(6)
            rest = subprocess.run([*ask, *arguments], stdin=stdin, capture_output=True, check=True)
        assert (rest.stdout, rest.stderr) == (answer_to("hello"), b"")


def test_a_terminal_is_read_only_when_it_is_asked_for(ask: list[str], answer_to: Answer) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*ask, "-f", "-"], stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    os.close(follower)
    assert process.stderr
    assert process.stderr.readline() == b"Reading the prompt from the terminal: Ctrl-D on a line of its own ends it.\n"
    os.write(leader, b"hello\n\x04")
    out, _ = process.communicate(timeout=60)
    os.close(leader)
    assert out == answer_to("hello")
