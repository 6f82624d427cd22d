"""The tap without flash attention, against attention computed in numpy from the model's own weights."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_gguf
from tiny_gguf import Shape, Weights

from entropix_edge.llama import Context, Model
from entropix_edge.llama.tensor import check_layout
from entropix_edge.metrics import attention_reference
from entropix_edge.types import AttentionMetrics, Cell, Row

TOLERANCE = 1e-4
PROMPT = [60, 70, 80, 75, 66, 90, 101, 99, 60, 61]
OTHER = [60, 70, 80, 75, 12, 13]


def expected(tokens: list[int], layers: Sequence[int], shape: Shape, weights: Weights) -> AttentionMetrics:
    """The last position's metrics, averaged over layers, by the definitions."""
    _logits, seen = tiny_gguf.forward(tokens, shape, weights)
    each = [attention_reference(seen[layer].weights[:, -1], seen[layer].scores[:, -1]) for layer in layers]
    columns = zip(*((m.entropy, m.varentropy, m.agreement, m.interaction_strength) for m in each), strict=True)
    return AttentionMetrics(*(float(np.mean(column)) for column in columns))


def assert_close(found: AttentionMetrics | None, wanted: AttentionMetrics, of_entropies: float = TOLERANCE) -> None:
    assert found is not None
    for name in ("entropy", "varentropy", "agreement", "interaction_strength"):
        tolerance = of_entropies if "entropy" in name else TOLERANCE
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=tolerance), name


def cells(tokens: list[int], sequence: int = 0, start: int = 0) -> list[Cell]:
    last = len(tokens) - 1
    return [Cell(token, start + i, sequence, wanted=i == last) for i, token in enumerate(tokens)]


def decode(context: Context, batch: list[Cell]) -> list[Row]:
    rows = context.decode(batch)
    assert rows is not None
    return rows


@pytest.fixture(params=["host", "device path"])
def open_context(request: pytest.FixtureRequest, tiny_model: Path) -> Callable[..., Context]:
    """Contexts over the tiny model; once more with every tensor read as if it lay on a device."""

    def make(layers: Sequence[int], sequences: int = 1) -> Context:
        model = Model(tiny_model)
        options: dict[str, Any] = {
            "n_ctx": 256,
            "flash_attention": "off",
            "cache_types": ("f32", "f32"),
            "sequences": sequences,
        }
        context = Context(model, threads=1, layers=layers, **options)
        request.addfinalizer(model.close)
        request.addfinalizer(context.close)
        assert context.tap
        if request.param == "device path":
            context.tap.always_copy()
        return context

    return make


@pytest.mark.parametrize("layers", [(2,), (0,), (0, 1, 2), (0, 2)])
def test_a_causal_prompt(
    open_context: Callable[..., Context], layers: tuple[int, ...], tiny_shape: Shape, tiny_weights: Weights
) -> None:
    (row,) = decode(open_context(layers), cells(PROMPT))
    assert_close(row.attention, expected(PROMPT, layers, tiny_shape, tiny_weights))


def test_single_token_steps(open_context: Callable[..., Context], tiny_shape: Shape, tiny_weights: Weights) -> None:
    context = open_context((2,))
    decode(context, cells(PROMPT[:4]))
    for position in range(4, len(PROMPT)):
        (row,) = decode(context, cells([PROMPT[position]], start=position))
        assert_close(row.attention, expected(PROMPT[: position + 1], (2,), tiny_shape, tiny_weights))


def test_a_batch_of_several_sequences(
    open_context: Callable[..., Context], tiny_shape: Shape, tiny_weights: Weights
) -> None:
    context = open_context((1, 2), sequences=3)
    rows = decode(context, cells(PROMPT, 0) + cells(OTHER, 1))
    for row, tokens in zip(rows, (PROMPT, OTHER), strict=True):
        assert_close(row.attention, expected(tokens, (1, 2), tiny_shape, tiny_weights))
    rows = decode(context, cells([7], 1, len(OTHER)) + cells([8], 0, len(PROMPT)))
    for row, tokens in zip(rows, ([*OTHER, 7], [*PROMPT, 8]), strict=True):
        assert_close(row.attention, expected(tokens, (1, 2), tiny_shape, tiny_weights))


def test_dropped_cells_are_not_attended(
    open_context: Callable[..., Context], tiny_shape: Shape, tiny_weights: Weights
) -> None:
    context = open_context((2,))
    decode(context, cells(PROMPT))
    assert context.truncate(0, 4)
    (row,) = decode(context, cells([33], start=4))
    assert_close(row.attention, expected([*PROMPT[:4], 33], (2,), tiny_shape, tiny_weights))


def test_a_first_token_attends_to_itself_alone(open_context: Callable[..., Context]) -> None:
    (row,) = decode(open_context((0,)), cells([60]))
    assert row.attention is not None
    assert row.attention.entropy == pytest.approx(0, abs=1e-6)
    assert row.attention.varentropy == pytest.approx(0, abs=1e-6)
    assert row.attention.agreement == pytest.approx(0, abs=1e-6)
    assert row.attention.interaction_strength > 0


def test_logits_agree_with_the_independent_model(
    open_context: Callable[..., Context], tiny_shape: Shape, tiny_weights: Weights
) -> None:
    logits, _seen = tiny_gguf.forward(PROMPT, tiny_shape, tiny_weights)
    (row,) = decode(open_context((2,)), cells(PROMPT))
    np.testing.assert_allclose(row.logits, logits[-1], atol=TOLERANCE)


def test_the_layout_of_tensors_is_where_the_tap_looks() -> None:
    check_layout()
