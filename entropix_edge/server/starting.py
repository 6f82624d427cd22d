"""From what a request asks for to replies under way: templates, tokens, presets. In a thread of its own."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..sessions import Deliberation, VotingConfig
from ..strategy import override
from ..text import clean, extract
from .errors import too_long
from .worker import BestOf

if TYPE_CHECKING:
    from ..config import GenerationConfig, Preset
    from ..engine import Engine
    from .values import Ask, Prompt
    from .worker import Source


def first_wave(candidates: int) -> int:
    """How many of so many candidates are generated side by side."""
    return VotingConfig(candidates=candidates).first_wave


class Starter:
    """Starts the replies of requests. Several threads may use it.

    Args:
        engine: an open one.
        defaults: how a reply is generated where a request does not say.
        ctx_size: tokens that one conversation may use.
    """

    def __init__(self, engine: Engine, defaults: GenerationConfig, ctx_size: int) -> None:
        self._engine = engine
        self._defaults = defaults
        self._ctx_size = ctx_size
        self._preset = lru_cache(maxsize=64)(self._find_preset)

    def start(self, ask: Ask) -> list[Source]:
        """The replies that a request asks for, under way.

        Raises:
            ApiError: a prompt is too long.
            EntropixError: a prompt, the template or an option is wrong.
        """
        config = self._config(ask)
        prompts = [self._tokens(prompt, ask, config) for prompt in ask.prompts]
        sources: list[Source] = []
        try:
            for tokens in prompts:
                for _ in range(ask.n):
                    sources.append(self._start(tokens, ask, config, len(sources)))
        except BaseException:
            for source in sources:
                source.close()
            raise
        return sources

    def _start(self, tokens: list[int], ask: Ask, config: GenerationConfig, number: int) -> Source:
        begin = ask.begin_tokens
        room = self._ctx_size - len(tokens) - len(begin)
        limit = self._defaults.n_predict if ask.limit is None else ask.limit
        n_predict = room if limit < 0 else min(limit, room)
        seed = None if config.seed is None else (config.seed + number) % 2**64
        config = dataclasses.replace(config, n_predict=len(begin) + n_predict, seed=seed)
        if ask.candidates == 1:
            return self._engine.stream_tokens(tokens, config, begin_tokens=begin)
        answer = ask.extension.answer if ask.extension else None
        answer_of = (lambda text: extract(text, answer)) if answer else None
        voting = VotingConfig(candidates=ask.candidates)
        return BestOf(Deliberation(self._engine, tokens, config, voting, answer_of))

    # --- prompts --------------------------------------------------------------------------------------

    def _tokens(self, prompt: Prompt, ask: Ask, config: GenerationConfig) -> list[int]:
        tokens = self._encoded(prompt, config)
        length = len(tokens) + len(ask.begin_tokens)
        if length >= self._ctx_size:
            raise too_long(self._ctx_size, length, ask.param)
        return tokens

    def _encoded(self, prompt: Prompt, config: GenerationConfig) -> list[int]:
        if isinstance(prompt, tuple):
            return list(prompt)
        if isinstance(prompt, str):
            return self._engine.tokenize_prompt(prompt, raw=True, parse_special=True)
        tokens = self._engine.tokenize_prompt(prompt.messages, chat_template_kwargs=config.chat_template_kwargs)
        begun = clean(prompt.begun)
        return tokens + self._engine.model.vocabulary.tokenize(begun, continues=True) if begun else tokens

    # --- how to generate ------------------------------------------------------------------------------

    def _config(self, ask: Ask) -> GenerationConfig:
        defaults = self._defaults
        return dataclasses.replace(
            defaults,
            preset=self._preset(ask.preset, tuple(sorted(ask.changes.items()))),
            sampler=ask.sampler or defaults.sampler,
            check=defaults.check if ask.check is None else ask.check,
            seed=defaults.seed if ask.seed is None else ask.seed,
            stop=defaults.stop if ask.stop is None else ask.stop,
            alternatives=ask.alternatives,
            chat_template_kwargs=ask.variables,
        )

    def _find_preset(self, name: str | None, changes: tuple[tuple[str, Any], ...]) -> Preset:
        base = self._defaults.preset if name is None else self._engine.preset(name)
        preset = self._engine.preset(base) if isinstance(base, str) else base
        return override(preset, dict(changes)) if changes else preset
