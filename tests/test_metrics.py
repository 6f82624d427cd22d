"""The kernels against the definitions, written out in float64."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import entropix_edge.llama  # noqa: F401 - the tap calls ggml
from entropix_edge import native
from entropix_edge.errors import MetricsError
from entropix_edge.metrics import Distribution, attention_reference, describe, describe_reference

Row = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float32]

# e^x and the sums over a block are float32: some 1e-7 a term and 1e-6 a sum. The varentropy is the
# difference of two moments, so its error is a share of the second moment, at most (H + 2)² here.
RELATIVE = 1e-5

quick = settings(max_examples=60)
seeds = st.integers(0, 2**32 - 1)


def row(*logits: float) -> Row:
    return np.array(logits, np.float32)


def assert_agrees(logits: Row) -> Distribution:
    found, wanted = describe(logits, 0), describe_reference(logits)
    assert found.best == wanted.best
    assert found.maximum == wanted.maximum
    assert found.log_total == pytest.approx(wanted.log_total, rel=1e-6, abs=1e-5)
    assert found.entropy == pytest.approx(wanted.entropy, rel=RELATIVE, abs=RELATIVE)
    second_moment = wanted.varentropy + (wanted.entropy + 2) ** 2
    assert found.varentropy == pytest.approx(wanted.varentropy, rel=RELATIVE, abs=RELATIVE * second_moment)
    return found


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """Logits as models make them and worse: any size, any spread, far from zero, partly impossible."""
    random = np.random.default_rng(draw(seeds))
    size = draw(st.integers(1, 2000) | st.sampled_from([511, 512, 513, 1024, 32_000, 70_000]))
    logits = random.normal(size=size) * draw(st.sampled_from([1e-4, 0.3, 1.0, 3.0, 10.0, 100.0, 5e3]))
    if draw(st.booleans()):
        logits = logits.round()
    logits += draw(st.sampled_from([0.0, 0.0, 17.5, -40.0, 1e4, -1e4]))
    impossible = random.random(size) < draw(st.sampled_from([0.0, 0.0, 0.1, 0.99]))
    impossible[random.integers(size)] = False
    logits[impossible] = -np.inf
    return logits.astype(np.float32)


# --- the next-token distribution ----------------------------------------------------------------


@quick
@given(rows())
def test_the_kernel_agrees_with_the_definitions(logits: Row) -> None:
    assert_agrees(logits)


@quick
@given(rows())
def test_entropy_and_varentropy_keep_their_bounds(logits: Row) -> None:
    found = describe(logits, 0)
    possible = int(np.isfinite(logits).sum())
    assert 0 <= found.entropy <= math.log2(possible) * (1 + RELATIVE) + 1e-6
    assert found.varentropy >= 0


@pytest.mark.parametrize("size", [1, 2, 3, 511, 512, 513, 4096, 49_152, 70_000])
@pytest.mark.parametrize("value", [0.0, -0.0, 7.25, 1e4, -1e4, 3e38, -3e38])
def test_a_constant_row_is_as_uncertain_as_can_be(size: int, value: float) -> None:
    found = describe(np.full(size, value, np.float32), 0)
    assert found.best == 0
    assert found.entropy == pytest.approx(math.log2(size), rel=1e-6, abs=1e-6)
    assert found.varentropy == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("others", [-np.inf, -1e4, -100.0])
@pytest.mark.parametrize("place", [0, 700, 999])
def test_a_one_hot_row_is_certain(others: float, place: int) -> None:
    logits = np.full(1000, others, np.float32)
    logits[place] = 3.0
    found = describe(logits, 0)
    assert found.best == place
    assert found.entropy == pytest.approx(0, abs=1e-6)
    assert found.varentropy == pytest.approx(0, abs=1e-6)
    assert found.log_total == pytest.approx(3.0)


@pytest.mark.parametrize("p", [0.5, 0.6, 0.75, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("impossible", [0, 5000])
def test_two_tokens_give_the_closed_forms(p: float, impossible: int) -> None:
    logits = np.concatenate([row(math.log(p), math.log(1 - p)), np.full(impossible, -np.inf, np.float32)])
    found = describe(logits, 0)
    assert found.entropy == pytest.approx(-p * math.log2(p) - (1 - p) * math.log2(1 - p), rel=RELATIVE)
    assert found.varentropy == pytest.approx(p * (1 - p) * math.log2(p / (1 - p)) ** 2, rel=1e-4, abs=1e-6)
    assert found.log_total == pytest.approx(0, abs=1e-6)


def test_four_tokens_of_a_half_a_quarter_and_two_eighths() -> None:
    found = describe(np.log(row(0.5, 0.25, 0.125, 0.125)), 0)
    assert found.entropy == pytest.approx(1.75, rel=RELATIVE)
    assert found.varentropy == pytest.approx(0.6875, rel=RELATIVE)  # Σ p·(1.75 − surprisal)²


@quick
@given(rows(), st.integers(-4096, 4096))
def test_a_shift_of_all_logits_moves_only_the_maximum_and_the_total(logits: Row, shift: int) -> None:
    grid = np.float32(2**-8)  # so that the shift itself rounds nothing
    logits = (np.round(np.clip(logits, -4096, 4096) / grid) * grid).astype(np.float32)
    before, after = describe(logits, 0), describe(logits + np.float32(shift), 0)
    assert after.best == before.best
    assert after.entropy == before.entropy
    assert after.varentropy == before.varentropy
    assert after.maximum == before.maximum + shift
    assert after.log_total == pytest.approx(before.log_total + shift, abs=1e-9)


@quick
@given(rows())
def test_log_total_turns_logits_into_log_probabilities(logits: Row) -> None:
    log_probabilities = logits.astype(np.float64) - describe(logits, 0).log_total
    assert np.exp(log_probabilities).sum() == pytest.approx(1, rel=RELATIVE)


@pytest.mark.parametrize("places", [(0, 1), (3, 900), (511, 512), (600, 601, 602), (1022, 1023)])
def test_among_equals_the_lowest_index_is_best(places: tuple[int, ...]) -> None:
    logits = np.linspace(-9, -1, 1024, dtype=np.float32)
    logits[list(places)] = 2.0
    assert describe(logits, 0).best == places[0]


@pytest.mark.parametrize("logits", [row(-1, -0.0, 0.0), row(-1, 0.0, -0.0), row(-1, -0.0, -0.0)])
def test_minus_zero_equals_zero(logits: Row) -> None:
    assert assert_agrees(logits).best == 1


def test_the_best_of_negative_logits_is_the_one_nearest_to_zero() -> None:
    assert describe(row(-5, -2, -3e38, -2.5), 0).best == 1


def test_neighbouring_floats_are_told_apart() -> None:
    big = np.float32(1e4)
    assert describe(np.array([big, np.nextafter(big, np.float32(np.inf))], np.float32), 0).best == 1


def test_the_smallest_floats_do_no_harm() -> None:
    assert_agrees(row(1e-45, -1e-45, 0.0, 1e-38))


# --- what is no distribution --------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.float32(np.nan), np.array(0xFFC00001, np.uint32).view(np.float32)[()]])
@pytest.mark.parametrize("place", [0, 1, 511, 512, 700, 1023])
def test_a_nan_anywhere_of_either_sign_is_refused(bad: np.float32, place: int) -> None:
    logits = np.zeros(1024, np.float32)
    logits[place] = bad
    expected = rf"token position 41 hold 1 NaN \(first: token {place}\): they must be finite or -inf"
    with pytest.raises(MetricsError, match=expected):
        describe(logits, 41)


@pytest.mark.parametrize("others", [-np.inf, 0.0, 3e38])
def test_a_nan_is_refused_whatever_stands_beside_it(others: float) -> None:
    logits = np.full(100, others, np.float32)
    logits[[7, 50]] = np.nan
    with pytest.raises(MetricsError, match=r"position 0 hold 2 NaN \(first: token 7\)"):
        describe(logits, 0)


def test_a_row_of_nothing_but_nan_is_refused() -> None:
    with pytest.raises(MetricsError, match="hold 3 NaN"):
        describe(np.full(3, np.nan, np.float32), 0)


@pytest.mark.parametrize("places", [(0,), (512,), (3, 1023)])
def test_plus_infinity_is_refused(places: tuple[int, ...]) -> None:
    logits = np.zeros(1024, np.float32)
    logits[list(places)] = np.inf
    expected = rf"token position 9 hold {len(places)} \+inf \(first: token {places[0]}\)"
    with pytest.raises(MetricsError, match=expected):
        describe(logits, 9)


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_a_row_without_any_possible_token_is_refused(size: int) -> None:
    with pytest.raises(MetricsError, match="token position 5 are all -inf: at least one must be finite"):
        describe(np.full(size, -np.inf, np.float32), 5)


@pytest.mark.parametrize(
    "logits", [np.zeros(4), np.zeros((2, 4), np.float32), np.zeros(8, np.float32)[::2], np.zeros(0, np.float32)]
)
def test_what_is_no_row_of_logits_is_refused(logits: npt.NDArray[np.float32]) -> None:
    with pytest.raises(TypeError, match="logits are a contiguous row of float32"):
        describe(logits, 0)


# --- the attention ------------------------------------------------------------------------------


def kernel(
    weights: Weights, scores: Weights, scale: float = 1.0, out: npt.NDArray[np.float64] | None = None
) -> list[float]:
    """The kernel's four numbers of one query, with other queries around it that must not count."""
    n_head, n_kv = weights.shape
    batch = np.full((n_head, 3, n_kv), 0.7, np.float32)
    batch[:, 1] = weights
    out = np.zeros(4) if out is None else out
    scores, mean = np.ascontiguousarray(scores), np.empty(n_kv + 5, np.float32)
    begin, between, addresses = batch.ctypes.data + 4 * n_kv, 3 * n_kv, [item.ctypes.data for item in (mean, out)]
    native.KERNELS.attention(begin, between, scores.ctypes.data, n_head, n_kv, scale, *addresses)
    return [float(value) for value in out]


def reference(weights: Weights, scores: Weights, scale: float = 1.0) -> list[float]:
    wanted = attention_reference(weights.astype(np.float64), scores.astype(np.float64) * scale)
    return [wanted.entropy, wanted.varentropy, wanted.agreement, wanted.interaction_strength]


def softmax(scores: Weights, attended: npt.NDArray[np.bool_]) -> Weights:
    masked = np.where(attended, scores.astype(np.float64), -np.inf)
    weights = np.exp(masked - masked.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


@st.composite
def heads(draw: st.DrawFn) -> tuple[Weights, Weights]:
    """Weights and scores of one query: padded and masked cells, sharp and blurred heads."""
    random = np.random.default_rng(draw(seeds))
    n_head, n_kv = draw(st.integers(1, 16)), draw(st.integers(1, 300) | st.sampled_from([511, 512, 513, 2048]))
    sharpness = random.choice([0.0, 0.5, 3.0, 20.0], size=(n_head, 1))
    scores = (random.normal(size=(n_head, n_kv)) * sharpness).astype(np.float32)
    attended = random.random(n_kv) < draw(st.sampled_from([0.05, 0.5, 1.0]))
    attended[random.integers(n_kv)] = True
    return softmax(scores, attended), scores


@quick
@given(heads(), st.sampled_from([1.0, 0.125, -0.5]))
def test_the_attention_kernel_agrees_with_the_definitions(both: tuple[Weights, Weights], scale: float) -> None:
    weights, scores = both
    found, wanted = kernel(weights, scores, scale), reference(weights, scores, scale)
    assert found[0] == pytest.approx(wanted[0], rel=RELATIVE, abs=RELATIVE)
    assert found[1] == pytest.approx(wanted[1], abs=RELATIVE * (1 + wanted[0] ** 2 + wanted[1]))  # its second moment
    assert found[2:] == pytest.approx(wanted[2:], rel=RELATIVE, abs=1e-7)


@quick
@given(heads())
def test_attention_metrics_keep_their_bounds(both: tuple[Weights, Weights]) -> None:
    entropy, varentropy, agreement, strength = kernel(*both)
    attended = int((both[0] > 0).any(axis=0).sum())
    highest = math.log2(attended) * (1 + RELATIVE) + 1e-6
    assert 0 <= entropy <= highest
    assert 0 <= varentropy <= highest**2 / 4 + 1e-5  # half the heads at each end
    assert 0 <= agreement <= 1
    assert strength >= 0


@quick
@given(heads(), st.integers(1, 9))
@example((np.full((1, 6), 1 / 6, np.float32), np.ones((1, 6), np.float32)), 3)
def test_heads_that_are_equal_agree_wholly(both: tuple[Weights, Weights], n_head: int) -> None:
    weights, scores = (np.repeat(part[:1], n_head, axis=0) for part in both)
    _entropy, varentropy, agreement, _strength = kernel(weights, scores)
    assert varentropy == pytest.approx(0, abs=1e-9)
    assert agreement == pytest.approx(0, abs=1e-7)


def test_one_attended_position_leaves_nothing_open() -> None:
    weights = np.zeros((4, 256), np.float32)
    weights[:, 3] = 1.0
    scores = np.full((4, 256), -50.0, np.float32)  # of cells that nobody attends
    scores[:, 3] = [1, -2, 3, -4]
    assert kernel(weights, scores) == [0.0, 0.0, 0.0, 2.5]


def test_two_heads_that_look_at_different_places() -> None:
    weights = np.array([[1, 0, 0, 0], [0, 0.5, 0.5, 0]], np.float32)
    scores = np.array([[8, 1, 1, 99], [0, 4, 4, 99]], np.float32)
    # entropies 0 and 1; means ½ ¼ ¼ over the three attended; scores 18/6 times a scale of ½
    assert kernel(weights, scores, 0.5) == pytest.approx([0.5, 0.25, (0.5 + 0.25 + 0.25) * 2 / 6, 1.5], rel=1e-6)


def test_uniform_heads_reach_the_highest_entropy() -> None:
    weights = np.zeros((3, 512), np.float32)
    weights[:, :64] = 1 / 64
    assert kernel(weights, np.zeros_like(weights)) == pytest.approx([6.0, 0.0, 0.0, 0.0], abs=1e-6)


def test_layers_add_up() -> None:
    random = np.random.default_rng(5)
    out = np.zeros(4)
    wanted = np.zeros(4)
    for _layer in range(3):
        scores = random.normal(size=(4, 40)).astype(np.float32)
        weights = softmax(scores, np.arange(40) < 25)
        kernel(weights, scores, 0.3, out)
        wanted += reference(weights, scores, 0.3)
    assert out == pytest.approx(wanted, rel=RELATIVE)


def test_a_query_that_attends_nothing_adds_nothing() -> None:
    assert kernel(np.zeros((2, 8), np.float32), np.ones((2, 8), np.float32)) == [0.0, 0.0, 0.0, 0.0]


def test_the_kernels_are_vectorised_on_x86_and_on_arm() -> None:
    script = Path(__file__).parent.parent / "scripts" / "vectors.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script], capture_output=True, text=True, check=False, timeout=1200
    )
    assert not done.returncode, done.stderr
    found = {(unit, target): int(count) for unit, target, count in map(str.split, done.stdout.splitlines())}
    assert len(found) == 4
    for (unit, target), count in found.items():
        # exponentials, maxima and a logarithm, some 180 and more; the products of a query with keys, some 20
        assert count >= {"kernels": 110, "tap": 15}[unit], (unit, target)
