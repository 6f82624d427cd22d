"""The strategy table as two pure functions: metrics → strategy → action."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING

from ..types import NO_ATTENTION, Argmax, Branch, Draw, Metrics, Pause, SamplerSettings, Strategy

if TYPE_CHECKING:
    from ..config import Preset
    from ..types import Action, AttentionMetrics

# An enumeration's own members cost more to reach, at every token.
_ARGMAX, _BRANCH, _PAUSE, _RESAMPLE, _ADAPTIVE = Strategy
_BEST = Argmax()
_new = tuple.__new__  # what a named tuple's own way to be made comes to, without a function of Python's


def classify(metrics: Metrics, preset: Preset) -> Strategy:
    """The quadrant in which the metrics fall. Every comparison is strict; on a border it is ADAPTIVE."""
    entropy, varentropy, _attention = metrics
    argmax = preset.argmax
    if entropy < argmax.entropy_below and varentropy < argmax.varentropy_below:
        return _ARGMAX
    branch = preset.branch
    if entropy < branch.entropy_below and varentropy > branch.varentropy_above:
        return _BRANCH
    pause = preset.pause
    if entropy > pause.entropy_above and varentropy < pause.varentropy_below:
        return _PAUSE
    resample = preset.resample
    if entropy > resample.entropy_above and varentropy > resample.varentropy_above:
        return _RESAMPLE
    return _ADAPTIVE


def plan(strategy: Strategy, metrics: Metrics, preset: Preset, *, after_pause: bool = False) -> Action:
    """What to do in a quadrant.

    Args:
        strategy: the quadrant, from `classify`.
        metrics: of the step; unseen attention counts as 0 in every formula.
        preset: the coefficients.
        after_pause: whether the last token of the text ends a pause.
    """
    if strategy is _ARGMAX:
        return _BEST
    attention = metrics.attention or NO_ATTENTION
    if strategy is _ADAPTIVE:
        return _adaptive(preset, metrics, attention)
    if strategy is _BRANCH:
        draw = _branch(preset, attention)
        return Branch(draw) if preset.branch.children >= 2 else draw
    if strategy is _PAUSE:
        draw = _after_pause(preset, attention)
        return draw if after_pause else Pause(draw)
    return _resample(preset, attention)


def reads_attention(preset: Preset) -> bool:
    """Whether any formula gives the attention's metrics a weight."""
    return any("attention" in _weighed(preset, strategy) for strategy in Strategy)


def constant_actions(preset: Preset) -> dict[Strategy, Action]:
    """What `plan` says whatever the metrics are, in each quadrant whose formulas give none a weight."""
    metrics = Metrics(0.0, 0.0)
    return {strategy: plan(strategy, metrics, preset) for strategy in Strategy if not _weighed(preset, strategy)}


def _weighed(preset: Preset, strategy: Strategy) -> set[str]:
    """The kinds of metrics that a quadrant's formulas give a weight: "attention", "uncertainty"."""
    rule = getattr(preset, strategy)
    return {weighs for item in fields(rule) if (weighs := item.metadata.get("weighs")) and getattr(rule, item.name)}


def _branch(preset: Preset, attention: AttentionMetrics) -> Draw:
    base, rule = preset.sampler, preset.branch
    scale = rule.temperature_scale + rule.temperature_interaction * attention.interaction_strength
    wider = base.top_k * (1 + rule.top_k_agreement * (1 - attention.agreement))
    return Draw(
        SamplerSettings(
            temperature=min(rule.temperature_max, base.temperature * scale),
            top_k=max(rule.top_k_min, math.floor(wider)) if base.top_k else 0,
            top_p=base.top_p,
            min_p=base.min_p,
        )
    )


def _after_pause(preset: Preset, attention: AttentionMetrics) -> Draw:
    base, rule = preset.sampler, preset.pause
    scale = rule.temperature_scale + rule.temperature_attention_entropy * attention.entropy
    temperature = min(rule.temperature_max, base.temperature * scale)
    return Draw(SamplerSettings(temperature, base.top_k, base.top_p, base.min_p))


def _resample(preset: Preset, attention: AttentionMetrics) -> Draw:
    base, rule = preset.sampler, preset.resample
    scale = rule.temperature_scale + rule.temperature_attention_varentropy * attention.varentropy
    temperature = max(rule.temperature_min, base.temperature * scale)
    top_p = max(rule.top_p_min, base.top_p - rule.top_p_attention_entropy * attention.entropy)
    settings = SamplerSettings(temperature, base.top_k, top_p, base.min_p)
    if not rule.filtered:
        settings = SamplerSettings(temperature, top_k=0, top_p=1.0, min_p=0.0)
    return Draw(settings, atypical=rule.atypical, redraws=rule.redraws)


def _adaptive(preset: Preset, metrics: Metrics, attention: AttentionMetrics) -> Draw:
    """Several draws, of which the most probable is kept.

    The published score of a draw is its log-probability plus a term that is the same for all draws, so
    the draw with the highest log-probability wins whatever that term is; it is not computed.
    """
    base, rule = preset.sampler, preset.adaptive
    entropy, varentropy, agreement, interaction = attention
    uncertainty = metrics.entropy + metrics.varentropy
    hotter = (
        1
        + rule.temperature_uncertainty * uncertainty
        + rule.temperature_attention * (entropy + varentropy)
        - rule.temperature_agreement * agreement
    )
    wider = 1 + rule.top_k_interaction * interaction - rule.top_k_agreement * agreement
    top_p = base.top_p * (1 + rule.top_p_attention_varentropy * varentropy)
    min_p = base.min_p * (1 - rule.min_p_uncertainty * uncertainty)
    settings = (
        base.temperature * max(hotter, 0.0),
        max(rule.top_k_min, min(round(base.top_k * wider), rule.top_k_max)) if base.top_k else 0,
        max(rule.top_p_min, min(top_p, rule.top_p_max)),
        max(rule.min_p_min, min(min_p, rule.min_p_max)),
    )
    return _new(Draw, (_new(SamplerSettings, settings), rule.draws, 0.0, 0))
