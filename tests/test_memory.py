"""Predicted memory against what llama.cpp itself plans, which it does from headers alone: no weight is read."""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gguf
import llama_cpp.llama_cpp as llama
import numpy as np
import pytest
import tiny_gguf

from entropix_edge import Engine
from entropix_edge.cli import run
from entropix_edge.config import EngineConfig
from entropix_edge.engine import open_context, planned_context
from entropix_edge.errors import ContextError
from entropix_edge.llama import Context, Header, Model, Shape, attention, context, devices, plan, predict, read_header

MIB = 2**20
F16, F32, Q8 = llama.GGML_TYPE_F16, llama.GGML_TYPE_F32, llama.GGML_TYPE_Q8_0

Tensors = Iterator[tuple[str, tuple[int, ...]]]
E = 256  # length of an embedding


def ends(architecture: str) -> Tensors:
    yield "token_embd", (tiny_gguf.N_VOCAB, E)
    yield "token_embd_norm" if architecture == "lfm2" else "output_norm", (E,)
    yield "output", (tiny_gguf.N_VOCAB, E)


def block(heads: int, heads_kv: int, keys: int, values: int | None = None, n_ff: int = 512, *more: str) -> Tensors:
    """The parts of a transformer's layer; `more` are vectors, of a head's length or the embedding's."""
    values = values or keys
    yield "attn_norm", (E,)
    yield "attn_q", (heads * keys, E)
    yield "attn_k", (heads_kv * keys, E)
    yield "attn_v", (heads_kv * values, E)
    yield "attn_output", (E, heads * values)
    yield from feed_forward(n_ff)
    for name in more:
        yield name, (keys,) if name in ("attn_q_norm", "attn_k_norm") else (E,)


def feed_forward(n_ff: int = 512) -> Tensors:
    yield "ffn_norm", (E,)
    yield "ffn_gate", (n_ff, E)
    yield "ffn_up", (n_ff, E)
    yield "ffn_down", (E, n_ff)


def short_convolution() -> Tensors:
    yield "attn_norm", (E,)
    yield "shortconv.conv", (E, 3)
    yield "shortconv.in_proj", (3 * E, E)
    yield "shortconv.out_proj", (E, E)
    yield from feed_forward()


def experts(number: int, n_ff: int) -> Tensors:
    yield from (part for part in block(4, 2, 64, None, 0, "attn_q_norm", "attn_k_norm") if "ffn_" not in part[0])
    yield "ffn_norm", (E,)
    yield "ffn_gate_inp", (number, E)
    yield "ffn_gate_exps", (number, n_ff, E)
    yield "ffn_up_exps", (number, n_ff, E)
    yield "ffn_down_exps", (number, E, n_ff)


def hollow(path: Path, architecture: str, layers: list[Tensors], heads_kv: int | list[int], **keys: Any) -> Path:
    """A file with a model's header and nothing in its tensors."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(65536)
    writer.add_embedding_length(E)
    writer.add_block_count(len(layers))
    writer.add_head_count_kv(heads_kv)
    writer.add_layer_norm_rms_eps(1e-5)
    for key, value in ({"attention.head_count": 4, "feed_forward_length": 512} | keys).items():
        add = writer.add_array if isinstance(value, list) else writer.add_uint32
        add(f"{architecture}.{key}", value)
    tiny_gguf.add_tokenizer(writer, None)
    parts = list(ends(architecture)) + [
        (f"blk.{i}.{name}", shape) for i, layer in enumerate(layers) for name, shape in layer
    ]
    for name, shape in parts:
        size = 4 * int(np.prod(shape))
        writer.add_tensor_info(f"{name}.weight", shape, np.dtype(np.float32), size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("ab") as file:
        file.truncate(file.tell() + 64 + sum(4 * int(np.prod(shape)) + 32 for _name, shape in parts))
    return path


def mixed_heads(path: Path) -> Path:
    layers = [block(4, kv, 64) for kv in (1, 2, 4)]
    return hollow(path, "deci", layers, [1, 2, 4], **{"attention.head_count": [4, 4, 4], "rope.dimension_count": 64})


def sliding(path: Path) -> Path:
    more = ("attn_q_norm", "attn_k_norm", "post_attention_norm", "post_ffw_norm")
    layers = [block(4, 1, 128, None, 512, *more) for _ in range(6)]
    keys = {"attention.key_length": 128, "attention.value_length": 128, "attention.sliding_window": 512}
    return hollow(path, "gemma3", layers, 1, **keys)


def unlike_values(path: Path) -> Path:
    lengths = {"attention.key_length": 96, "attention.value_length": 32, "rope.dimension_count": 96}
    window = {"attention.sliding_window": 512, "attention.sliding_window_pattern": [True, False, True]}
    layers = [block(4, 2, 96, 32) for _ in range(3)]
    return hollow(path, "mimo2", layers, 2, **lengths, **window, expert_feed_forward_length=0)


def hybrid(path: Path) -> Path:
    norms = ("attn_q_norm", "attn_k_norm")
    layers = [short_convolution(), block(4, 2, 64, None, 512, *norms), short_convolution()]
    return hollow(path, "lfm2", layers, [0, 2, 0], **{"shortconv.l_cache": 3, "rope.dimension_count": 64})


def mixture(path: Path) -> Path:
    keys = {"expert_count": 8, "expert_used_count": 4, "expert_feed_forward_length": 384, "feed_forward_length": 0}
    lengths = {"attention.key_length": 64, "attention.value_length": 64}
    return hollow(path, "qwen3moe", [experts(8, 384) for _ in range(2)], 2, **keys, **lengths)


def longer_keys(path: Path) -> Path:
    lengths = dict.fromkeys(("attention.key_length", "attention.value_length", "rope.dimension_count"), 96)
    return hollow(path, "llama", [block(4, 2, 96) for _ in range(3)], 2, **lengths)


def plain(path: Path) -> Path:
    return hollow(path, "llama", [block(4, 2, 64, None, 4096) for _ in range(3)], 2, feed_forward_length=4096)


MODELS: dict[str, Callable[[Path], Path]] = {
    "plain": plain,
    "keys longer than n_embd / n_head": longer_keys,
    "keys and values unlike, a window's pattern": unlike_values,
    "heads by layer": mixed_heads,
    "a sliding window": sliding,
    "layers without attention": hybrid,
    "experts": mixture,
    "no attention": lambda path: tiny_gguf.write_mamba(path),
}
SHAPES = {
    "default": Shape(n_ctx=4096, n_batch=512, sequences=9),
    "one sequence, flash attention": Shape(n_ctx=8192, n_batch=512, flash_attention=True),
    "odd numbers": Shape(n_ctx=1000, n_batch=100, sequences=3),
    "parts": Shape(n_ctx=4096, n_batch=64, sequences=4, pooled=False),
    "parts, flash attention": Shape(n_ctx=3000, n_batch=64, sequences=4, pooled=False, flash_attention=True),
    "exact": Shape(n_ctx=2048, n_batch=256, type_k=F32, type_v=F32),
    "quantised": Shape(n_ctx=2048, n_batch=256, flash_attention=True, type_k=Q8, type_v=Q8),
}


class Planned:
    """What llama.cpp logs of a context that it plans and does not allocate, in MiB."""

    def __init__(self, path: Path, shape: Shape, caplog: pytest.LogCaptureFixture) -> None:
        caplog.clear()
        model_params = llama.llama_model_default_params()
        model_params.no_alloc, model_params.load_mode = True, llama.LLAMA_LOAD_MODE_NONE
        model_params.use_extra_bufts, model_params.n_gpu_layers = False, 0
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = shape.n_ctx, shape.n_batch, shape.n_batch
        params.n_seq_max = params.n_outputs_max = shape.sequences
        params.kv_unified, params.flash_attn_type = shape.pooled, int(shape.flash_attention)
        params.type_k, params.type_v = shape.type_k, shape.type_v
        with caplog.at_level(logging.DEBUG, "entropix_edge.llama"):
            model = llama.llama_model_load_from_file(str(path).encode(), model_params)
            assert model, caplog.messages[-5:]
            context = llama.llama_init_from_model(model, params)
            assert context, caplog.messages[-5:]
            llama.llama_free(context)
            llama.llama_model_free(model)
        self._said = "\n".join(caplog.messages)
        self.cache = self._sum(r"kv_cache: size = +([\d.]+) MiB")
        self.logits = self._sum(r"output buffer size = +([\d.]+) MiB")
        self.compute = self._sum(r"compute buffer size = +([\d.]+) MiB")

    def _sum(self, pattern: str) -> float:
        return sum(float(size) for size in re.findall(pattern, self._said))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_plans_what_was_predicted(
    name: str, shape: Shape, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = MODELS[name](tmp_path / "model.gguf")
    predicted, planned = predict(read_header(path), shape), Planned(path, shape, caplog)
    assert predicted.cache / MIB == pytest.approx(planned.cache, abs=0.011)
    assert predicted.logits / MIB == pytest.approx(planned.logits, abs=0.006)
    if name not in ("layers without attention", "no attention"):  # their graphs are others
        assert predicted.compute / MIB == pytest.approx(planned.compute, rel=0.1, abs=0.1)


def test_the_old_arithmetic_was_wrong_here(tmp_path: Path) -> None:
    header = read_header(longer_keys(tmp_path / "model.gguf"))
    assert header.n_embd is not None
    assert header.n_heads is not None
    assert header.key_length == 96 != header.n_embd // header.n_heads
    assert predict(header, Shape(n_ctx=256, n_batch=32)).cache == 256 * 3 * 2 * (2 * 96) * 2


def test_the_taps_are_as_large_as_predicted() -> None:
    n_layer, n_head, n_ctx, rows = 3, 4, 1000, 9
    tap = attention.AttentionTap((n_layer - 1,), n_layer, n_head, n_ctx, rows)
    arrays = (value for value in vars(tap).values() if isinstance(value, np.ndarray))
    held = sum(array.nbytes for array in arrays if array is not tap._state)
    shape = Shape(n_ctx=n_ctx, n_batch=32, sequences=rows, taps=True)
    assert held == pytest.approx(predict(small_header(n_layer, n_head), shape).taps, rel=0.01)


def small_header(n_layer: int, n_head: int) -> Header:
    nothing: dict[str, Any] = {field.name: None for field in dataclasses.fields(Header)}
    counts = {
        "n_layers": n_layer,
        "n_heads": n_head,
        "file_size": 0,
        "cell_lengths": (),
        "n_masks": 1,
        "n_merges": 0,
        "matrices": {},
    }
    return Header(**nothing | counts)


def test_what_cannot_fit_is_refused_before_it_is_asked_for(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Model(tiny_model) as model:
        shape = Shape(n_ctx=512, n_batch=512, flash_attention=True)
        needed = predict(model.header, shape).context
        monkeypatch.setattr(context, "available_memory", lambda: needed - 1)
        with pytest.raises(ContextError, match=r"a context of 512 tokens needs about .*: lower ctx_size$"):
            Context(model, n_ctx=512, threads=1)
        monkeypatch.setattr(context, "available_memory", lambda: needed)
        Context(model, n_ctx=512, threads=1).close()


@pytest.mark.parametrize(("n_ctx", "n_head", "batch"), [(4096, 9, 455), (65536, 32, 32), (512, 4, 512), (4096, 0, 512)])
def test_a_batch_is_as_large_as_its_scores_allow(n_ctx: int, n_head: int, batch: int) -> None:
    assert plan(n_ctx, n_head, watched=True, flash_attention="off").n_batch == batch
    assert plan(n_ctx, n_head, watched=True).n_batch == 512  # with flash attention no scores are kept


class Card(NamedTuple):
    """As much of a device as is asked."""

    free_memory: int
    takes_layers: bool = True


@pytest.mark.parametrize("flash", ["auto", "on", "off"])
def test_a_device_is_filled_as_the_context_that_is_then_opened_needs(
    flash: Literal["auto", "on", "off"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plain(tmp_path / "model.gguf")
    config = EngineConfig(ctx_size=8192, flash_attention=flash)
    planned = partial(planned_context, config)
    needed = predict(read_header(path), planned(read_header(path))).total
    module = sys.modules[devices.__module__]
    for free, layers in ((needed, 4), (needed - 2 * MIB, 3)):
        monkeypatch.setattr(module, "devices", lambda free=free: [Card(int(free / 0.9) + 1)])
        with Model(path, context=planned) as model:
            assert model.gpu_layers == layers
            with open_context(model, config) as opened:
                assert opened.n_ctx == planned(model.header).n_ctx == 8192
                assert opened.n_batch == planned(model.header).n_batch


def small_quantised(path: Path, name: str) -> Path:
    """A llama of zeros whose matrices are of one type."""
    kind = gguf.GGMLQuantizationType[name]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(512)
    writer.add_block_count(2)
    writer.add_feed_forward_length(1024)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_rope_dimension_count(128)
    writer.add_layer_norm_rms_eps(1e-5)
    tiny_gguf.add_tokenizer(writer, None)

    def put(tensor: str, rows: int, columns: int) -> None:
        writer.add_tensor(f"{tensor}.weight", np.zeros((rows, columns // block * size), np.uint8), raw_dtype=kind)

    for tensor in ("token_embd", "output"):
        put(tensor, tiny_gguf.N_VOCAB, 512)
    writer.add_tensor("output_norm.weight", np.ones(512, np.float32))
    for i in range(2):
        for tensor in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{i}.{tensor}.weight", np.ones(512, np.float32))
        for tensor in ("attn_q", "attn_k", "attn_v", "attn_output"):
            put(f"blk.{i}.{tensor}", 512, 512)
        put(f"blk.{i}.ffn_gate", 1024, 512)
        put(f"blk.{i}.ffn_up", 1024, 512)
        put(f"blk.{i}.ffn_down", 512, 1024)
    return tiny_gguf.finish(writer, path)


TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"]


@pytest.mark.parametrize("name", TYPES)
def test_weights_that_llama_cpp_lays_out_anew_are_counted_twice(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = small_quantised(tmp_path / "model.gguf", name)
    with caplog.at_level(logging.DEBUG, "entropix_edge.llama"):
        Model(path).close()
    logged = re.search(r"CPU_REPACK model buffer size = +([\d.]+) MiB", "\n".join(caplog.messages))
    header = read_header(path)
    predicted = predict(header, plan(256, 4))
    assert predicted.repacked / MIB == pytest.approx(float(logged[1]) if logged else 0, abs=0.011)
    assert predict(header, plan(256, 4), mmap=False).repacked == 0


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_module = sys.modules[predict.__module__]
    header = read_header(tiny_model)
    needed = predict(header, planned_context(EngineConfig(ctx_size=512), header))
    loaded: list[bytes] = []
    load = llama.llama_model_load_from_file

    def note(path: bytes, params: Any) -> Any:
        loaded.append(path)
        return load(path, params)

    monkeypatch.setattr(llama, "llama_model_load_from_file", note)

    def opened(free: int, **config: Any) -> None:
        monkeypatch.setattr(memory_module, "available_memory", lambda: free)
        monkeypatch.setattr(context, "available_memory", lambda: free)
        Engine.open(tiny_model, EngineConfig(threads=1, ctx_size=512, **config)).close()

    with pytest.raises(ContextError, match=r"needs about \d+ MiB \(.*context\) and \d+ MiB are free: lower ctx_size"):
        opened(needed.total - 1)
    with pytest.raises(ContextError, match="take a smaller model or quantisation, or force it"):
        opened(needed.model)
    assert not loaded
    opened(needed.total)
    opened(1, force=True)
    assert len(loaded) == 2


def test_force_on_the_command_line(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.modules[predict.__module__], "available_memory", lambda: 10)
    arguments = ["generate", "-m", str(tiny_model), "-t", "1", "-n", "2", "hello"]
    assert run(arguments) == 1
    assert "take a smaller model" in capsys.readouterr().err
    assert run([*arguments, "--force"]) == 0


def test_info_says_what_is_needed(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*options: str) -> dict[str, str]:
        assert run(["info", str(tiny_model), *options]) == 0
        return dict(re.findall(r"^(\w+) +(.*)$", capsys.readouterr().out, re.MULTILINE))

    found = told()
    assert re.fullmatch(
        r"about [\d.]+ [kM]B at 512 tokens of context: [\d.]+ kB of weights, [\d.]+ kB of vocabulary, "
        r"[\d.]+ kB of KV cache, [\d.]+ [kM]B of buffers; the process itself about 99.6 MB",
        found["memory"],
    )
    assert found["fits"].startswith("yes: ")
    assert "at 256 tokens" in told("-c", "256")["memory"]
    assert told("-fa", "off")["memory"] != found["memory"] != told("-ctk", "f32")["memory"]
    assert told("--attention", "off")["memory"] != found["memory"]
    monkeypatch.setattr(sys.modules[predict.__module__], "available_memory", lambda: 10)
    assert told()["fits"].startswith("no: ")
