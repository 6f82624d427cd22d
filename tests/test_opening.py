"""What a model is opened with reaches llama.cpp: options on the command line, values of `EngineConfig`."""

from __future__ import annotations

import ctypes
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import llama_cpp.llama_cpp as llama
import numpy as np
import pytest
import tiny_gguf

from entropix_edge import Engine, EngineConfig, GenerationConfig
from entropix_edge.cli import run
from entropix_edge.errors import ConfigError, ContextError, EntropixError, ModelFileError, ModelNotFoundError
from entropix_edge.llama import read_header

GREEDY = GenerationConfig(sampler="greedy", n_predict=8)
WIDE = tiny_gguf.Shape(n_embd=64, n_head=2, n_head_kv=1)  # heads of 32 numbers, as long as a block


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write_llama(tmp_path_factory.mktemp("wide") / "wide.gguf", WIDE, tiny_gguf.random_weights(WIDE))


class Asked(NamedTuple):
    """What llama.cpp was called with."""

    model: Any
    context: Any
    devices: list[int | None] | None  # read during the call: the list is freed after it


@pytest.fixture
def opened(wide_model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Asked]:
    """What llama.cpp is called with, for options of the command line."""

    def ask(*options: object) -> Asked:
        given: dict[str, Any] = {"devices": None}
        load, make = llama.llama_model_load_from_file, llama.llama_init_from_model

        def load_model(path: bytes, params: Any) -> Any:
            given["model"] = params
            if params.devices:
                given["devices"] = ctypes.cast(params.devices, ctypes.POINTER(ctypes.c_void_p))[:1]
            return load(path, params)

        def make_context(model: Any, params: Any) -> Any:
            given["context"] = params
            return make(model, params)

        monkeypatch.setattr(llama, "llama_model_load_from_file", load_model)
        monkeypatch.setattr(llama, "llama_init_from_model", make_context)
        arguments = ["generate", "-m", wide_model, "-t", 1, "-n", 2, "--sampler", "greedy", *options, "hello"]
        assert run([str(argument) for argument in arguments]) == 0
        return Asked(**given)

    return ask


def test_cache_types_reach_the_context(opened: Callable[..., Asked]) -> None:
    context = opened("-ctk", "q8_0", "-ctv", "q4_0").context
    assert (context.type_k, context.type_v) == (llama.GGML_TYPE_Q8_0, llama.GGML_TYPE_Q4_0)
    assert context.flash_attn_type == llama.LLAMA_FLASH_ATTN_TYPE_AUTO


def test_keys_in_blocks_need_no_flash_attention(opened: Callable[..., Asked]) -> None:
    context = opened("-ctk", "q8_0", "-fa", "off").context
    assert (context.type_k, context.type_v) == (llama.GGML_TYPE_Q8_0, llama.GGML_TYPE_F16)
    assert context.flash_attn_type == llama.LLAMA_FLASH_ATTN_TYPE_DISABLED


@pytest.mark.parametrize(("given", "batch"), [(["-ub", 16], 16), (["-b", 64, "-ub", 32], 32), (["-b", 24], 24)])
def test_micro_batches(opened: Callable[..., Asked], given: list[object], batch: int) -> None:
    context = opened(*given).context
    assert (context.n_ubatch, context.n_batch) == (batch, batch)


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ([], llama.LLAMA_LOAD_MODE_MMAP),
        (["--no-mmap"], llama.LLAMA_LOAD_MODE_NONE),
        (["--mlock"], llama.LLAMA_LOAD_MODE_MMAP_MLOCK),
        (["--no-mmap", "--mlock"], llama.LLAMA_LOAD_MODE_MLOCK),
    ],
)
def test_how_the_file_is_loaded(opened: Callable[..., Asked], given: list[str], mode: int) -> None:
    assert opened(*given).model.load_mode == mode


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_mlock_locks_the_weights_or_says_that_it_cannot(wide_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    def locked() -> int:
        status = Path("/proc/self/status").read_text()
        return int(re.findall(r"^VmLck:\s+(\d+)", status, re.MULTILINE)[0])

    before = locked()
    with Engine.open(wide_model, EngineConfig(threads=1, mlock=True)):
        warned = any("may be swapped out" in message for message in caplog.messages)
        assert (locked() > before) != warned
    assert warned <= (resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY)


def test_no_device_takes_layers_where_none_is_wanted(opened: Callable[..., Asked]) -> None:
    asked = opened("-dev", "none")
    assert asked.devices == [None]
    assert asked.model.n_gpu_layers == 0
    assert opened().devices is None


REFUSED = [
    (["-ctk", "q9_0"], "'q9_0' is not one of 'f32', 'f16', 'bf16', 'q8_0'"),
    (["-ctv", "q8_0", "-fa", "off"], "cache_type_v is q8_0 and flash attention off.*: use --flash-attn on"),
    (["-ub", "0"], "0 is not in the range x>=1"),
    (["-dev", "Imaginary0"], "devices names 'Imaginary0': it must be none"),
    (["-dev", "a,,b"], "'a,,b' must be none, or names between commas"),
    (["--lora", "gone.gguf"], "gone.gguf: no such file; expected a LoRA adapter"),
    (["--lora", "gone.gguf:much"], "must be a file, or a file and a number"),
    (["--lora", "gone.gguf:nan"], "lora scale is nan: it must be a number from -10000 to 10000"),
    (["--chat-template", "chatml"], "chat_template is 'chatml': it must be Jinja text"),
    (["--chat-template", "{{ x }}", "--chat-template-file", __file__], "give one of them"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=lambda value: " ".join(value) if value else "")
def test_what_is_refused(
    options: list[str], message: str, wide_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", "-m", str(wide_model), *options, "hello"]) in (1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(message, err.replace("\n", " "))


def test_blocks_longer_than_a_head_are_refused_with_what_fits(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"cache_type_k is q8_0, in blocks of 32, .* 8 numbers: .*f16"):
        Engine.open(tiny_model, EngineConfig(threads=1, cache_type_k="q8_0"))


# --- adapters -----------------------------------------------------------------------------------------


def write_adapter(
    path: Path, seed: int, *, alpha: float = 4.0, architecture: str = "llama", kind: str = "lora"
) -> Path:
    """Of rank 2, for the feed-forward layer of every block."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", 4.0)
    for layer in range(WIDE.n_layer):
        for part, length in (("a", WIDE.n_ff), ("b", WIDE.n_embd)):
            shape = (2, length) if part == "a" else (length, 2)
            writer.add_tensor(f"blk.{layer}.ffn_down.weight.lora_{part}", random.standard_normal(shape, np.float32))
    return tiny_gguf.finish(writer, path)


def logits(model: Path, *loras: tuple[Path, float]) -> np.ndarray[Any, Any]:
    with Engine.open(model, EngineConfig(threads=1, exact=True, loras=loras)) as engine:
        from entropix_edge.types import Cell

        cells = [Cell(token, place, 0, place == 2) for place, token in enumerate((70, 71, 72))]
        rows = engine.context.decode(cells)
        assert rows
        return rows[0].logits.copy()


def merged(path: Path, *loras: tuple[Path, float]) -> Path:
    """The model with its adapters multiplied into its weights: what must come out too."""
    weights = tiny_gguf.random_weights(WIDE)
    for file, scale in loras:
        tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(file).tensors}
        for layer in range(WIDE.n_layer):
            name = f"blk.{layer}.ffn_down.weight"
            a, b = tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]
            weights[name] = weights[name] + (scale * 4.0 / 2 * (b @ a)).astype(np.float32)
    return tiny_gguf.write_llama(path, WIDE, weights)


def test_adapters_compute_what_merged_weights_would(wide_model: Path, tmp_path: Path) -> None:
    first, second = write_adapter(tmp_path / "a.gguf", 1), write_adapter(tmp_path / "b.gguf", 2)
    loras = ((first, 0.5), (second, -0.25))
    expected = logits(merged(tmp_path / "merged.gguf", *loras))
    np.testing.assert_allclose(logits(wide_model, *loras), expected, rtol=1e-3, atol=1e-3)
    assert np.abs(logits(wide_model) - expected).max() > 0.1


def test_the_command_line_gives_adapters_and_factors(
    wide_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = write_adapter(tmp_path / "a.gguf", 1)
    seen: list[list[float]] = []
    apply = llama.llama_set_adapters_lora

    def record(context: Any, handles: Any, count: int, scales: Any) -> Any:
        seen.append(list(scales))
        return apply(context, handles, count, scales)

    monkeypatch.setattr(llama, "llama_set_adapters_lora", record)
    common = ["generate", "-m", str(wide_model), "-t", "1", "-n", "2", "hello"]
    assert run([*common, "--lora", f"{adapter}:0.5", "--lora", str(adapter)]) == 0
    assert seen == [[0.5, 1.0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "qwen2"}, "general.architecture is 'qwen2'; expected llama, as the model's"),
        ({"kind": "control"}, "adapter.type is 'control'; expected lora"),
    ],
)
def test_adapters_of_another_kind_are_refused(
    wide_model: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelFileError, match=re.escape(message)):
        logits(wide_model, (write_adapter(tmp_path / "a.gguf", 1, **changes), 1.0))


def test_a_model_is_no_adapter_and_a_cut_one_is_refused(wide_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"general.type is None; expected adapter"):
        logits(wide_model, (wide_model, 1.0))
    whole = write_adapter(tmp_path / "a.gguf", 1).read_bytes()
    for length in (0, 10, 200, len(whole) - 64):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            logits(wide_model, (tmp_path / "cut.gguf", 1.0))
    with pytest.raises(ModelNotFoundError):
        logits(wide_model, (tmp_path / "gone.gguf", 1.0))


def test_a_prompt_cache_belongs_to_the_adapters_too(wide_model: Path, tmp_path: Path) -> None:
    adapter, kept = write_adapter(tmp_path / "a.gguf", 1), tmp_path / "kept.bin"
    with Engine.open(wide_model, EngineConfig(threads=1)) as engine:
        engine.generate("hello", GREEDY)
        assert engine.save_prompt_cache(kept)
    with (
        Engine.open(wide_model, EngineConfig(threads=1, loras=((adapter, 1.0),))) as engine,
        pytest.raises(ContextError, match="is of another model"),
    ):
        engine.load_prompt_cache(kept)


# --- the chat template --------------------------------------------------------------------------------


def test_a_chat_template_takes_the_place_of_the_models_own(wide_model: Path, tmp_path: Path) -> None:
    template = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}"
    with Engine.open(wide_model, EngineConfig(threads=1, chat_template=template)) as engine:
        tokens = engine.tokenize_prompt("hello", system="be brief")
        assert b"".join(map(engine.model.vocabulary.piece, tokens)) == b"<system>be brief<user>hello"
    assert read_header(wide_model).chat_template == tiny_gguf.CHATML


def test_a_chat_template_from_a_file(wide_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "template.jinja").write_text("{{ raise_exception('so it was read') }}")
    common = ["generate", "-m", str(wide_model), "-t", "1", "-n", "2", "hello"]
    assert run([*common, "--chat-template-file", str(tmp_path / "template.jinja")]) == 1
    assert "so it was read" in capsys.readouterr().err


def test_values_are_checked_in_python_too() -> None:
    refused: list[dict[str, Any]] = [
        {"cache_type_k": "f8"},
        {"exact": True, "cache_type_k": "q8_0"},
        {"ubatch_size": 0},
    ]
    for changes in refused:
        with pytest.raises(EntropixError):
            EngineConfig(**changes)


def test_an_opening_under_rosetta_says_so(
    wide_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("entropix_edge.engine.opening.is_translated", lambda: True)
    Engine.open(wide_model, EngineConfig(threads=1)).close()
    assert any("Rosetta, without Metal: install one for arm64" in message for message in caplog.messages)
