"""Thresholds fitted to a model: what it is like when it writes, and where the quadrants begin then."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import tomllib
from collections import Counter
from dataclasses import astuple, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..config import DEFAULT_PRESET, GenerationConfig
from ..errors import ConfigError, ModelError, PromptError
from ..storage import Log, LogFormat, read_log
from ..strategy import THRESHOLDS, classify, load_preset, override, thresholds
from ..types import Metrics, Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..config import Preset
    from ..engine import Engine, ReplyStream

TARGETS: Mapping[str, float] = MappingProxyType(
    {
        "argmax.entropy_below": 0.27,
        "argmax.varentropy_below": 0.36,
        "branch.entropy_below": 0.65,
        "branch.varentropy_above": 0.67,
        "pause.entropy_above": 0.77,
        "pause.varentropy_below": 0.57,
        "resample.entropy_above": 0.86,
        "resample.varentropy_above": 0.86,
    }
)
"""The share of the model's tokens that lie below each threshold, in entropy or in varentropy.

Chosen so that the default model's own distribution gives what `edge` was set to by hand.
"""

FLOORS: Mapping[str, float] = MappingProxyType({"argmax.entropy_below": 0.27, "argmax.varentropy_below": 0.5})
"""The least that a threshold is fitted to, in bits and bits².

A token with an entropy under 0.1 bit is sure on any model, however many there are of them; 0.5 bit² is the
varentropy of a choice between two tokens with that entropy.
"""

N_PREDICT = 96
SEQUENCES = 8  # replies side by side; what is recorded, and so what a kill can cost, is so many
DECILES = tuple(range(10, 100, 10))
_LEAST_TOKENS = 200
_FIRST_LINE = 64 * 1024  # bytes: far more than the settings of a record
_SETTINGS = {"version", "model", "asked", "attention", "n_ctx"}
_VERSION = 2


class Observation(NamedTuple):
    """What was measured at one token, in bits and bits²; None where the attention was not watched."""

    entropy: float
    varentropy: float
    attention_entropy: float | None = None
    attention_varentropy: float | None = None


QUANTITIES: Mapping[str, str] = MappingProxyType(
    dict(zip(Observation._fields, ("bits", "bits²", "bits", "bits²"), strict=True))
)
"""What is measured, and in which unit."""


# --- measuring ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Questionnaire:
    """What the model is asked, and how.

    Attributes:
        prompts: the texts.
        n_predict: most tokens of each reply.
        sequences: replies side by side; the engine should be open with as many.
    """

    prompts: tuple[str, ...]
    n_predict: int = N_PREDICT
    sequences: int = SEQUENCES

    @property
    def groups(self) -> list[range]:
        """The prompts' numbers, by what is asked at the same time."""
        starts = range(0, len(self.prompts), self.sequences)
        return [range(start, min(start + self.sequences, len(self.prompts))) for start in starts]

    @property
    def most_tokens(self) -> int:
        """Tokens, if no reply ends early."""
        return len(self.prompts) * self.n_predict


def shipped_prompts() -> tuple[str, ...]:
    """The prompts that ship with the package."""
    text = Path(__file__).with_name("prompts.toml").read_text("utf-8")
    return tuple(prompt for prompts in tomllib.loads(text).values() for prompt in prompts)


Measured = list[Observation]  # what was measured at the tokens of one reply
Group = list[Measured]  # the replies to one group of prompts


def open_record(path: Path, settings: Mapping[str, Any], *, anew: bool = False) -> Log[Group]:
    """The observations of a calibration under way, on disk: one line a group of prompts.

    Groups are whole or not there, so that a run in two parts measures what one run does.

    Args:
        path: of the file, in a folder that exists.
        settings: what the observations depend on; a file with others, or one that is damaged, is begun anew.
        anew: forget what is there.

    Raises:
        OSError: it cannot be read or written.
    """
    try:
        return Log(path, _FORMAT, settings, anew=anew)
    except ConfigError:
        return Log(path, _FORMAT, settings, anew=True)


def read_record(path: Path) -> list[Measured]:
    """What a calibration under way has measured so far, a reply a prompt.

    Raises:
        ConfigError: the file holds something else.
        OSError: it cannot be read.
    """
    _settings, groups = read_log(path, _FORMAT)
    return list(itertools.chain(*groups))


def is_record(path: Path) -> bool:
    """Whether a file begins as `open_record` begins one.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        first = file.readline(_FIRST_LINE)
    try:
        return set(json.loads(first)["settings"]) == _SETTINGS
    except (ValueError, TypeError, LookupError, RecursionError):
        return False


def _parse_group(value: Any) -> Group:
    group = [[Observation(*row) for row in reply] for reply in value["replies"]]
    if not all(map(_is_sound, itertools.chain(*group))):
        raise ValueError("not measurements")
    return group


def _is_sound(observation: Observation) -> bool:
    entropy, varentropy, *attention = observation
    seen = [value for value in attention if value is not None]
    return all(type(value) is float and 0 <= value < math.inf for value in (entropy, varentropy, *seen))


_FORMAT = LogFormat("calibration record", _parse_group, lambda group: {"replies": group})


def settings(engine: Engine, questionnaire: Questionnaire, fingerprint: str) -> dict[str, Any]:
    """What observations depend on."""
    asked = json.dumps([astuple(questionnaire), astuple(load_preset(DEFAULT_PRESET).sampler)])
    return {
        "version": _VERSION,
        "model": fingerprint,
        "asked": hashlib.sha256(asked.encode()).hexdigest()[:16],
        "attention": list(engine.watched_layers),
        "n_ctx": engine.context.n_ctx,
    }


def measure(
    engine: Engine,
    questionnaire: Questionnaire,
    record: Log[Group],
    *,
    progress: Callable[[int], None] = lambda _tokens: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Measured]:
    """Let the model answer what the record has no answers to, and record what was measured.

    Args:
        engine: open with as many sequences as the questionnaire has.
        questionnaire: what is asked.
        record: takes each group of replies when all of it is there.
        progress: told how many of `most_tokens` are dealt with.
        cancelled: asked at each token; True ends the measuring early.

    Returns:
        What was measured, a reply a prompt, in the prompts' order; fewer where it was cancelled.

    Raises:
        EntropixError: the model fails.
    """
    for group in questionnaire.groups[len(record.records) :]:
        found = _measure_group(engine, questionnaire, group, progress, cancelled)
        if found is None:
            break
        record.add(found)
    return list(itertools.chain(*record.records))


def _measure_group(
    engine: Engine,
    questionnaire: Questionnaire,
    group: range,
    progress: Callable[[int], None],
    cancelled: Callable[[], bool],
) -> Group | None:
    """Side by side, a token of each in turn. None where it was cancelled."""
    streams = _streams(engine, questionnaire, group)
    found: dict[ReplyStream, list[Observation]] = {stream: [] for stream in streams}
    done = (group.stop - len(streams)) * questionnaire.n_predict  # of groups before, and of replies that ended
    progress(done)
    with contextlib.ExitStack() as stack:
        for stream in streams:
            stack.callback(stream.close)
        while streams:
            for stream in list(streams):
                event = next(stream, None)
                if cancelled():
                    return None
                if event is None:
                    streams.remove(stream)
                    done += questionnaire.n_predict - len(found[stream])
                elif event.token_id is not None and event.metrics is not None:
                    found[stream].append(_observation(event.metrics))
            progress(done + sum(map(len, found.values())))
    return list(found.values())


def _streams(engine: Engine, questionnaire: Questionnaire, group: range) -> list[ReplyStream]:
    """One reply a prompt, but for prompts that do not fit a very small context."""
    engine.forget()  # so that a run in two parts measures what an unbroken one does
    streams = []
    preset = load_preset(DEFAULT_PRESET)
    for number in group:
        config = GenerationConfig(preset=preset, sampler="temperature", seed=number, n_predict=questionnaire.n_predict)
        with contextlib.suppress(PromptError):
            streams.append(engine.stream(questionnaire.prompts[number], config))
    return streams


def _observation(metrics: Metrics) -> Observation:
    attention = metrics.attention
    if attention is None:
        return Observation(metrics.entropy, metrics.varentropy)
    return Observation(metrics.entropy, metrics.varentropy, attention.entropy, attention.varentropy)


# --- fitting --------------------------------------------------------------------------------------


def fit(observations: Sequence[Observation], base: Preset) -> Preset:
    """The base with each threshold at its target in what was observed, to 3 decimals.

    Raises:
        ModelError: there are too few observations.
    """
    if len(observations) < _LEAST_TOKENS:
        raise ModelError(
            f"the model wrote {len(observations)} tokens: thresholds can be fitted to {_LEAST_TOKENS} or more"
        )
    fitted: dict[str, object] = {}
    for key in THRESHOLDS:
        quantity = key.split(".")[1].rpartition("_")[0]
        value = float(np.quantile([getattr(observation, quantity) for observation in observations], TARGETS[key]))
        fitted[key] = round(max(value, FLOORS.get(key, 0.0)), 3)
    return override(base, fitted)


def deciles(observations: Sequence[Observation]) -> dict[str, list[float]]:
    """What 10, 20, … 90 % of the tokens lie below, by quantity; those that were not measured are left out."""
    found = {}
    for quantity in QUANTITIES:
        values = [getattr(observation, quantity) for observation in observations]
        seen = [value for value in values if value is not None]
        if seen:
            found[quantity] = [float(value) for value in np.percentile(seen, DECILES)]
    return found


def shares(observations: Sequence[Observation], preset: Preset) -> dict[Strategy, float]:
    """The share of the tokens in each quadrant, from 0 to 1."""
    counts = Counter(classify(Metrics(seen.entropy, seen.varentropy), preset) for seen in observations)
    return {strategy: counts[strategy] / max(len(observations), 1) for strategy in Strategy}


def as_toml(preset: Preset, observations: Sequence[Observation], model: str) -> str:
    """The text of a fitted preset: its thresholds, and above them what they were fitted to.

    Args:
        preset: from `fit`.
        observations: what it was fitted to.
        model: a name for the model.
    """
    shown = "".join(letter if letter.isprintable() else "?" for letter in model)
    lines = [
        f"# The thresholds of `{preset.name}`, fitted to {shown} by `entropix-edge calibrate`.",
        "# All that is not here is as it ships.",
        "#",
        f"# What {len(observations)} tokens of this model lie below:",
        "#" + " " * 31 + "".join(f"{percent:>6} %" for percent in DECILES),
    ]
    for quantity, values in deciles(observations).items():
        label = f"{quantity.replace('_', ' ')}, {QUANTITIES[quantity]}"
        lines.append(f"# {label:<30}" + "".join(f"{value:8.2f}" for value in values))
    section = ""
    for key, value in thresholds(preset).items():
        begun, section = section, key.split(".")[0]
        if section != begun:
            lines += ["", f"[{section}]"]
        lines.append(f"{key.split('.')[1]} = {value!r}")
    return "\n".join(lines) + "\n"


def read_deciles(text: str) -> dict[str, list[float]]:
    """The `deciles` that `as_toml` wrote above a fitted preset; none where it holds none."""
    found = {}
    for quantity, unit in QUANTITIES.items():
        label = f"# {quantity.replace('_', ' ')}, {unit} "
        for line in text.splitlines():
            if line.startswith(label):
                with contextlib.suppress(ValueError):
                    found[quantity] = [float(value) for value in line.removeprefix(label).split()]
    return {quantity: values for quantity, values in found.items() if len(values) == len(DECILES)}
