"""What the kernels cost: `.venv/bin/python -m pytest tests/benchmarks --benchmark-enable`.

In the suite each runs once, untimed. Limits to hold against `numpy.max` over the same row and against each other
stand in docs/PERFORMANCE.md.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from entropix_edge import native
from entropix_edge.llama.attention import AttentionTap
from entropix_edge.llama.library import InitParams, ggml, ggml_devices
from entropix_edge.metrics import describe
from entropix_edge.native import layout
from entropix_edge.sampling import draw
from entropix_edge.types import Cell, SamplerSettings

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

N_VOCAB = (49_152, 128_256, 262_144)
N_HEAD, N_KV = 14, 1024


@pytest.fixture(params=N_VOCAB)
def logits(request: pytest.FixtureRequest) -> npt.NDArray[np.float32]:
    """A row as models make them: normal, with a few leading tokens."""
    random = np.random.default_rng(0)
    size: int = request.param
    row = random.normal(-4.0, 2.5, size).astype(np.float32)
    row[random.integers(size, size=20)] += 12.0
    return row


def test_maximum_by_numpy(benchmark: BenchmarkFixture, logits: npt.NDArray[np.float32]) -> None:
    assert benchmark(logits.max) == logits[describe(logits, 0).best]


def test_metrics(benchmark: BenchmarkFixture, logits: npt.NDArray[np.float32]) -> None:
    assert benchmark(describe, logits, 0).entropy > 0


@pytest.mark.parametrize(
    "settings",
    [
        SamplerSettings(0.666, 27, 0.90, 0.03),
        SamplerSettings(0.7, 100, 1.0, 0.05),
        SamplerSettings(1.0, 0, 1.0, 0.05),
        SamplerSettings(1.0, 0, 1.0, 0.0),
    ],
    ids=["top_k 27", "top_k 100", "min_p", "none"],
)
def test_filters_and_draw(
    benchmark: BenchmarkFixture, logits: npt.NDArray[np.float32], settings: SamplerSettings
) -> None:
    distribution = describe(logits, 0)
    assert 0 <= benchmark(draw, logits, distribution, settings, 0.7) < logits.size


def test_attention(benchmark: BenchmarkFixture) -> None:
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.ones(N_KV), (N_HEAD, 1)).astype(np.float32)
    scores = random.normal(size=(1, N_HEAD, N_KV)).astype(np.float32)
    mean, out = np.empty(N_KV, np.float32), np.zeros(4)
    addresses = [array.ctypes.data for array in (weights, scores, mean, out)]
    benchmark(native.KERNELS.attention, addresses[0], N_KV, addresses[1], N_HEAD, N_KV, 0.125, *addresses[2:])
    assert out[0] > 0


@pytest.fixture(params=[(9, 3, 64), (14, 2, 64), (32, 8, 128)], ids=["135M", "0.5B", "8B"])
def heads(request: pytest.FixtureRequest) -> tuple[int, int, int]:
    """Heads, those of keys, and their length, of three sizes of models."""
    found: tuple[int, int, int] = request.param
    return found


@pytest.fixture(params=[1024, 8192])
def node(request: pytest.FixtureRequest, heads: tuple[int, int, int]) -> Iterator[int]:
    """A flash attention of one token over so many cells of an F16 cache, all of which it attends to."""
    n_kv: int = request.param
    n_head, n_head_kv, size = heads
    library, random = ggml(), np.random.default_rng(0)
    context = library.ggml_init(InitParams(1 << 16, None, True))
    query = library.ggml_new_tensor_3d(context, layout.F32, size, 1, n_head)
    keys, values = (library.ggml_new_tensor_3d(context, layout.F16, size, n_kv, n_head_kv) for _ in range(2))
    mask = library.ggml_new_tensor_3d(context, layout.F16, n_kv, 1, 1)
    found = library.ggml_flash_attn_ext(context, query, keys, values, mask, 0.125, 0.0, 0.0)
    library.ggml_set_name(query, b"Qcur-0")
    cpu = ggml_devices().ggml_backend_dev_get(ggml_devices().ggml_backend_dev_count() - 1)
    buffer_type = library.ggml_backend_dev_buffer_type(cpu)
    buffer = library.ggml_backend_alloc_ctx_tensors_from_buft(context, buffer_type)
    numbers: list[tuple[int, npt.NDArray[np.generic]]] = [
        (query, random.normal(size=(n_head, size)).astype(np.float32)),
        (keys, random.normal(size=(n_head_kv, n_kv, size)).astype(np.float16)),
        (mask, np.zeros(n_kv, np.float16)),
    ]
    for tensor, data in numbers:
        ctypes.memmove(library.ggml_get_data(tensor), data.ctypes.data, data.nbytes)
    yield found
    library.ggml_backend_buffer_free(buffer)
    library.ggml_free(context)


def test_attention_from_a_flash_attentions_sources(
    benchmark: BenchmarkFixture, node: int, heads: tuple[int, int, int]
) -> None:
    tap = AttentionTap((0,), 1, heads[0], 8192, 1)
    tap.expect([0], [Cell(0, 0, 0, wanted=True)])
    benchmark(native.TAP.observe, node, False, tap.user_data.value)
    assert tap._state[layout.FAULT] == 0
    assert tap._state[layout.ROWS_SEEN] > 0
    tap.expect([0], [Cell(0, 0, 0, wanted=True)])
    native.TAP.observe(node, False, tap.user_data.value)
    assert tap.collect()[0].entropy > 1
