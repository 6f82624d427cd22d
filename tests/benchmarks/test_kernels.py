"""What the kernels cost: `.venv/bin/python -m pytest tests/benchmarks --benchmark-enable`.

In the suite each runs once, untimed. Limits to hold against `numpy.max` over the same row and against each other
stand in docs/PERFORMANCE.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

import entropix_edge.llama  # noqa: F401 - the tap calls ggml
from entropix_edge import native
from entropix_edge.metrics import describe
from entropix_edge.sampling import draw
from entropix_edge.types import SamplerSettings

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
    benchmark(native.TAP.attention, addresses[0], N_KV, addresses[1], N_HEAD, N_KV, 0.125, *addresses[2:])
    assert out[0] > 0
