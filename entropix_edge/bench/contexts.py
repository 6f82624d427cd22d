"""The contexts of one measurement: raw's and the engines', each for its settings, filled to the same depth."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from ..engine import Engine, open_context
from ..errors import ContextError
from ..llama import RawLoop, read_state, write_state
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
        folder: where the cells of deep texts are kept for other runs; None for this one alone.
    """

    def __init__(
        self,
        model: Model,
        config: EngineConfig,
        depth: int,
        cancelled: Callable[[], bool],
        folder: Path | None = None,
    ) -> None:
        self.model, self.depth = model, depth
        self._folder = folder
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
        """Raw llama.cpp, with flash attention or without; what is deep is in its cache already."""
        if flash not in self._raws:
            config = replace(self._config, attention="off", flash_attention="on" if flash else "off", forks=0)
            context = self._stack.enter_context(open_context(self.model, config, self._cancelled))
            self._raws[flash] = RawLoop(context, self.check)
            if self._is_deep:
                self._fill(self._raws[flash], self._file(flash))
        return self._raws[flash]

    def engine(self, variant: Variant) -> Engine:
        """The engine that a variant runs on; what is deep is in its cache already."""
        key = variant.attention, variant.flash
        if key not in self._engines:
            config = replace(self._config, attention=variant.attention, flash_attention=variant.flash)
            context = self._stack.enter_context(open_context(self.model, config, self._cancelled))
            self._engines[key] = engine = Engine(self.model, context, config)
            if self._is_deep:
                flash = variant.flash != "off"
                self.raw(flash)
                with contextlib.suppress(ContextError):  # it was left to llama.cpp, and is off: they are decoded then
                    engine.load_prompt_cache(self._file(flash))
        return self._engines[key]

    # --- deep caches ----------------------------------------------------------------------------------

    @property
    def _is_deep(self) -> bool:
        return self.depth >= _DEEP

    def _file(self, flash: bool) -> Path:
        """Where the cells of the text are kept."""
        if self._folder is None:
            self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        return self._folder / f"{self._model_mark}-{self.depth}-{'fa' if flash else 'plain'}.cells"

    @cached_property
    def _model_mark(self) -> str:
        return fingerprint(self.model.path)

    def _fill(self, raw: RawLoop, file: Path) -> None:
        """Let raw's context hold the text: from the file, or decoded and kept there."""
        tokens = self.prompt()
        if file.exists():
            held, state = read_state(file, self._model_mark)
            if held == tokens and raw.context.load(0, state):
                raw.resume(tokens)
                return
        raw.start(tokens)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_state(file, self._model_mark, tokens, raw.context.save(0))

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
