"""Attention read from flash attention's sources, against the definitions in numpy."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import gguf.quants
import numpy as np
import pytest
from test_attention import OTHER, PROMPT, TOLERANCE, assert_close, cells, decode
from tiny_attention import GEMMA, KINDS, LLAMA, Array, Kind, Still, exact, half
from tiny_gguf import Shape

from entropix_edge.llama import Context, Model
from entropix_edge.llama.attention import AttentionTap
from entropix_edge.types import Cell

# Some 20 of the keys' 57,600 numbers lie within 1e-4 of the middle between two steps of four bits, where a processor's
# last digits decide. One that moves by a step moves entropy by up to 8e-4 bits, varentropy by 1.6e-3; on ARM one does.
ROUNDED = 2e-3
LONG = [3 + (7 * i + i // 5) % 200 for i in range(300)]
ALL = (0, 1, 2)


@pytest.fixture(params=["host", "device path"])
def open_still(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Context]:
    """Contexts over still models; once more with every tensor read as if it lay on a device."""

    def make(still: Still, layers: Sequence[int] = ALL, key_type: str = "f32", **options: Any) -> Context:
        model = Model(still.write(tmp_path / "still.gguf"))
        settings: dict[str, Any] = {"n_ctx": 512, "flash_attention": "on"} | options
        settings["cache_types"] = (key_type, key_type)
        context = Context(model, threads=1, layers=layers, **settings)
        request.addfinalizer(model.close)
        request.addfinalizer(context.close)
        if request.param == "device path":
            assert context.tap
            context.tap.always_copy()
        return context

    return make


@pytest.mark.parametrize("flash", ["on", "off"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.architecture)
def test_every_way_to_attend(open_still: Callable[..., Context], kind: Kind, flash: str) -> None:
    """Windows, caps, ALiBi's slopes of heads that are no power of two, sinks: read with flash attention and without."""
    still = Still.random(kind, Shape(n_embd=48, n_head=6, n_head_kv=2))
    stored = half if flash == "on" else exact
    context = open_still(still, flash_attention=flash)
    (row,) = decode(context, cells(PROMPT))
    assert_close(row.attention, still.metrics(PROMPT, ALL, stored))
    for position, token in enumerate(OTHER, start=len(PROMPT)):
        (row,) = decode(context, cells([token], start=position))
        assert_close(row.attention, still.metrics([*PROMPT, *OTHER[: position + 1 - len(PROMPT)]], ALL, stored))


@pytest.mark.parametrize("layer", ALL)
def test_each_layer_by_itself(open_still: Callable[..., Context], layer: int) -> None:
    still = Still.random(LLAMA)
    (row,) = decode(open_still(still, (layer,)), cells(PROMPT))
    assert_close(row.attention, still.metrics(PROMPT, (layer,), half))


@pytest.mark.parametrize("heads", [(1, 1), (8, 8), (8, 1), (6, 3)])
@pytest.mark.parametrize("head", [2, 8, 34])
def test_any_number_and_size_of_heads(open_still: Callable[..., Context], heads: tuple[int, int], head: int) -> None:
    shape = Shape(n_embd=heads[0] * head, n_head=heads[0], n_head_kv=heads[1])
    still = Still.random(LLAMA, shape)
    (row,) = decode(open_still(still), cells(LONG[:100]))
    assert_close(row.attention, still.metrics(LONG[:100], ALL, half))


def quantised(kind: gguf.GGMLQuantizationType, keys: Array) -> Array:
    """Keys as they come back from a quantised cache."""
    written = gguf.quants.quantize(keys.astype(np.float32), kind)
    return np.asarray(gguf.quants.dequantize(written, kind), np.float64)


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_every_type_of_keys(open_still: Callable[..., Context], name: str) -> None:
    kind = gguf.GGMLQuantizationType[name]
    stored = half if name == "F32" else functools.partial(quantised, kind)
    still = Still.random(LLAMA, Shape(n_embd=128, n_head=4, n_head_kv=2))
    context = open_still(still, key_type=kind.name.lower())
    tolerance = ROUNDED if name.startswith(("Q4", "Q5")) else TOLERANCE
    (row,) = decode(context, cells(LONG))
    assert_close(row.attention, still.metrics(LONG, ALL, stored), tolerance)
    (row,) = decode(context, cells([9], start=len(LONG)))
    assert_close(row.attention, still.metrics([*LONG, 9], ALL, stored), tolerance)


def test_keys_of_a_type_that_gguf_cannot_write_are_near(open_still: Callable[..., Context]) -> None:
    still = Still.random(LLAMA, Shape(n_embd=128, n_head=4, n_head_kv=2))
    (row,) = decode(open_still(still, key_type="iq4_nl"), cells(LONG))
    near, wanted = row.attention, still.metrics(LONG, ALL, exact)
    assert near is not None
    assert near.entropy == pytest.approx(wanted.entropy, rel=0.05)
    assert near.interaction_strength == pytest.approx(wanted.interaction_strength, rel=0.05)


# --- sequences ------------------------------------------------------------------------------------


@pytest.mark.parametrize("flash", ["on", "off"])
@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "parted"])
def test_sequences_of_different_lengths_in_one_batch(
    open_still: Callable[..., Context], pooled: bool, flash: str
) -> None:
    """Of parts, llama.cpp computes such a batch in several micro-batches, and not in its order."""
    still = Still.random(LLAMA)
    stored = half if flash == "on" else exact
    context = open_still(still, n_ctx=4 * 256, sequences=4, pooled=pooled, flash_attention=flash)
    texts = {2: LONG[:70], 0: PROMPT, 3: OTHER}
    rows = decode(context, [cell for sequence, tokens in texts.items() for cell in cells(tokens, sequence)])
    for row, tokens in zip(rows, texts.values(), strict=True):
        assert_close(row.attention, still.metrics(tokens, ALL, stored))
    batch = [Cell(40 + sequence, len(tokens), sequence, wanted=True) for sequence, tokens in texts.items()]
    for row, (sequence, tokens) in zip(decode(context, batch), texts.items(), strict=True):
        assert_close(row.attention, still.metrics([*tokens, 40 + sequence], ALL, stored))


@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "parted"])
@pytest.mark.parametrize("kind", [LLAMA, GEMMA], ids=lambda kind: kind.architecture)
def test_tokens_of_sequences_in_turns(open_still: Callable[..., Context], kind: Kind, pooled: bool) -> None:
    still = Still.random(kind)
    context = open_still(still, n_ctx=3 * 256, sequences=3, pooled=pooled)
    batch = [Cell(token, i, sequence, wanted=False) for i, token in enumerate(PROMPT) for sequence in (1, 2)]
    batch += [Cell(50, len(PROMPT), 2, wanted=True), Cell(51, len(PROMPT), 1, wanted=True)]
    for row, last in zip(decode(context, batch), (50, 51), strict=True):
        assert_close(row.attention, still.metrics([*PROMPT, last], ALL, half))


@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "parted"])
def test_after_forks_and_truncation(open_still: Callable[..., Context], pooled: bool) -> None:
    still = Still.random(LLAMA)
    context = open_still(still, n_ctx=3 * 256, sequences=3, pooled=pooled)
    decode(context, cells(LONG[:100]))
    context.fork(0, 1)
    context.fork(0, 2)
    rows = decode(context, [Cell(40 + sequence, 100, sequence, wanted=True) for sequence in range(3)])
    for sequence, row in enumerate(rows):
        assert_close(row.attention, still.metrics([*LONG[:100], 40 + sequence], ALL, half))
    assert context.truncate(1, 5)
    assert context.truncate(2)
    rows = decode(context, cells([60], 1, 5) + cells(PROMPT, 2))
    assert_close(rows[0].attention, still.metrics([*LONG[:5], 60], ALL, half))
    assert_close(rows[1].attention, still.metrics(PROMPT, ALL, half))


def test_a_prompt_in_pieces(open_still: Callable[..., Context]) -> None:
    still = Still.random(LLAMA)
    context = open_still(still, batch_size=64)
    for start in range(0, 192, 64):
        (row,) = decode(context, cells(LONG[start : start + 64], start=start))
    assert_close(row.attention, still.metrics(LONG[:192], ALL, half))


# --- what it is read beside -------------------------------------------------------------------------


def test_the_whole_tiny_model_is_near_what_it_is_without_flash_attention(tiny_model: Path) -> None:
    """Flash attention sums values in F16, so what reaches deeper layers differs in the third digit."""
    seen = []
    for flash in ("on", "off"):
        options: dict[str, Any] = {"n_ctx": 256, "layers": ALL, "flash_attention": flash, "cache_types": ("f32", "f32")}
        with Model(tiny_model) as model, Context(model, threads=1, **options) as context:
            (row,) = decode(context, cells(PROMPT))
            seen.append(row.attention)
    assert seen[0] is not None
    assert seen[1] is not None
    for name in ("entropy", "varentropy", "agreement", "interaction_strength"):
        assert getattr(seen[0], name) == pytest.approx(getattr(seen[1], name), abs=5e-3), name


@pytest.mark.parametrize("flash", ["on", "off"])
def test_too_little_room_is_reported_and_not_overrun(tiny_model: Path, flash: str) -> None:
    options: dict[str, Any] = {"n_ctx": 256, "layers": (2,), "flash_attention": flash}
    with Model(tiny_model) as model, Context(model, threads=1, **options) as context:
        assert context.tap
        small = AttentionTap((2,), model.n_layer, 1, 1, 1)
        context.tap._state[:] = small._state
        (row,) = decode(context, cells(PROMPT))
        assert row.attention is None
