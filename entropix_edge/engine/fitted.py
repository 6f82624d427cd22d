"""What was fitted to a model: thresholds, and how sure of its replies one may be."""

from __future__ import annotations

import contextlib
import logging
from functools import cached_property, partial
from typing import TYPE_CHECKING

from ..confidence import Fits, Judge, likelihood, load_fits, policy_name
from ..config import DEFAULT_PRESET, Preset
from ..storage import config_folder, fingerprint
from ..strategy import load_fitted, load_preset, thresholds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ..config import GenerationConfig
    from ..llama import Vocabulary
    from ..types import ConfidenceEvent, Event

logger = logging.getLogger("entropix_edge")


class Fitted:
    """What `calibrate` found out of one model, here or before the package was made; read when it is first asked for.

    Args:
        model: its file.
    """

    def __init__(self, model: Path) -> None:
        self._model = model
        self._told = False  # whose thresholds are used

    @cached_property
    def preset(self) -> Preset | None:
        """The default preset with thresholds fitted to the model; None where `calibrate` has not been run."""
        mark = self._fingerprint
        return load_fitted(mark, self._folder("presets")) if mark else None

    @cached_property
    def confidence(self) -> Fits:
        """When its answers are right, and how sure its replies are."""
        mark = self._fingerprint
        return load_fits(mark, self._folder("confidence")) if mark else Fits()

    def policy(self, config: GenerationConfig) -> str:
        """The name of how replies are generated, which fits go by."""
        return policy_name(config.sampler, self.preset_of(config))

    def judge(
        self,
        config: GenerationConfig,
        prompt: Sequence[int],
        vocabulary: Vocabulary,
        events: Sequence[Event],
        *,
        vote: tuple[str, Mapping[str, float]] | None = None,
    ) -> ConfidenceEvent | None:
        """How sure of a reply one may be.

        Args:
            config: how it was generated.
            prompt: what it replies to.
            vocabulary: of the model.
            events: of the whole reply.
            vote: how it was chosen among several, and what these say: `confidence.vote_features`.
        """
        policy, features = self.policy(config), {}
        if vote:
            policy, features = f"{policy}, {vote[0]}", dict(vote[1])

        question = partial(_text, prompt, vocabulary)
        return Judge(self.confidence.of(policy), self.confidence.rank, question)(events, features)

    def likelihoods(
        self, prompt: Sequence[int], vocabulary: Vocabulary, replies: Sequence[Sequence[Event]]
    ) -> list[tuple[str, float] | None]:
        """Each reply's answer, and how likely it is right by the fit to the model's greedy replies.

        None where there is no fit for answers of its kind.

        Args:
            prompt: what they reply to.
            vocabulary: of the model.
            replies: the events of each, whole.
        """
        fits = self.confidence.of("greedy")
        if not fits:
            return [None] * len(replies)
        question = _text(prompt, vocabulary)
        return [likelihood(fits, question, events) for events in replies]

    def preset_of(self, config: GenerationConfig) -> Preset:
        """The preset that a reply goes by: with numbers checked or not, as the reply's settings have it.

        Raises:
            ConfigError: there is no such preset, or one that does not hold.
        """
        return config.in_effect(
            config.preset if isinstance(config.preset, Preset) else self.preset_named(config.preset)
        )

    def preset_named(self, name: str) -> Preset:
        """A preset by name or path, the default one as it was fitted. Errors as for `preset_of`."""
        return (self.preset if name == DEFAULT_PRESET else None) or load_preset(name)

    def say_whose_thresholds(self, preset: Preset) -> None:
        """Say once that a reply acts on thresholds that were set on another model."""
        if self._told or self.preset is not None or thresholds(preset) != thresholds(load_preset(DEFAULT_PRESET)):
            return
        self._told = True
        logger.warning(
            "no thresholds are fitted to %s: it uses the default model's until it is calibrated", self._model.name
        )

    @cached_property
    def _fingerprint(self) -> str | None:
        """None where the file is gone, which an open model does not mind."""
        with contextlib.suppress(OSError):
            return fingerprint(self._model)
        return None

    def _folder(self, name: str) -> Path | None:
        """One of the user's; None for a user without a home."""
        with contextlib.suppress(OSError):
            return config_folder() / name
        return None


def _text(tokens: Sequence[int], vocabulary: Vocabulary) -> str:
    return b"".join(map(vocabulary.piece, tokens)).decode("utf-8", "replace")
