"""`serve` as a process: what it says, what it is told by options, and signals."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from serving import ENDLESS, HELLO, endless_model, error_of, until

CHECKOUT = Path(__file__).parents[1]


@dataclass
class Process:
    """A server that was started by the command line."""

    popen: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return next(line.split()[-1].removesuffix("/v1") for line in self.lines if "Listening on" in line)

    def says(self, pattern: str) -> None:
        """Wait for a line on standard error."""
        until(lambda: any(re.search(pattern, line) for line in self.lines) or self.popen.poll() is not None, 60)
        assert any(re.search(pattern, line) for line in self.lines), self.lines

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(30)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return endless_model(tmp_path_factory.mktemp("command") / "endless.gguf", 16384)


@contextlib.contextmanager
def serve(model: Path, *arguments: object, **environment: str) -> Iterator[Process]:
    command = [sys.executable, "-m", "entropix_edge", "serve", "-m", model, "--port", 0, "-t", 1, *arguments]
    popen = subprocess.Popen(
        list(map(str, command)),
        cwd=CHECKOUT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert popen.stderr
    process = Process(popen)
    reading = threading.Thread(target=lambda: process.lines.extend(popen.stderr or ()))
    reading.start()
    try:
        yield process
    finally:
        popen.kill()
        popen.wait()
        reading.join()
        assert popen.stdout
        assert popen.stdout.read() == "", "standard output is nobody's"
        popen.stdout.close()
        popen.stderr.close()


def test_it_says_where_it_listens_and_ends_when_told(compiled: None, model: Path) -> None:
    with serve(model, "-c", 2048, "-np", 2) as process:
        process.says("Listening on http://127.0.0.1:[0-9]+/v1")
        process.says("2 conversations of 2048 tokens, 4096 in all")
        with httpx.Client(base_url=process.url) as http:
            answer = http.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": 3}).json()
        assert answer["model"] == "endless"
        process.says(r"\d\d:\d\d:\d\d POST /v1/chat/completions 200 in .* 3 tokens, length")
        assert process.end() == 0
    assert not any("Traceback" in line for line in process.lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(compiled: None, model: Path, number: signal.Signals) -> None:
    with serve(model, "-c", 16384, "-np", 1) as process:
        process.says("Listening on")
        with httpx.Client(base_url=process.url, timeout=30) as http:
            asked = {"messages": HELLO, "stream": True, **ENDLESS}
            with http.stream("POST", "/v1/chat/completions", json=asked) as response:
                lines = response.iter_lines()
                next(lines)
                process.popen.send_signal(number)
                until(lambda: _is_closing(process.url))
                process.popen.send_signal(number)
                with contextlib.suppress(httpx.TransportError):  # who reads is cut off
                    for _line in lines:
                        pass
                process.popen.wait(5)
    assert process.popen.returncode == 0
    assert not any("Traceback" in line for line in process.lines)


def _is_closing(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 503
    except httpx.ConnectError:
        return True  # it has closed: the reply that nobody reads was given up meanwhile


def test_keys_come_from_options_files_and_the_environment(compiled: None, model: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("from-file\n\n")
    arguments = ["-c", 256, "--api-key", "from-option", "--api-key-file", tmp_path / "keys"]
    with serve(model, *arguments, "--host", "0.0.0.0") as process:
        process.says("Listening on")
        assert not any("Warning" in line for line in process.lines)
        url = process.url.replace("0.0.0.0", "127.0.0.1")
        for key in ("from-option", "from-file"):
            assert httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
        error_of(httpx.get(f"{url}/v1/models"), 401)
        assert httpx.get(f"{url}/health", headers={"host": "my.lan"}).status_code == 200, "others' names are its own"
    with serve(model, "-c", 256, ENTROPIX_EDGE_API_KEY="from-environment") as process:
        process.says("Listening on")
        headers = {"authorization": "Bearer from-environment"}
        assert httpx.get(f"{process.url}/v1/models", headers=headers).status_code == 200


def test_what_may_be_a_mistake_is_said(compiled: None, model: Path) -> None:
    with serve(model, "-c", 99999, "-np", 1, "--host", "0.0.0.0", "--alias", "mine") as process:
        process.says("Warning: 0.0.0.0 can be reached from other machines, and no --api-key")
        process.says("Warning: -c is 99999 and the model was trained for 16384 tokens: 16384 are used")
        process.says("mine: 1 conversations of 16384 tokens")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--preset", "none"], 2, "preset 'none' is not known"),
        (["-np", "0"], 2, "--parallel"),
        (["--api-key-file", os.devnull], 2, "holds no key"),
        (["--host", "no.such.host.invalid"], 2, "cannot listen on no.such.host.invalid"),
        (["--attention", "77"], 2, "attention layer 77 does not exist"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    compiled: None, model: Path, arguments: list[str], code: int, said: str
) -> None:
    with serve(model, *arguments) as process:
        assert process.popen.wait(60) == code
    assert said in process.lines[-1]
    assert not any("Traceback" in line for line in process.lines)


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, timeout=60)


def test_without_its_extra_it_says_what_to_install() -> None:
    result = python("import sys; sys.modules['starlette'] = None\nfrom entropix_edge.cli import main; main(['serve'])")
    assert result.returncode == 1
    assert "serve needs starlette, which is not installed: pip install 'entropix-edge[server]'" in result.stderr


def test_other_commands_import_nothing_of_it(compiled: None, model: Path) -> None:
    result = python(
        "import sys\nfrom entropix_edge.cli import run\n"
        f"assert run(['generate', '-m', {str(model)!r}, '-n', '2', '-c', '64', 'hello']) == 0\n"
        "assert not {'starlette', 'uvicorn', 'msgspec', 'prometheus_client', 'asyncio'} & set(sys.modules)"
    )
    assert result.returncode == 0, result.stderr
