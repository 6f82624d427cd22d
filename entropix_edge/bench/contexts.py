"""The contexts of one measurement: raw's and the engines', each for its settings, filled to the same depth."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from ..engine import Engine, open_context
from ..errors import ContextError
from ..llama import RawLoop, write_state
from ..storage import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine_config import AttentionChoice, EngineConfig, FlashAttention
    from ..llama import Model
    from .results import Variant

_PROMPT = "Write a long story about a lighthouse keeper, the sea, and a ship that never came home. "
_DEEP = 1024  # tokens from which on copying the cells of raw's context takes less time than decoding them


class Contexts:
    """Contexts over one model, each opened when it is first asked for. A context manager.

    Args:
        model: an open one.
        config: threads and batch size; `ctx_size` cells are in each context.
        depth: tokens that are in the cache before what is timed.
        cancelled: asked now and then; True stops it with KeyboardInterrupt.
    """

    def __init__(self, model: Model, config: EngineConfig, depth: int, cancelled: Callable[[], bool]) -> None:
        self.model, self.depth = model, depth
        self._config = config
        self._cancelled = cancelled
        self._stack = contextlib.ExitStack()
        self._raws: dict[bool, RawLoop] = {}
        self._engines: dict[tuple[AttentionChoice, FlashAttention], Engine] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def check(self) -> None:
        """Stop where that was asked for.

        Raises:
            KeyboardInterrupt: it was.
        """
        if self._cancelled():
            raise KeyboardInterrupt

    def raw(self, flash: bool) -> RawLoop:
        """Raw llama.cpp, with flash attention or without."""
        if flash not in self._raws:
            config = replace(self._config, attention="off", flash_attention="on" if flash else "off", forks=0)
            context = self._stack.enter_context(open_context(self.model, config, self._cancelled))
            self._raws[flash] = RawLoop(context, self.check)
        return self._raws[flash]

    def engine(self, variant: Variant) -> Engine:
        """The engine that a variant runs on; what is deep is in its cache already."""
        key = variant.attention, variant.flash
        if key not in self._engines:
            config = replace(self._config, attention=variant.attention, flash_attention=variant.flash)
            context = self._stack.enter_context(open_context(self.model, config, self._cancelled))
            self._engines[key] = engine = Engine(self.model, context, config)
            if self.depth >= _DEEP:
                self._fill(engine, self.raw(variant.flash != "off"))
        return self._engines[key]

    def _fill(self, engine: Engine, raw: RawLoop) -> None:
        """Copy raw's cells of the text."""
        tokens = self.prompt()
        raw.start(tokens)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cells"
            write_state(path, fingerprint(self.model.path), tokens, raw.context.save(0))
            with contextlib.suppress(ContextError):  # flash attention was left to llama.cpp, and is off: decode them
                engine.load_prompt_cache(path)

    # --- prompts --------------------------------------------------------------------------------------

    def prompt(self, attempt: int = 0) -> list[int]:
        """A text of `depth` tokens, at least one. Other attempts have other last tokens, so that little is decoded."""
        count = max(self.depth, 1)
        tokens = self.model.vocabulary.tokenize(_PROMPT, add_bos=True)
        more = self.model.vocabulary.tokenize(_PROMPT)
        while len(tokens) < count + attempt:
            tokens += more
        kept = max(0, count - attempt)
        return [*tokens[:kept], *tokens[kept + attempt : count + attempt]]

    def noise(self, random: np.random.Generator, count: int) -> list[int]:
        """Tokens that mean nothing, none of them a control token."""
        vocabulary = self.model.vocabulary
        found: list[int] = []
        while len(found) < count:
            token = int(random.integers(vocabulary.size))
            if not vocabulary.is_control(token):
                found.append(token)
        return found
