"""The filters on distributions small enough to reckon by hand, and against a naive oracle."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from entropix_edge.metrics import describe
from entropix_edge.sampling import draw, survivors
from entropix_edge.types import SamplerSettings

Row = npt.NDArray[np.float32]

HALVES = np.log([0.5, 0.25, 0.125, 0.125]).astype(np.float32)
NO_FILTER = SamplerSettings(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)

quick = settings(max_examples=150)


def only(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> SamplerSettings:
    return SamplerSettings(temperature, top_k, top_p, min_p)


def kept(logits: Row, setting: SamplerSettings) -> dict[int, float]:
    tokens, probabilities = survivors(logits, describe(logits, 0), setting)
    return dict(zip(tokens.tolist(), probabilities.tolist(), strict=True))


def drawn(logits: Row, setting: SamplerSettings, *uniforms: float) -> int:
    return draw(logits, describe(logits, 0), setting, min(uniforms))


# --- each filter alone --------------------------------------------------------------------------


def test_without_filters_every_token_keeps_its_probability() -> None:
    assert kept(HALVES, NO_FILTER) == pytest.approx({0: 0.5, 1: 0.25, 2: 0.125, 3: 0.125}, rel=1e-6)


def test_survivors_come_best_first() -> None:
    logits = np.array([0.0, 3.0, -1.0, 2.0], np.float32)
    assert list(kept(logits, NO_FILTER)) == [1, 3, 0, 2]


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (0.5, [16 / 22, 4 / 22, 1 / 22, 1 / 22]),  # squares
        (2.0, np.sqrt([8, 4, 2, 2]) / np.sqrt([8, 4, 2, 2]).sum()),
        (1e9, [0.25] * 4),
    ],
)
def test_temperature_raises_probabilities_to_its_inverse(temperature: float, expected: list[float]) -> None:
    assert list(kept(HALVES, only(temperature)).values()) == pytest.approx(list(expected), rel=1e-6)


@pytest.mark.parametrize("temperature", [1e-4, 1e-30, 1e-300, 5e-324])
def test_next_to_no_temperature_leaves_the_best(temperature: float) -> None:
    assert kept(HALVES, only(temperature)) == {0: 1.0}
    assert drawn(HALVES, only(temperature), 0.999) == 0


@pytest.mark.parametrize(
    ("top_k", "expected"),
    [
        (1, {0: 1.0}),
        (2, {0: 2 / 3, 1: 1 / 3}),
        (3, {0: 4 / 7, 1: 2 / 7, 2: 1 / 7}),
        (4, {0: 0.5, 1: 0.25, 2: 0.125, 3: 0.125}),
        (5, {0: 0.5, 1: 0.25, 2: 0.125, 3: 0.125}),
        (2**31 - 1, {0: 0.5, 1: 0.25, 2: 0.125, 3: 0.125}),
        (0, {0: 0.5, 1: 0.25, 2: 0.125, 3: 0.125}),
    ],
)
def test_top_k_keeps_that_many_and_0_keeps_all(top_k: int, expected: dict[int, float]) -> None:
    assert kept(HALVES, only(top_k=top_k)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("top_p", "count"),
    [(0.0, 1), (0.1, 1), (0.49, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (0.875, 3), (0.88, 4), (1.0, 4)],
)
def test_top_p_keeps_the_token_that_crosses_the_border(top_p: float, count: int) -> None:
    assert list(kept(HALVES, only(top_p=top_p))) == [0, 1, 2, 3][:count]


@pytest.mark.parametrize(
    ("min_p", "count"), [(0.0, 4), (0.2, 4), (0.25, 4), (0.26, 2), (0.5, 2), (0.51, 1), (0.99, 1), (1.0, 1)]
)
def test_min_p_keeps_the_token_on_the_border(min_p: float, count: int) -> None:
    assert list(kept(HALVES, only(min_p=min_p))) == [0, 1, 2, 3][:count]


def test_min_p_of_1_keeps_all_that_are_equally_best() -> None:
    assert kept(np.array([2, 5, 5, 1], np.float32), only(min_p=1.0)) == {1: 0.5, 2: 0.5}


@pytest.mark.parametrize(
    "setting", [only(top_k=1), only(top_p=0.0), only(min_p=1.0), only(0.0), only(1e-9, 1, 0.0, 1.0)]
)
def test_one_token_always_survives(setting: SamplerSettings) -> None:
    assert kept(HALVES, setting) == {0: 1.0}


def test_impossible_tokens_never_survive() -> None:
    logits = np.array([-np.inf, 1.0, -np.inf, 1.0], np.float32)
    assert kept(logits, NO_FILTER) == {1: 0.5, 3: 0.5}
    assert kept(logits, only(1e9, top_k=4)) == pytest.approx({1: 0.5, 3: 0.5})
    assert drawn(logits, NO_FILTER, 1 - 2**-53) == 3


# --- together -----------------------------------------------------------------------------------


def test_temperature_comes_before_top_p() -> None:
    # at temperature ½ the first token has 16/22 ≥ 0.7 of the mass, at 1 only a half
    assert list(kept(HALVES, only(0.5, top_p=0.7))) == [0]
    assert list(kept(HALVES, only(1.0, top_p=0.7))) == [0, 1]


def test_top_p_is_taken_of_what_top_k_left() -> None:
    # of the first two, 0.5 is 2/3 of the mass: enough. Of all four, it is not.
    assert list(kept(HALVES, only(top_k=2, top_p=0.6))) == [0]
    assert list(kept(HALVES, only(top_p=0.6))) == [0, 1]


def test_temperature_comes_before_min_p() -> None:
    assert list(kept(HALVES, only(2.0, min_p=0.5))) == [0, 1, 2, 3]
    assert list(kept(HALVES, only(1.0, min_p=0.5))) == [0, 1]


def test_what_is_left_is_renormalised_last() -> None:
    assert kept(HALVES, only(top_k=3, top_p=0.8, min_p=0.1)) == pytest.approx({0: 2 / 3, 1: 1 / 3}, rel=1e-6)


@pytest.mark.parametrize("setting", [only(top_k=3), only(top_p=0.45), only(top_k=4, top_p=0.7)])
def test_ties_break_towards_the_lower_id(setting: SamplerSettings) -> None:
    logits = np.zeros(6, np.float32)
    survivors = list(kept(logits, setting))
    assert survivors == [0, 1, 2]


def test_ties_at_the_border_of_a_large_row_go_to_the_lower_ids() -> None:
    logits = np.zeros(5000, np.float32)
    logits[4000] = 1.0
    assert list(kept(logits, only(top_k=300))) == [4000, *range(299)]


# --- the draw -----------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [0, 4])
@pytest.mark.parametrize(
    ("uniform", "token"),
    [
        (0.0, 0),
        (0.4999, 0),
        (0.5001, 1),
        (0.7499, 1),
        (0.7501, 2),
        (0.8749, 2),
        (0.8751, 3),
        (math.nextafter(1.0, 0.0), 3),
    ],
)
def test_a_uniform_number_draws_by_the_cumulative_distribution(uniform: float, token: int, top_k: int) -> None:
    assert drawn(HALVES, only(top_k=top_k), uniform) == token


def test_a_uniform_number_on_a_border_draws_the_token_beyond_it() -> None:
    equal = np.zeros(4, np.float32)  # weights of exactly 1, so that the borders are exact
    assert [drawn(equal, NO_FILTER, u) for u in (0.0, 0.25, 0.5, 0.75)] == [0, 1, 2, 3]
    assert [drawn(equal, NO_FILTER, math.nextafter(u, 0.0)) for u in (0.25, 0.5, 0.75, 1.0)] == [0, 1, 2, 3]


def test_of_several_draws_the_most_probable_token_is_kept() -> None:
    assert drawn(HALVES, NO_FILTER, 0.9, 0.8, 0.6) == 1
    assert drawn(HALVES, NO_FILTER, 0.6, 0.1, 0.9) == 0
    assert drawn(HALVES, NO_FILTER, 0.99, 0.9) == 3


def test_temperature_0_takes_the_best_whatever_else_is_set() -> None:
    logits = np.array([1, 3, 3, 2], np.float32)
    assert drawn(logits, only(0.0, top_k=3, top_p=0.5, min_p=0.5), 0.999) == 1


@pytest.mark.parametrize(
    "setting", [NO_FILTER, only(0.7, top_k=40), only(1.3, top_p=0.9), only(min_p=0.05), only(1.2, 50, 0.95, 0.02)]
)
def test_twenty_thousand_draws_follow_the_distribution(setting: SamplerSettings) -> None:
    random = np.random.default_rng(2024)
    logits = (random.normal(size=120) * 2).astype(np.float32)
    tokens, probabilities, _cut = naive(logits, setting)
    distribution, count = describe(logits, 0), 20_000
    draws = [draw(logits, distribution, setting, u) for u in random.random(count).tolist()]
    seen = np.bincount(draws, minlength=logits.size)
    assert seen.sum() == seen[tokens].sum()
    expected = probabilities * count
    common = expected >= 5
    expected = np.append(expected[common], expected[~common].sum())
    observed = np.append(seen[tokens][common], seen[tokens][~common].sum())
    freedom = int(common.sum()) if expected[-1] > 0 else int(common.sum()) - 1
    chi_square = float(((observed - expected) ** 2 / np.maximum(expected, 1e-9)).sum())
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


# --- against the oracle -------------------------------------------------------------------------


def naive(
    logits: Row, setting: SamplerSettings, slack: float = 0.0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], int]:
    """Each filter in its turn on the whole sorted row, in float64; `slack` widens (or narrows) the borders."""
    x = logits.astype(np.float64) / setting.temperature
    tokens = np.argsort(-x, kind="stable")
    p = np.exp(x[tokens] - x.max())
    if setting.top_k:
        tokens, p = tokens[: setting.top_k], p[: setting.top_k]
    possible = p > 0
    tokens, p = tokens[possible], p[possible] / p.sum()
    if setting.top_p < 1:
        before = np.append(0.0, np.cumsum(p)[:-1])
        p = p[before < setting.top_p * (1 + slack)]
        p = p if p.size else np.ones(1)
    p = p[p >= setting.min_p * p[0] * (1 - slack)]
    return tokens[: p.size], p / p.sum(), p.size


@st.composite
def rows(draw: st.DrawFn) -> Row:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(1, 40) | st.integers(200, 3000))
    logits = random.normal(size=size) * draw(st.sampled_from([0.1, 1.0, 3.0, 20.0]))
    if draw(st.booleans()):
        logits = logits.round()  # ties
    logits[random.random(size) < draw(st.sampled_from([0.0, 0.0, 0.3, 0.97]))] = -np.inf
    logits[random.integers(size)] = 1.0
    return logits.astype(np.float32)


@st.composite
def sampler_settings(draw: st.DrawFn) -> SamplerSettings:
    share = st.floats(0.0, 1.0)
    return SamplerSettings(
        temperature=draw(st.sampled_from([0.05, 0.5, 0.666, 1.0, 1.5, 5.0, 100.0])),
        top_k=draw(st.sampled_from([0, 0, 1, 2, 27, 255, 256, 257, 1000, 2048, 5000]) | st.integers(1, 400)),
        top_p=draw(st.sampled_from([1.0, 1.0, 0.9, 0.5]) | share),
        min_p=draw(st.sampled_from([0.0, 0.0, 0.03]) | share),
    )


@quick
@given(rows(), sampler_settings())
def test_the_filters_agree_with_a_naive_oracle(logits: Row, setting: SamplerSettings) -> None:
    tokens, probabilities = survivors(logits, describe(logits, 0), setting)
    # a share that meets a border to a millionth may fall on either side
    least, most = naive(logits, setting, -2e-6)[2], naive(logits, setting, 2e-6)[2]
    assert least <= tokens.size <= most
    ranking = np.argsort(-logits, kind="stable")[: tokens.size]
    assert tokens.tolist() == ranking.tolist()
    shares = np.exp((logits[ranking].astype(np.float64) - logits.max()) / setting.temperature)
    assert probabilities == pytest.approx(shares / shares.sum(), rel=1e-9, abs=1e-12)


@quick
@given(rows(), sampler_settings(), st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5))
def test_the_draw_agrees_with_a_naive_oracle(logits: Row, setting: SamplerSettings, uniforms: list[float]) -> None:
    assume(naive(logits, setting, -2e-6)[2] == naive(logits, setting, 2e-6)[2])
    tokens, probabilities, _count = naive(logits, setting)
    place = tokens.tolist().index(drawn(logits, setting, *uniforms))
    borders = np.append(0.0, np.cumsum(probabilities))
    # the mass of a whole row is a float32 sum, near 1e-6
    assert borders[place] - 1e-5 <= min(uniforms) <= borders[place + 1] + 1e-5


@quick
@given(rows(), st.integers(1, 3000))
def test_the_leading_tokens_are_the_beginning_of_a_stable_sort(logits: Row, count: int) -> None:
    tokens = list(kept(logits, only(top_k=count)))
    assert tokens == np.argsort(-logits, kind="stable")[: len(tokens)].tolist()
    possible = int((np.exp(logits.astype(np.float64) - logits.max()) > 0).sum())
    assert len(tokens) == min(count, possible)


@pytest.mark.parametrize("seed", range(5))
def test_without_filters_the_whole_of_a_large_row_survives(seed: int) -> None:
    logits = (np.random.default_rng(seed).normal(size=3000) * 3).astype(np.float32)
    survivors = kept(logits, only(0.5))
    assert len(survivors) == 3000
    assert sum(survivors.values()) == pytest.approx(1, rel=1e-12)


def test_minus_zero_counts_as_zero() -> None:
    assert list(kept(np.array([-0.0, 0.0, -0.0, 1.0, 0.0], np.float32), only(top_k=4))) == [3, 0, 1, 2]


def test_a_flat_row_of_a_real_vocabulary_is_drawn_to_its_end() -> None:
    logits = np.zeros(150_000, np.float32)
    assert drawn(logits, NO_FILTER, 0.5) == 75_000
    assert drawn(logits, NO_FILTER, math.nextafter(1.0, 0.0)) == 149_999
    assert drawn(logits, only(top_p=0.5), math.nextafter(1.0, 0.0)) == 74_999
