"""Where an option's value comes from: command line, variables, config.toml, profile, in that order."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entropix_edge.cli import generate, profiles, run
from entropix_edge.cli.profiles import Machine, detect, profile

GIB = 2**30
PI = Machine("linux", "aarch64", "Raspberry Pi 5 Model B Rev 1.0 (4 x Cortex-A76)", 4, 8 * GIB)
SMALL_PI = PI._replace(memory=GIB, processor="Raspberry Pi 3 Model B Plus Rev 1.3 (4 x Cortex-A53)")
BOARD = Machine("linux", "aarch64", "Radxa ROCK 5B", 4, 8 * GIB)
LAPTOP = Machine("linux", "x86_64", "AMD Ryzen 7", 8, 16 * GIB)
ARM_SERVER = Machine("linux", "aarch64", "Neoverse-N1", 64, 128 * GIB)
MAC = Machine("darwin", "arm64", "Apple M2", 4, 16 * GIB)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The options that `generate` would go by."""
    monkeypatch.setattr(profiles, "this_machine", lambda: LAPTOP)
    kept: list[Any] = []

    def stop(_session: object, _text: str, config: object, options: Any) -> int:
        kept[:] = [config, options, options.model.name]
        return 0

    monkeypatch.setattr(generate, "_generate", stop)

    def ask(*arguments: str) -> Any:
        kept.clear()
        code = run(["generate", *arguments, "hello"])
        return kept if kept else code

    return ask


def config(text: str) -> Path:
    path = Path(os.environ["ENTROPIX_EDGE_HOME"]) / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_each_layer_counts_more_than_the_ones_below(
    chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen()[0].threads == LAPTOP.cores
    config("threads = 5\n")
    assert chosen()[0].threads == 5
    config("threads = 5\n[generate]\nthreads = 6\n[chat]\nthreads = 7\n")
    assert chosen()[0].threads == 6
    monkeypatch.setenv("LLAMA_ARG_THREADS", "3")
    assert chosen()[0].threads == 3
    monkeypatch.setenv("ENTROPIX_EDGE_THREADS", "2")
    assert chosen()[0].threads == 2
    assert chosen("-t", "1")[0].threads == 1


@pytest.mark.parametrize(
    ("mode", "mmap", "mlock"),
    [
        ("auto", True, False),
        ("none", False, False),
        ("mmap", True, False),
        ("mlock", False, True),
        ("mmap+mlock", True, True),
    ],
)
def test_llama_cpps_way_to_load_a_model(
    chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, mode: str, mmap: bool, mlock: bool
) -> None:
    monkeypatch.setenv("LLAMA_ARG_LOAD_MODE", mode)
    assert (chosen()[0].mmap, chosen()[0].mlock) == (mmap, mlock)


def test_the_way_to_load_a_model_among_the_layers(
    chosen: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config("mlock = false\nthreads = 5\n")
    monkeypatch.setenv("LLAMA_ARG_LOAD_MODE", "mmap+mlock")
    monkeypatch.setattr("entropix_edge.cli.options.set_up_logging", lambda *, verbose: None)
    with caplog.at_level(logging.DEBUG, "entropix_edge"):
        found = chosen("--verbose")[0]
    assert (found.mmap, found.mlock, found.threads) == (True, True, 5)
    assert "--mlock True: LLAMA_ARG_LOAD_MODE" in caplog.messages
    assert not chosen("--no-mmap")[0].mmap
    monkeypatch.setenv("LLAMA_ARG_MMAP", "0")
    assert not chosen()[0].mmap
    monkeypatch.setenv("LLAMA_ARG_LOAD_MODE", "dio")
    assert chosen() == 2
    assert (
        "LLAMA_ARG_LOAD_MODE is 'dio': it must be one of auto, none, mmap, mlock, mmap+mlock" in capsys.readouterr().err
    )


def test_every_kind_of_value_in_the_file(chosen: Callable[..., Any], tmp_path: Path) -> None:
    adapter = tmp_path / "a.gguf"
    config(f"""
        ctx-size = 1024
        cache_type_k = "q8_0"
        mlock = true
        mmap = false
        device = ["a", "b"]
        lora = ["{adapter}:0.5"]
        attention = [0, 2]
        stop = ["END", "two words"]
        temp = 0.5
        chat-template-kwargs = {{enable_thinking = false}}
        option = {{"pause.most" = 1, "branch.horizon" = 5}}
    """)
    engine, options, _name = chosen()
    assert (engine.ctx_size, engine.cache_type_k, engine.mlock, engine.mmap) == (1024, "q8_0", True, False)
    assert (engine.devices, engine.loras, engine.attention) == (("a", "b"), ((adapter, 0.5),), (0, 2))
    assert (options.sampling.stop, options.sampling.temperature) == (("END", "two words"), 0.5)
    assert options.prompt.chat_template_kwargs == {"enable_thinking": False}
    assert options.sampling.changes == (("pause.most", "1"), ("branch.horizon", "5"))


def test_changes_of_the_preset_add_up(chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config('option = {"pause.most" = 1}\n')
    monkeypatch.setattr(profiles, "this_machine", lambda: PI)
    assert chosen("-o", "pause.most", "2")[1].sampling.changes == (
        ("branch.budget", "0.1"),
        ("pause.most", "1"),
        ("pause.most", "2"),
    )
    assert chosen("--preset", "article")[1].sampling.changes == (("pause.most", "1"),)


def test_of_two_options_that_exclude_each_other_the_nearer_counts(
    chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_HF_REPO", "user/repo")
    assert chosen("-m", "mine.gguf")[2] == "mine.gguf"
    monkeypatch.setenv("ENTROPIX_EDGE_MODEL", "other.gguf")
    assert chosen()[2] == "other.gguf"
    assert chosen("-hf", "a/b")[2] == "a/b"
    assert chosen("-hf", "a/b", "-m", "c") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ctx-sise = 1", "'ctx-sise' is not an option or a command: perhaps ctx-size"),
        ("[generate]\ncors-origins = 1", "'cors-origins' is not an option of generate: see --help"),
        ("[generat]\nthreads = 1", "'generat' is not an option or a command: perhaps generate"),
        ("threads = ", "is not TOML"),
        ("threads = 2020-01-01", "threads is datetime.date(2020, 1, 1): it must be a text, a number, or true or false"),
        ("threads = 0", "0 is not in the range x>=1. (from config.toml)"),
        ("threads = [1, 2]", "'1,2' is not a valid integer range. (from config.toml)"),
    ],
)
def test_what_the_file_may_not_hold(
    text: str, message: str, chosen: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(text)
    assert chosen() == 2
    err = capsys.readouterr().err
    assert message in err
    assert str(path) in err or "config.toml" in err
    assert run(["generate", "--help"]) in (0, 2)


def test_a_refused_variable_is_named(
    chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "many")
    assert chosen() == 2
    assert "'many' is not a valid integer range. (from LLAMA_ARG_CTX_SIZE)" in capsys.readouterr().err
    assert chosen("-c", "10")[0].ctx_size == 10


def test_verbose_says_where_each_value_comes_from(
    chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config('ctx-size = 99\noption = { "branch.budget" = 0.3 }\n')
    monkeypatch.setenv("LLAMA_ARG_BATCH", "77")
    logging.getLogger("entropix_edge").propagate = True
    monkeypatch.setattr("entropix_edge.cli.options.set_up_logging", lambda *, verbose: None)
    with caplog.at_level(logging.DEBUG, "entropix_edge"):
        chosen("-v", "-ub", "33", "-o", "branch.horizon", "5")
    told = "\n".join(caplog.messages)
    for line in (
        "profile laptop (AMD Ryzen 7, 8 cores, 16.0 GiB): threads 8",
        "--ctx-size 99: config.toml",
        "--batch-size 77: LLAMA_ARG_BATCH",
        "--ubatch-size 33: the command line",
        "--threads 8: profile laptop",
        "--flash-attn auto: default",
        "-o branch.budget 0.3: config.toml",
        "-o branch.horizon 5: the command line",
    ):
        assert line in told


def test_info_says_where_its_values_come_from_too(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(profiles, "this_machine", lambda: PI)
    monkeypatch.setattr("entropix_edge.cli.options.set_up_logging", lambda *, verbose: None)
    logging.getLogger("entropix_edge").propagate = True
    with caplog.at_level(logging.DEBUG, "entropix_edge"):
        assert run(["info", str(tiny_model), "-v", "-c", "64"]) == 0
    assert "--batch-size 64: profile pi" in caplog.messages
    assert "--ctx-size 64: the command line" in caplog.messages


@pytest.mark.parametrize(
    ("machine", "name"),
    [(PI, "pi"), (SMALL_PI, "pi"), (BOARD, "pi"), (LAPTOP, "laptop"), (ARM_SERVER, "laptop"), (MAC, "mac")],
)
def test_the_profile_of_a_machine(machine: Machine, name: str) -> None:
    assert detect(machine) == name
    assert profile("auto", machine) == profile(name, machine)


def test_what_profiles_choose() -> None:
    assert profile("laptop", LAPTOP).values == {"threads": 8}
    assert profile("pi", PI).values == {"threads": 4, "batch_size": 64, "ubatch_size": 64}
    small = {"ctx_size": 2048, "cache_type_k": "q8_0", "cache_type_v": "q8_0"}
    assert profile("pi", SMALL_PI).values == {**profile("pi", PI).values, **small}
    assert profile("laptop", PI).changes == ()


def test_a_profile_is_a_default_like_any_other(chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTROPIX_EDGE_PROFILE", "pi")
    assert chosen()[0].batch_size == 64
    assert chosen("--profile", "laptop")[0].batch_size is None
    assert chosen("--profile", "phone") == 2
