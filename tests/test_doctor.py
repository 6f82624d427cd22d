"""`doctor`: what it finds on machines that are described to it, and on this one; `completion`."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from terminals import Terminal

from entropix_edge.cli import checkup, run
from entropix_edge.llama import is_translated
from entropix_edge.llama.machine import Linux

GIB = 2**30
X86 = "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | F16C = 1 | FMA = 1 | BMI2 = 1 | OPENMP = 1 | REPACK = 1"
X86_HAS = {"avx", "avx2", "f16c", "fma", "bmi2", "sse4_2"}
PI_5 = "CPU : NEON = 1 | ARM_FMA = 1 | FP16_VA = 1 | DOTPROD = 1 | OPENMP = 1"


def test_a_build_that_fits_its_processor() -> None:
    assert checkup.build(X86, X86_HAS).state == "ok"
    assert checkup.build(PI_5, {"asimd", "asimdhp", "asimddp", "crc32"}).state == "ok"
    assert checkup.build(X86, frozenset()).state == "ok"


def test_a_build_that_leaves_instructions_unused_is_slow() -> None:
    check = checkup.build(X86, X86_HAS | {"avx512f", "avx512_vnni"})
    assert check.state == "warning"
    assert "this processor also has AVX512, AVX512_VNNI" in check.found
    assert "--no-binary llama-cpp-python" in check.mend
    assert "DOTPROD" in checkup.build("CPU : NEON = 1", {"asimd", "asimddp"}).found


def test_a_build_for_another_processor_is_a_fault() -> None:
    check = checkup.build(X86, X86_HAS - {"avx2"})
    assert check.state == "fault"
    assert "this processor lacks AVX2" in check.found


@pytest.mark.parametrize(
    ("number", "system", "translated"), [(1, "darwin", True), (0, "darwin", False), (1, "linux", False)]
)
def test_rosetta_is_recognised(number: int, system: str, translated: bool) -> None:
    asked: list[str] = []

    def read(key: str) -> int | None:
        asked.append(key)
        return number

    assert is_translated(read, system) is translated
    assert asked == (["sysctl.proc_translated"] if system == "darwin" else [])
    assert not is_translated(lambda _key: None, "darwin")  # an Intel Mac has no such key


def test_a_translated_python_is_a_fault() -> None:
    assert checkup.python(translated=False).state == "ok"
    check = checkup.python(translated=True)
    assert check.state == "fault"
    assert "Rosetta" in check.found
    assert "Apple Silicon" in check.mend


def test_memory_swap_and_heat() -> None:
    assert checkup.memory(8 * GIB, 16 * GIB).state == "ok"
    assert checkup.memory(GIB // 4, GIB).state == "warning"
    assert checkup.swap((0, 0), GIB).state == "warning"
    assert checkup.swap((0, 0), 16 * GIB).state == "ok"
    assert checkup.swap((2 * GIB, GIB), GIB).state == "ok"
    assert checkup.heat(45.0, None).state == "ok"
    assert checkup.heat(85.0, None).state == "warning"
    assert "power supply" in checkup.heat(50.0, "under-voltage now").mend
    assert checkup.heat(50.0, "none").state == "ok"


def test_what_linux_tells(tmp_path: Path) -> None:
    for name, text in {
        "proc/meminfo": "MemTotal: 1000 kB\nSwapTotal:  2048 kB\nSwapFree: 1024 kB\n",
        "proc/cpuinfo": "processor : 0\nFeatures : fp asimd asimddp\n",
        "sys/class/thermal/thermal_zone0/temp": "41000\n",
        "sys/class/thermal/thermal_zone1/temp": "52500\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    linux = Linux(tmp_path)
    assert linux.swap() == (2048 * 1024, 1024 * 1024)
    assert linux.processor_features() == {"fp", "asimd", "asimddp"}
    assert linux.hottest() == 52.5
    nothing = Linux(tmp_path / "nothing")
    assert (nothing.swap(), nothing.processor_features(), nothing.hottest()) == (None, frozenset(), None)


def test_a_compiler_that_is_missing() -> None:
    assert checkup.compiler(lambda _name: None).state == "warning"
    assert checkup.compiler(lambda name: f"/usr/bin/{name}" if name == "g++" else None).found == "/usr/bin/g++"


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    def homeless() -> Path:
        raise FileNotFoundError("this user has no home folder")

    (tmp_path / "file").write_text("")
    places = {"good": lambda: tmp_path / "a" / "b", "file": lambda: tmp_path / "file" / "x", "none": homeless}
    good, file, none = checkup.folders(places)
    assert good.state == "ok"
    assert (file.state, none.state) == ("fault", "fault")
    assert "ENTROPIX_EDGE_HOME" in file.mend


def test_a_mac_without_metal_is_a_fault() -> None:
    assert checkup.gpu([], "darwin").state == "fault"
    assert checkup.gpu([], "linux").state == "ok"
    assert checkup.gpu(["Metal"], "darwin").found == "Metal"


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        from entropix_edge.hub import unreachable

        check = checkup.hub(unreachable, offline=False)
    assert check.state == "warning"
    assert "127.0.0.1" in check.found
    assert checkup.hub(unreachable, offline=True).found == "not asked: offline"


def test_the_command_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--offline", "--json"]) == 0
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert found["settings"]["found"] == os.environ["ENTROPIX_EDGE_HOME"]
    assert found["llama.cpp"]["state"] == "ok"
    assert not any(check["state"] == "fault" for check in found.values())
    assert run(["doctor", "--offline"]) == 0
    assert capsys.readouterr().out.startswith("ok       python       3.")


def test_a_damaged_config_is_found_and_does_not_stop_it(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(os.environ["ENTROPIX_EDGE_HOME"]) / "config.toml"
    path.parent.mkdir()
    path.write_text("threads = \n")
    assert run(["doctor", "--offline"]) == 1
    out = capsys.readouterr().out
    assert f"FAULT    config.toml  {path} is not TOML" in out
    assert "-> mend the file, or remove it" in out


def test_a_llama_cpp_that_cannot_be_loaded(tmp_path: Path) -> None:
    installed = importlib.util.find_spec("llama_cpp")
    assert installed
    assert installed.origin
    (tmp_path / "llama_cpp").mkdir()
    for module in Path(installed.origin).parent.glob("*.py"):  # without its libraries
        (tmp_path / "llama_cpp" / module.name).symlink_to(module)
    environment = os.environ | {
        "PYTHONPATH": ":".join([str(tmp_path), *sys.path]),
        "ENTROPIX_EDGE_HOME": str(tmp_path / "home"),
    }
    command = [sys.executable, "-m", "entropix_edge", "doctor", "--offline"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "FAULT    llama.cpp    it cannot be loaded: " in result.stdout
    assert " -> pip install --force-reinstall" in result.stdout
    assert "\nok       hub " in result.stdout, "what does not need it is looked at"
    assert result.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_ENTROPIX_EDGE_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        subprocess.run(
            [shell, "-n"] if shell != "fish" else [shell, "--no-execute"], input=script, text=True, check=True
        )


@pytest.fixture
def with_command(tmp_path: Path) -> dict[str, str]:
    """An environment in which a shell finds `entropix-edge`, with a home of its own."""
    program = f"#!{sys.executable}\nfrom entropix_edge.cli import main\nmain()\n"
    (tmp_path / "entropix-edge").write_text(program)
    (tmp_path / "entropix-edge").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)}
    return os.environ | path | {"ENTROPIX_EDGE_HOME": str(tmp_path / "own")}


def test_completion_in_bash(with_command: dict[str, str]) -> None:
    script = (
        'eval "$(entropix-edge completion bash)"\n'
        "COMP_WORDS=(entropix-edge gene) COMP_CWORD=1\n"
        "_entropix_edge_completion entropix-edge\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    result = subprocess.run(["bash", "-c", script], env=with_command, capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["generate"], result.stderr


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_completion_in_fish(with_command: dict[str, str]) -> None:
    script = 'entropix-edge completion fish | source; complete -C "entropix-edge gene"'
    result = subprocess.run(["fish", "-c", script], env=with_command, capture_output=True, text=True, timeout=60)
    assert result.stdout.split()[:1] == ["generate"], result.stderr


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_completion_in_zsh(with_command: dict[str, str]) -> None:
    with Terminal([str(shutil.which("zsh")), "-f"], with_command) as terminal:
        terminal.type('autoload -Uz compinit && compinit -u; eval "$(entropix-edge completion zsh)"; echo rea""dy\n')
        terminal.see("ready")
        terminal.type("entropix-edge gene\t")
        terminal.see("entropix-edge generate")
