"""The command line as a process: signals, pipes that close, terminals that are not there."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "entropix_edge"]


@pytest.fixture
def start(default_model: Path) -> Iterator[object]:
    running: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*COMMAND, "generate", "-m", str(default_model), "--seed", "1", *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def interrupt(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes, float]:
    """Press Ctrl-C; exit code, outputs, and the seconds until the process was gone."""
    pressed = time.perf_counter()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err, time.perf_counter() - pressed


@pytest.mark.model
def test_ctrl_c_while_generating_keeps_the_text(start) -> None:  # type: ignore[no-untyped-def]
    process = start("-n", "-1", "Tell me a very long story.")
    first = process.stdout.read(40)
    code, rest, err, _seconds = interrupt(process)
    assert code == 130
    assert (first + rest).endswith(b"\n")
    assert b"Traceback" not in err


@pytest.mark.model
@pytest.mark.parametrize("delay", [0.05, 0.3, 0.6, 0.9, 1.2])
def test_ctrl_c_at_any_time_is_quiet(start, delay: float) -> None:  # type: ignore[no-untyped-def]
    """Interpreter, imports, load, a long prompt: wherever it falls."""
    process = start("-c", "8192", "-n", "-1", "word " * 6000)
    time.sleep(delay)
    code, _out, err, _seconds = interrupt(process)
    if code != 130:  # before our first line, which may be late on a busy machine, Python does with it what it likes
        assert not err or b"Traceback" in err
        assert b"entropix_edge/" not in err.replace(b"entropix_edge/__init__.py", b"")
        return
    assert code == 130
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err


def test_ctrl_c_that_is_ignored_stays_ignored(tiny_model: Path) -> None:
    # `… &` in a script: the shell has its background jobs ignore the Ctrl-C that ends something else
    process = subprocess.Popen(
        [*COMMAND, "generate", "-m", str(tiny_model), "-s", "1", "-n", "60", "hi"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    out, _err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out


@pytest.mark.model
def test_a_reader_that_leaves_early_is_no_error(default_model: Path) -> None:
    command = f"{sys.executable} -m entropix_edge generate -m {default_model} -s 1 'Tell me a story.' | head -c 10"
    result = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, stdin=subprocess.DEVNULL, timeout=60
    )
    assert len(result.stdout) == 10
    assert result.stderr == b""
    assert result.returncode in (0, 141)


def run(arguments: Sequence[str], text: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    stdin = subprocess.DEVNULL if text is None else None
    return subprocess.run([*COMMAND, *arguments], capture_output=True, timeout=60, stdin=stdin, input=text)


def test_piped_text_joins_the_prompt(tiny_model: Path) -> None:
    options = ["generate", "-m", str(tiny_model), "-t", "1", "-n", "8", "-s", "1"]
    piped = run([*options, "world"], b"hello\n")
    assert piped.returncode == 0
    assert piped.stdout == run([*options, "hello\nworld"]).stdout
    assert run([*options, "-f", "-"], b"hello").stdout == run([*options, "hello"]).stdout


def test_nothing_to_answer_and_nobody_to_ask_is_a_usage_error(tiny_model: Path) -> None:
    result = run(["generate", "-m", str(tiny_model)])
    assert result.returncode == 2
    assert b"the prompt is empty" in result.stderr


def test_odd_text_on_standard_input_is_survived(tiny_model: Path) -> None:
    options = ["generate", "-m", str(tiny_model), "-t", "1", "-n", "4", "-s", "1", "--sampler", "greedy"]
    result = run(options, "a\0b\x7f<|im_end|>\u202e\ufdd0".encode())
    assert (result.returncode, result.stderr) == (0, b"")


def test_what_is_no_text_on_standard_input_is_refused(tiny_model: Path) -> None:
    result = run(["generate", "-m", str(tiny_model)], b"a\xff\xfeb")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.startswith(b"Error: standard input is not UTF-8 text: byte 1 is 0xFF")
    assert result.stderr.count(b"\n") == 1


def test_a_full_disk_under_standard_output_is_said(tiny_model: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [*COMMAND, "generate", "-m", str(tiny_model), "-t", "1", "-n", "4", "--sampler", "greedy", "hi"],
            stdout=full,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
    assert result.returncode == 1
    assert result.stderr == b"Error: No space left on device\n"


def test_a_terminal_gets_colour_and_a_legend(tiny_model: Path) -> None:
    leader, follower = pty.openpty()
    command = [*COMMAND, "generate", "-m", str(tiny_model), "-t", "1", "-n", "8", "-s", "1", "hi"]
    environment = os.environ | {"TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    seen = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:  # Linux: the other side is closed
            break
        if not piece:
            break
        seen += piece
    os.close(leader)
    assert process.wait(timeout=60) == 0
    assert b"\x1b[" in seen
    assert b"torn" in seen


# --- the first run on a machine ---------------------------------------------------------------------


def in_a_process(program: str, **environment: str) -> str:
    """What a program says, in a process of its own."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return done.stdout


COMPILES = """
import sys
from entropix_edge import native
from entropix_edge.config import EngineConfig
from entropix_edge.engine import prepare
from entropix_edge.native import cache
units = native.KERNELS, native.TAP
cached = [any(map(unit.link, cache.kept(unit.name))) for unit in units]
prepare(EngineConfig())
print(*cached, *(unit.is_linked for unit in units), "numba" in sys.modules)
"""


def test_what_was_compiled_once_is_loaded_without_numba(tmp_path: Path) -> None:
    assert in_a_process(COMPILES, NUMBA_CACHE_DIR=str(tmp_path)) == "False False True True False\n"
    assert in_a_process(COMPILES, NUMBA_CACHE_DIR=str(tmp_path)) == "True True True True False\n"
    for file in tmp_path.iterdir():  # a disk that was full, a file that was cut
        file.write_bytes(file.read_bytes()[:-100])
    assert in_a_process(COMPILES, NUMBA_CACHE_DIR=str(tmp_path)) == "False False True True False\n"
    assert in_a_process(COMPILES, NUMBA_CACHE_DIR=str(tmp_path)) == "True True True True False\n"


DEFERRED = """
import sys
from entropix_edge.llama import llama_cpp_version
print(llama_cpp_version(), [name for name in ("llama_cpp.llama", "jinja2") if name in sys.modules])
try:
    sys.modules["llama_cpp"].nothing
except AttributeError as error:
    print(error)
import llama_cpp
print(llama_cpp.__version__, llama_cpp.Llama.__module__, llama_cpp.llama_cpp is llama_cpp._internals.llama_cpp)
from entropix_edge.llama import bindings, library
errors = library.fresh_errors()
bindings.llama.llama_model_load_from_file(b"nowhere.gguf", bindings.llama.llama_model_default_params())
print(len(errors) > 0)
"""


def test_the_high_level_api_of_llama_cpp_is_imported_where_somebody_asks_for_it() -> None:
    version = metadata.version("llama-cpp-python")
    missing = "module 'llama_cpp' has no attribute 'nothing'"
    assert in_a_process(DEFERRED) == f"{version} []\n{missing}\n{version} llama_cpp.llama True\nTrue\n"
    told = f"{version} ['llama_cpp.llama', 'jinja2']\n{missing}\n{version} llama_cpp.llama True\nTrue\n"
    assert in_a_process("import llama_cpp\n" + DEFERRED) == told


def test_machine_code_needs_no_llama_cpp() -> None:
    alone = (
        "import sys; from entropix_edge import native; native.prepare([native.TAP]); print('llama_cpp' in sys.modules)"
    )
    assert in_a_process(alone) == "False\n"


def test_where_nothing_can_be_kept_or_started_the_kernels_are_compiled_all_the_same(tmp_path: Path) -> None:
    nowhere = tmp_path / "file"
    nowhere.write_text("")
    alone = f"import sys; sys.executable = ''\n{COMPILES}"
    assert in_a_process(alone, NUMBA_CACHE_DIR=str(nowhere)) == "False False True True True\n"
    assert in_a_process(alone, NUMBA_CACHE_DIR=str(nowhere), NUMBA_DISABLE_JIT="1") == "False False True True True\n"


PROMISES = """
import sys
from entropix_edge import Engine, EngineConfig, GenerationConfig
with Engine.open(sys.argv[1], EngineConfig(ctx_size=256, attention="off", sequences=2)) as engine:
    with engine.stream("hi", GenerationConfig(seed=1, n_predict=50)) as stream:
        next(stream)
        print(engine.free)
    print(engine.free)
"""


def test_optimised_python_keeps_count_too(tiny_model: Path) -> None:
    # -O leaves out assertions, and whatever is called in them
    told = [
        subprocess.run([sys.executable, *flags, "-c", PROMISES, str(tiny_model)], capture_output=True, timeout=60)
        for flags in ([], ["-O"])
    ]
    assert told[0].returncode == 0
    assert told[1].stdout == told[0].stdout
