"""More than one machine: what can be tried in any build, then real workers, which scripts/rpc builds."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny_gguf

from entropix_edge import ConfigError, Engine, EngineConfig, GenerationConfig, TokenEvent
from entropix_edge.cli import run
from entropix_edge.cli import supervise as supervision
from entropix_edge.engine_config import FlashAttention
from entropix_edge.llama import has_rpc

WIDE = tiny_gguf.Shape(n_layer=4, n_embd=64, n_head=2, n_head_kv=1, n_ctx=2048)
Ends = Callable[[str], tuple[int, str, str]]
needs_rpc = pytest.mark.skipif(not has_rpc(), reason="llama.cpp is built without RPC here: scripts/rpc runs these")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write_llama(tmp_path_factory.mktemp("rpc") / "tiny.gguf", WIDE, tiny_gguf.random_weights(WIDE))


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


# --- in any build -------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["host", "host:", ":50052", "host:0", "host:65536", "a b:1", "host:1:2"])
def test_endpoints_are_checked(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="it must be host:port"):
        EngineConfig(rpc=(endpoint,))
    EngineConfig(rpc=("192.168.1.20:50052", "pi.local:1", "[::1]:50052"))


@pytest.mark.skipif(has_rpc(), reason="this build has it")
def test_a_build_without_it_says_so(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "-m", str(model), "--rpc", "127.0.0.1:1", "hello"]) == 2
    assert "no RPC: make one with scripts/rpc" in capsys.readouterr().err
    assert run(["worker", "--port", str(free_port())]) == 2
    assert "has no RPC" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "the process can still be interrupted"
    assert run(["info", str(model)]) == 0
    assert re.search(r"^rpc +not in this build", capsys.readouterr().out, re.MULTILINE)


@pytest.fixture
def ends_with(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ends:
    """Supervise a child that runs this program; the exit code, and both outputs."""
    monkeypatch.setattr("entropix_edge.llama.has_rpc", lambda: True)

    real = subprocess.Popen

    def supervise(program: str) -> tuple[int, str, str]:
        monkeypatch.setattr(subprocess, "Popen", lambda _command, env: real([sys.executable, "-c", program], env=env))
        with socket.socket() as worker:
            worker.bind(("127.0.0.1", 0))
            worker.listen()
            endpoint = f"127.0.0.1:{worker.getsockname()[1]}"
            code = supervision.supervise([], [endpoint])
        out, err = capfd.readouterr()
        return code, out, err

    return supervise


def test_a_childs_exit_code_is_the_commands(ends_with: Ends) -> None:
    assert ends_with("raise SystemExit(130)")[0] == 130
    assert ends_with("import os; assert os.environ['_ENTROPIX_EDGE_RPC_CHILD']; print('text')")[:2] == (0, "text\n")


def test_a_child_that_dies_for_another_reason(ends_with: Ends) -> None:
    code, out, err = ends_with("import os; print('text so far', flush=True); os.abort()")
    assert (code, out) == (1, "text so far\n")
    assert "Error: the engine's process was ended by SIGABRT: what was generated until then is above\n" in err


def test_the_lost_worker_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    supervision._say_why("SIGABRT", ["here:1", "gone:2"], lambda endpoint: endpoint != "gone:2")
    err = capsys.readouterr().err
    assert err == "Error: lost the worker gone:2: what was generated until then is above\n"


# --- real workers -------------------------------------------------------------------------------------


class Worker:
    """A worker process on loopback."""

    def __init__(self) -> None:
        port = free_port()
        self.endpoint = f"127.0.0.1:{port}"
        command = [sys.executable, "-m", "entropix_edge", "worker", "--port", str(port), "-t", "1"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.1)
        raise TimeoutError(self.endpoint)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    started = [Worker(), Worker()]
    yield started
    for worker in started:
        worker.kill()


def metrics(model: Path, rpc: tuple[str, ...], flash: FlashAttention) -> list[list[float | None]]:
    """Every number that a greedy reply's tokens carry, the attention of all layers included."""
    config = EngineConfig(threads=1, ctx_size=256, exact=True, attention="all", flash_attention=flash, rpc=rpc)
    with Engine.open(model, config) as engine:
        reply = engine.generate("hello", GenerationConfig(sampler="greedy", n_predict=6))
    rows = []
    for event in reply.events:
        if isinstance(event, TokenEvent) and event.metrics and event.metrics.attention:
            seen = event.metrics.attention
            rows.append([event.token_id, event.metrics.entropy, event.metrics.varentropy, seen.entropy])
            rows[-1] += [seen.varentropy, seen.agreement, seen.interaction_strength]
    return rows


@needs_rpc
@pytest.mark.parametrize("flash", ["off", "on"])
def test_a_model_split_over_two_workers_gives_the_same_metrics(
    model: Path, workers: list[Worker], flash: FlashAttention
) -> None:
    alone = metrics(model, (), flash)
    endpoints = tuple(worker.endpoint for worker in workers)
    program = f"""
import json, logging, pathlib, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
from test_rpc import metrics
print(json.dumps(metrics(pathlib.Path({str(model)!r}), {endpoints!r}, {flash!r})))
"""
    # in a process of its own: one that knows workers does not outlive them
    environment = os.environ | {"PYTHONPATH": ":".join([str(Path(__file__).parent), *sys.path])}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    split = json.loads(result.stdout)
    assert len(alone) == len(split) == 6
    for one, other in zip(alone, split, strict=True):
        assert other == pytest.approx(one, rel=1e-3, abs=1e-4)
    assert set(re.findall(r"assigned to device (\w+)", result.stderr)) == {"RPC0", "RPC1"}


@needs_rpc
def test_a_worker_that_is_killed_in_the_middle(model: Path, workers: list[Worker], tmp_path: Path) -> None:
    endpoints = ",".join(worker.endpoint for worker in workers)
    command = [sys.executable, "-m", "entropix_edge", "generate", "-m", str(model), "-t", "1", "-n", "-1", "-s", "1"]
    command += ["--sampler", "temperature", "--rpc", endpoints, "--stop", "none", "hello"]
    home = os.environ | {"ENTROPIX_EDGE_HOME": str(tmp_path)}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=home
    ) as process:
        assert process.stdout
        assert process.stderr
        first = process.stdout.read(5)
        workers[1].kill()
        out, err = process.stdout.read(), process.stderr.read().decode()
        assert process.wait(60) == 1
    assert len(first) == 5
    lost = f"Error: lost the worker {workers[1].endpoint}: what was generated until then is above"
    assert err.splitlines()[-1] == lost
    assert "GGML" not in err
    assert "Traceback" not in err
    assert isinstance(out, bytes)


@needs_rpc
def test_a_worker_that_is_not_there(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    assert run(["generate", "-m", str(model), "--rpc", endpoint, "hello"]) == 1
    assert f"the worker {endpoint} does not answer" in capsys.readouterr().err


@needs_rpc
def test_ctrl_c_ends_the_reply_and_a_worker(model: Path, workers: list[Worker]) -> None:
    command = [sys.executable, "-m", "entropix_edge", "generate", "-m", str(model), "-t", "1", "-n", "-1", "-s", "1"]
    command += ["--sampler", "temperature", "--rpc", workers[0].endpoint, "hello"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout
        process.stdout.read(3)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        process.stdout.read()
        assert process.wait(60) == 130
    workers[0].process.send_signal(signal.SIGINT)
    assert workers[0].process.wait(10) == -signal.SIGINT


@needs_rpc
def test_a_port_that_is_taken(workers: list[Worker], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["worker", "--port", workers[0].endpoint.rpartition(":")[2]]) == 2
    assert "cannot be listened on" in capsys.readouterr().err
