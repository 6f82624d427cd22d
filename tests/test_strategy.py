"""The table of the design, cell by cell: where each quadrant begins, and what is done there."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropix_edge.config import Preset, SamplerName
from entropix_edge.strategy import (
    classify,
    constant_actions,
    load_preset,
    make_policy,
    override,
    plan,
    reads_attention,
)
from entropix_edge.types import Argmax, AttentionMetrics, Draw, Metrics, Pause, SamplerSettings, Strategy

ARGMAX, BRANCH, PAUSE, RESAMPLE, ADAPTIVE = Strategy
ARTICLE = load_preset("article")

LOW, MIDDLE, HIGH = 0.1, 3.0, 5.0  # the thresholds of the article


def quadrant(entropy: float, varentropy: float) -> Strategy:
    return classify(Metrics(entropy, varentropy), ARTICLE)


def below(value: float) -> float:
    return float(np.nextafter(value, -math.inf))


def above(value: float) -> float:
    return float(np.nextafter(value, math.inf))


# --- the quadrants ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entropy", "varentropy", "strategy", "name"),
    [
        (0.0, 0.0, ARGMAX, "LELV"),
        (0.05, 0.05, ARGMAX, "LELV"),
        (2.0, 8.0, BRANCH, "LEHV"),
        (0.0, 6.0, BRANCH, "LEHV"),
        (4.0, 0.0, PAUSE, "HELV"),
        (16.0, 0.05, PAUSE, "HELV"),
        (6.0, 8.0, RESAMPLE, "HEHV"),
        (16.0, 40.0, RESAMPLE, "HEHV"),
        (2.0, 2.0, ADAPTIVE, "—"),
        (6.0, 2.0, ADAPTIVE, "—"),
        (1.0, 0.0, ADAPTIVE, "—"),
    ],
)
def test_the_inside_of_each_quadrant(entropy: float, varentropy: float, strategy: Strategy, name: str) -> None:
    assert quadrant(entropy, varentropy) is strategy
    assert strategy.quadrant == name


@pytest.mark.parametrize(
    ("entropy", "varentropy", "strategy"),
    [
        # LELV: H < 0.1 and V < 0.1
        (below(LOW), 0.0, ARGMAX),
        (LOW, 0.0, ADAPTIVE),
        (above(LOW), 0.0, ADAPTIVE),
        (0.0, below(LOW), ARGMAX),
        (0.0, LOW, ADAPTIVE),
        (0.0, above(LOW), ADAPTIVE),
        (below(LOW), below(LOW), ARGMAX),
        (LOW, LOW, ADAPTIVE),
        # LEHV: H < 5 and V > 5
        (below(HIGH), 6.0, BRANCH),
        (HIGH, 6.0, ADAPTIVE),
        (2.0, above(HIGH), BRANCH),
        (2.0, HIGH, ADAPTIVE),
        (2.0, below(HIGH), ADAPTIVE),
        (below(HIGH), above(HIGH), BRANCH),
        # HELV: H > 3 and V < 0.1
        (above(MIDDLE), 0.0, PAUSE),
        (MIDDLE, 0.0, ADAPTIVE),
        (below(MIDDLE), 0.0, ADAPTIVE),
        (4.0, below(LOW), PAUSE),
        (4.0, LOW, ADAPTIVE),
        (4.0, above(LOW), ADAPTIVE),
        (above(MIDDLE), below(LOW), PAUSE),
        (HIGH, 0.0, PAUSE),
        # HEHV: H > 5 and V > 5
        (above(HIGH), 6.0, RESAMPLE),
        (6.0, above(HIGH), RESAMPLE),
        (6.0, HIGH, ADAPTIVE),
        (6.0, below(HIGH), ADAPTIVE),
        (above(HIGH), above(HIGH), RESAMPLE),
        (HIGH, HIGH, ADAPTIVE),
    ],
)
def test_every_border_belongs_to_nobody_but_adaptive(entropy: float, varentropy: float, strategy: Strategy) -> None:
    assert quadrant(entropy, varentropy) is strategy


def test_thresholds_are_the_preset_s() -> None:
    moved = override(ARTICLE, {"argmax.entropy_below": 1.5, "argmax.varentropy_below": 2.5})
    assert classify(Metrics(1.4, 2.4), moved) is ARGMAX
    assert classify(Metrics(1.4, 2.4), ARTICLE) is ADAPTIVE


# --- what is done, in numbers -------------------------------------------------------------------


def attention(ae: float = 0.0, av: float = 0.0, a: float = 0.0, i: float = 0.0) -> AttentionMetrics:
    return AttentionMetrics(entropy=ae, varentropy=av, agreement=a, interaction_strength=i)


def drawn(
    strategy: Strategy,
    seen: AttentionMetrics | None = None,
    *,
    entropy: float = 0.0,
    varentropy: float = 0.0,
    preset: Preset = ARTICLE,
    after_pause: bool = False,
) -> SamplerSettings:
    """The settings of the planned draw."""
    action = plan(strategy, Metrics(entropy, varentropy, seen), preset, after_pause=after_pause)
    assert isinstance(action, Draw)
    assert action.draws == (5 if strategy is ADAPTIVE else 1)
    return action.settings


def assert_settings(found: SamplerSettings, temperature: float, top_k: int, top_p: float, min_p: float) -> None:
    assert found.temperature == pytest.approx(temperature, rel=1e-12)
    assert found.top_k == top_k
    assert found.top_p == pytest.approx(top_p, rel=1e-12)
    assert found.min_p == pytest.approx(min_p, rel=1e-12)


def test_lelv_takes_the_most_probable_token() -> None:
    assert plan(ARGMAX, Metrics(0.0, 0.0), ARTICLE) == Argmax()


@pytest.mark.parametrize(
    ("seen", "temperature", "top_k"),
    [
        (None, 0.666 * 1.2, 40),  # ⌊27·1.5⌋
        (attention(a=0.1, i=1.0), 0.666 * 1.5, 39),  # ⌊27·1.45⌋ = ⌊39.15⌋
        (attention(a=1.0, i=3.0), 0.666 * 2.1, 27),
        (attention(a=0.0, i=4.0), 1.5, 40),  # 0.666·2.4 = 1.598
        (attention(ae=9.0, av=9.0), 0.666 * 1.2, 40),
    ],
)
def test_lehv_samples_hotter_and_wider(seen: AttentionMetrics | None, temperature: float, top_k: int) -> None:
    assert_settings(drawn(BRANCH, seen), temperature, top_k, 0.90, 0.03)


def test_lehv_never_takes_fewer_than_five_tokens() -> None:
    narrow = override(ARTICLE, {"sampler.top_k": 2})
    assert drawn(BRANCH, preset=narrow).top_k == 5


def test_helv_inserts_the_pause() -> None:
    assert isinstance(plan(PAUSE, Metrics(4.0, 0.0, attention(ae=3.0)), ARTICLE), Pause)


@pytest.mark.parametrize(
    ("seen", "temperature"),
    [
        (None, 0.666 * 1.3),
        (attention(ae=2.5), 0.666 * 1.8),
        (attention(ae=5.0), 1.5),  # 0.666·2.3 = 1.53
        (attention(av=9.0, a=1.0, i=9.0), 0.666 * 1.3),
    ],
)
def test_helv_right_after_a_pause_samples_hotter(seen: AttentionMetrics | None, temperature: float) -> None:
    assert_settings(drawn(PAUSE, seen, after_pause=True), temperature, 27, 0.90, 0.03)


@pytest.mark.parametrize(
    ("seen", "temperature", "top_p"),
    [
        (None, 2.0, 0.90),  # 0.666·2 = 1.332
        (attention(ae=1.0, av=2.0), 2.0, 0.70),  # 0.666·3 = 1.998
        (attention(ae=1.5, av=4.0), 0.666 * 4.0, 0.60),
        (attention(ae=2.5, av=0.0), 2.0, 0.5),  # 0.9 − 0.5 = 0.4
        (attention(a=1.0, i=9.0), 2.0, 0.90),
    ],
)
def test_hehv_samples_hot_and_narrow(seen: AttentionMetrics | None, temperature: float, top_p: float) -> None:
    assert_settings(drawn(RESAMPLE, seen), temperature, 27, top_p, 0.03)


def test_adaptive_moves_each_filter_by_the_metrics() -> None:
    found = drawn(ADAPTIVE, attention(ae=1.5, av=0.5, a=0.5, i=2.0), entropy=0.4, varentropy=0.2)
    # 1 + 0.3·0.6 + 0.2·2 − 0.2·0.5 = 1.48; 1 + 0.1·0.5; 27·(1 + 0.6 − 0.1) = 40.5, to the even 40; 1 − 0.5·0.6
    assert_settings(found, 0.666 * 1.48, 40, 0.90 * 1.05, 0.03 * 0.7)


def test_adaptive_without_attention_leaves_its_terms_out() -> None:
    found = drawn(ADAPTIVE, None, entropy=1.0, varentropy=0.2)
    assert_settings(found, 0.666 * 1.36, 27, 0.90, 0.03 * 0.4)
    assert found == drawn(ADAPTIVE, attention(), entropy=1.0, varentropy=0.2)


def test_adaptive_has_caps_and_floors() -> None:
    assert drawn(ADAPTIVE, attention(av=2.0)).top_p == 1.0  # 0.9·1.2
    assert drawn(ADAPTIVE, attention(i=10.0)).top_k == 100  # 27·4
    assert drawn(ADAPTIVE, entropy=2.0).min_p == 0.01  # 0.03·0
    assert drawn(ADAPTIVE, entropy=15.0, varentropy=90.0).min_p == 0.01  # below nothing
    assert drawn(ADAPTIVE, preset=override(ARTICLE, {"sampler.min_p": 0.9})).min_p == 0.5
    assert drawn(ADAPTIVE, preset=override(ARTICLE, {"sampler.top_p": 0.05})).top_p == 0.1
    one = override(ARTICLE, {"sampler.top_k": 1, "adaptive.top_k_agreement": 1.0})
    assert drawn(ADAPTIVE, attention(a=1.0), preset=one).top_k == 1  # 1·0


def test_adaptive_temperature_never_falls_below_0() -> None:
    stubborn = override(ARTICLE, {"adaptive.temperature_agreement": 50})
    assert drawn(ADAPTIVE, attention(a=0.5), preset=stubborn).temperature == 0.0


@pytest.mark.parametrize("strategy", [BRANCH, RESAMPLE, ADAPTIVE])
def test_a_top_k_of_0_stays_all_tokens(strategy: Strategy) -> None:
    everything = override(ARTICLE, {"sampler.top_k": 0})
    assert drawn(strategy, attention(a=0.2, i=5.0), preset=everything).top_k == 0
    assert drawn(PAUSE, preset=everything, after_pause=True).top_k == 0


@pytest.mark.parametrize("strategy", [ARGMAX, BRANCH, RESAMPLE, ADAPTIVE])
def test_only_the_pause_asks_whether_a_pause_came_before(strategy: Strategy) -> None:
    metrics = Metrics(1.0, 1.0, attention(1.0, 1.0, 0.5, 1.0))
    assert plan(strategy, metrics, ARTICLE, after_pause=True) == plan(strategy, metrics, ARTICLE, after_pause=False)


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("after_pause", [False, True])
def test_the_plain_samplers_do_the_same_in_every_quadrant(strategy: Strategy, after_pause: bool) -> None:
    metrics = Metrics(3.0, 4.0, attention(2.0, 2.0, 0.5, 9.0))
    expected: dict[SamplerName, Argmax | Draw] = {
        "greedy": Argmax(),
        "temperature": Draw(SamplerSettings(0.666, 27, 0.90, 0.03)),
    }
    for sampler, action in expected.items():
        policy = make_policy(sampler, ARTICLE)
        assert policy.decide(strategy, metrics, after_pause=after_pause) == action
        assert not policy.acts
        assert policy.copy() is policy, "it remembers nothing"


# --- for all metrics ----------------------------------------------------------------------------

amounts = st.floats(0, 1e6)
all_metrics = st.builds(
    Metrics,
    entropy=amounts,
    varentropy=amounts,
    attention=st.none() | st.builds(AttentionMetrics, amounts, amounts, st.floats(0, 2), amounts),
)


@settings(max_examples=200)
@given(all_metrics, st.sampled_from(list(Strategy)), st.booleans(), st.sampled_from([0, 1, 27, 5000]))
def test_whatever_the_metrics_the_settings_are_valid(
    metrics: Metrics, strategy: Strategy, after_pause: bool, top_k: int
) -> None:
    preset = override(ARTICLE, {"sampler.top_k": top_k})
    action = plan(strategy, metrics, preset, after_pause=after_pause)
    if isinstance(action, Draw):
        found = action.settings
        assert 0 <= found.temperature < math.inf
        assert (found.top_k >= 1) == (top_k > 0)
        assert 0 < found.top_p <= 1
        assert 0 <= found.min_p <= 1
        assert action.draws >= 1


@settings(max_examples=200)
@given(all_metrics, st.sampled_from(list(Strategy)), st.booleans(), st.sampled_from(["article", "edge"]))
def test_the_sampler_of_the_table_does_what_the_table_says(
    metrics: Metrics, strategy: Strategy, after_pause: bool, preset: str
) -> None:
    policy = make_policy("entropix", load_preset(preset))
    expected = plan(strategy, metrics, load_preset(preset), after_pause=after_pause)
    assert policy.decide(strategy, metrics, after_pause=after_pause) == expected


def test_only_actions_that_read_no_metrics_are_made_once_for_all() -> None:
    edge = load_preset("edge")
    assert set(constant_actions(edge)) == set(Strategy)
    assert set(constant_actions(load_preset("article"))) == {ARGMAX}
    for key, strategy in (
        ("adaptive.temperature_uncertainty", ADAPTIVE),
        ("adaptive.min_p_uncertainty", ADAPTIVE),
        ("branch.top_k_agreement", BRANCH),
        ("pause.temperature_attention_entropy", PAUSE),
    ):
        assert set(Strategy) - set(constant_actions(override(edge, {key: 0.5}))) == {strategy}


@settings(max_examples=200)
@given(all_metrics)
def test_the_quadrant_depends_on_the_logits_alone(metrics: Metrics) -> None:
    assert classify(metrics, ARTICLE) is quadrant(metrics.entropy, metrics.varentropy)


def test_the_article_reads_attention_and_edge_does_not() -> None:
    assert reads_attention(load_preset("article"))
    edge = load_preset("edge")
    assert not reads_attention(edge)
    for key in ("branch.top_k_agreement", "adaptive.temperature_attention", "resample.top_p_attention_entropy"):
        assert reads_attention(override(edge, {key: 0.5}))
