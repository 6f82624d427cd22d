"""The composition root: opens a model, wires the parts, streams replies."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections import deque
from functools import cached_property, partial
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

from ..config import DEFAULT_MODEL, DEFAULT_PRESET, EngineConfig, GenerationConfig
from ..decoding import GROWTH, Scheduler, Task, generate
from ..errors import ContextError, Hint, PromptError, TemplateError
from ..hub import resolve
from ..llama import read_state, write_state
from ..storage import fingerprint
from ..text import Renderer
from .fitted import Fitted
from .opening import open_context, open_model, prepare
from .prompt import PromptTokenizer
from .reply import Reply, ReplyStream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ..config import Preset
    from ..decoding import Job
    from ..hub import Progress
    from ..llama import Context, Model
    from ..text import Message
    from ..types import Event

logger = logging.getLogger("entropix_edge")


class Engine:
    """An open model that answers prompts. A context manager.

    Several threads may use it: what they generate shares batches, one of them decodes at a time, and the others need
    not wait for it to add, cancel or read replies.
    """

    def __init__(self, model: Model, context: Context, config: EngineConfig, renderer: Renderer | None = None) -> None:
        self.model = model
        self.context = context
        self.sequences = config.sequences
        self._renderer = renderer or Renderer()
        self._scheduler = Scheduler(
            context, config.sequences, prompt_chunk=config.prompt_chunk, same_shapes=config.same_shapes
        )
        self._decoding = threading.RLock()
        self._closed = False
        self.fits = Fitted(model.path)

    @classmethod
    def open(
        cls,
        model: str | Path = DEFAULT_MODEL,
        config: EngineConfig | None = None,
        *,
        offline: bool = False,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Engine:
        """Open a model by path, alias, or Hugging Face name, fetching it where that is needed.

        Args:
            model: a file's path, an alias, `user/repo[:quant]` or `user/repo/file.gguf`.
            config: how to open it.
            offline: never reach for the network.
            progress: told how a download goes.
            cancelled: asked during the load, before each decode and during each long one; True stops them.

        Raises:
            ModelError: it cannot be found, fetched or loaded.
            ContextError: no memory for the context.
            ConfigError: a layer or a device that there is not.
        """
        config = config or EngineConfig()
        path = resolve(str(model), offline=offline, progress=progress)
        prepare(config)
        with contextlib.ExitStack() as stack:
            renderer = stack.enter_context(Renderer())
            with contextlib.suppress(TemplateError):  # a raw prompt needs none; any other says what is wrong
                renderer.start()
            opened = stack.enter_context(open_model(path, config, cancelled))
            context = stack.enter_context(open_context(opened, config, cancelled))
            if opened.chat_template is None:
                renderer.close()
            stack.pop_all()
            return cls(opened, context, config, renderer)

    @property
    def watched_layers(self) -> tuple[int, ...]:
        """The layers whose attention is measured; none where it cannot be."""
        return self.context.tap.layers if self.context.tap else ()

    @property
    def fitted(self) -> Preset | None:
        """The default preset with thresholds fitted to this model; None where `calibrate` has not been run."""
        return self.fits.preset

    def preset(self, name: str = DEFAULT_PRESET) -> Preset:
        """A preset by name, or by a TOML file's path; the default one fitted to this model, where that was done.

        Raises:
            ConfigError: no such preset, or one that does not hold.
        """
        return self.fits.preset_named(name)

    def forget(self) -> None:
        """Free what ended replies left in the cache, so that nothing said before reaches what is said next.

        A prompt that goes on from cells is computed in other portions than a new one, and the last digits differ.
        """
        with self._decoding:
            self._check_open()
            self._scheduler.slots.forget()

    def save_prompt_cache(self, path: Path) -> int:
        """Write the cells of the reply that ended last to a file, so that another process need not decode them.

        Args:
            path: replaced, if it is there.

        Returns:
            How many tokens it holds; 0, and nothing is written, where there are none.

        Raises:
            OSError: it cannot be written.
        """
        with self._decoding:
            self._check_open()
            saved = self._scheduler.slots.saved()
        if saved is None:
            return 0
        tokens, state = saved
        write_state(path, self._identity, tokens, state)
        return len(tokens)

    def load_prompt_cache(self, path: Path) -> int:
        """Take up what `save_prompt_cache` wrote: the next prompt that begins alike goes on from it.

        Returns:
            How many tokens it holds; 0 where the file is empty.

        Raises:
            OSError: it cannot be read.
            ContextError: it is damaged, another model's, or does not fit this context.
        """
        self._check_open()
        tokens, state = read_state(path, self._identity)
        if not tokens:
            return 0
        with self._decoding:
            self._check_open()
            if len(tokens) > self.context.room:
                raise ContextError(
                    f"the prompt cache {path} holds {len(tokens)} tokens and the context {self.context.room}",
                    hint=Hint("raise {}", "ctx_size", "raise"),
                )
            if not self._scheduler.slots.restore(tokens, state):
                raise ContextError(
                    f"the prompt cache {path} does not fit: open the model with the attention and the flash attention "
                    "that it was written with"
                )
        return len(tokens)

    @property
    def _identity(self) -> str:
        """What the model's cells depend on: its file, and its adapters."""
        return " ".join(filter(None, (fingerprint(self.model.path), self.model.loras.identity)))

    @cached_property
    def prompts(self) -> PromptTokenizer:
        """What turns prompts into tokens: the model's chat template and vocabulary."""
        return PromptTokenizer(self.model, self._renderer)

    def tokenize_prompt(
        self,
        prompt: str | Sequence[Message],
        *,
        system: str | None = None,
        raw: bool = False,
        parse_special: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """The tokens that a prompt becomes: `PromptTokenizer.tokenize`."""
        self._check_open()
        return self.prompts.tokenize(
            prompt,
            system=system,
            raw=raw,
            parse_special=parse_special,
            chat_template_kwargs=chat_template_kwargs,
        )

    def stream(
        self,
        prompt: str | Sequence[Message],
        config: GenerationConfig | None = None,
        *,
        system: str | None = None,
        raw: bool = False,
        begin_tokens: Sequence[int] = (),
    ) -> ReplyStream:
        """Generate a reply event by event. Several streams may be read in turns, or each in a thread of its own.

        Args:
            prompt: a text, or the turns of a conversation.
            config: how to generate.
            system: a system message to begin with.
            raw: take the text as it is, without the chat template.
            begin_tokens: see `stream_tokens`.

        Raises:
            PromptError: the prompt is empty, malformed, or longer than the context.
            TemplateError: the chat template fails.
            ConfigError: an unknown preset, or a pause that cannot be written with this vocabulary.
            ContextError: the engine is closed.
        """
        config = config or GenerationConfig()
        tokens = self.tokenize_prompt(
            prompt,
            system=system,
            raw=raw,
            parse_special=config.parse_special,
            chat_template_kwargs=config.chat_template_kwargs,
        )
        return self.stream_tokens(tokens, config, begin_tokens=begin_tokens)

    def stream_tokens(
        self,
        tokens: Sequence[int],
        config: GenerationConfig,
        *,
        begin_tokens: Sequence[int] = (),
        given_tokens: Sequence[int] = (),
    ) -> ReplyStream:
        """Generate a reply to a prompt that is tokens already. Errors as for `stream`.

        What the prompt has in common with one that was or is being answered is not decoded again. Waits for nothing:
        neither for a decode in progress nor for the replies before it.

        Args:
            tokens: the prompt, from `tokenize_prompt`.
            config: how to generate.
            begin_tokens: exact tokens that the reply begins with, such as another reply's up to a place to go on from.
                They count towards `n_predict`, not as generated; their text comes with the first event.
            given_tokens: the whole reply, where it is known and only to be measured again.
        """
        self._check_open()
        preset = self.fits.preset_of(config)
        seed = secrets.randbits(32) if config.seed is None else config.seed
        prompt, begun, given = map(self._checked, (tokens, begin_tokens, given_tokens))
        n_predict = len(given) or config.n_predict
        self._check_length(prompt, begun or given[:-2], n_predict)  # the last token of a reply needs no cell
        capacity = self.context.room if self.sequences == 1 else min(self.context.room, self.model.n_ctx_train)
        reserve = len(prompt) + len(begun) + GROWTH
        if n_predict >= 0:
            reserve = capacity = min(len(prompt) + n_predict, capacity)
        if config.sampler == "entropix":
            self.fits.say_whose_thresholds(preset)
        task = Task(
            preset=preset,
            sampler=config.sampler,
            seed=seed,
            n_predict=n_predict,
            stop=config.stop,
            stop_tokens=self.model.vocabulary.control_tokens(config.stop),
            capacity=capacity,
            begin_tokens=begun,
            given_tokens=given,
            alternatives=config.alternatives,
        )
        emitted: deque[Event] = deque()
        generation = generate(prompt, task, self.model.vocabulary, emitted.append)
        job = self._scheduler.add(generation, capacity, (*prompt, *begun), reserve=reserve)
        return ReplyStream(
            self.step,
            self._drop,
            job,
            emitted,
            seed=seed,
            prompt_tokens=len(prompt),
            begin_tokens=begun,
            judge=None if begun or given else partial(self.fits.judge, config, prompt, self.model.vocabulary),
        )

    def generate(
        self,
        prompt: str | Sequence[Message],
        config: GenerationConfig | None = None,
        *,
        system: str | None = None,
        raw: bool = False,
        begin_tokens: Sequence[int] = (),
    ) -> Reply:
        """Generate a whole reply. Arguments and errors as for `stream`."""
        with self.stream(prompt, config, system=system, raw=raw, begin_tokens=begin_tokens) as stream:
            return stream.reply()

    def step(self, unless: Callable[[], object] = lambda: False) -> bool:
        """One decode for all replies, whose events then wait in their streams: for a caller that reads many at once.

        One thread decodes at a time; another waits for its turn.

        Args:
            unless: asked when its turn has come; where that is true, nothing is decoded.

        Returns:
            Whether a reply is still being generated.

        Raises:
            ContextError: the engine is closed.
        """
        with self._decoding:
            if self._closed:
                self._check_open()
            if unless():
                return True
            try:
                unfinished = self._scheduler.step()
            except BaseException:
                self._scheduler.close(ContextError("an error or an interrupt ended all replies: ask again"))
                raise
        if self._scheduler.notices:
            self._settle()
        return unfinished

    @property
    def free(self) -> tuple[int, int]:
        """Sequences and cells of the KV cache that no reply holds."""
        return self._scheduler.free

    @property
    def jobs(self) -> tuple[int, int]:
        """How many replies are being generated, and how many wait for their turn."""
        return self._scheduler.jobs

    def close(self) -> None:
        """End every reply and free the model; what then reads a reply that had not ended raises ContextError."""
        with self._decoding:
            self._closed = True
            self._renderer.close()
            self._scheduler.close(
                ContextError("the engine was closed before the reply ended: read it to its end first")
            )
            self.context.close()
            self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ContextError("the engine is closed: open it again")

    def _checked(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """Token ids as plain integers, each of this vocabulary."""
        n_vocab = self.model.n_vocab
        for token in tokens:
            if not isinstance(token, Integral) or not 0 <= token < n_vocab:
                raise PromptError(f"token id {token!r} is not in the vocabulary: it must be from 0 to {n_vocab - 1}")
        return tuple(map(int, tokens))

    def _check_length(self, prompt: Sequence[int], begun: Sequence[int], n_predict: int) -> None:
        if not prompt:
            raise PromptError("the prompt is empty: it has no tokens")
        length = len(prompt) + len(begun)
        if length >= self.context.room:
            raise PromptError(
                f"the prompt is {length} tokens and the context {self.context.room}",
                hint=Hint("shorten it or raise {}", "ctx_size", "raise"),
            )
        if begun and 0 <= n_predict <= len(begun):
            raise PromptError(
                f"the reply begins with {len(begun)} tokens and n_predict is {n_predict}: it must be at least "
                f"{len(begun) + 1}, or -1"
            )

    def _drop(self, job: Job) -> None:
        job.drop()
        self._settle()

    def _settle(self) -> None:
        """Let dropped jobs free their cells now, unless a decode is in progress: then its thread does it next."""
        while not self._closed and self._scheduler.notices and self._decoding.acquire(blocking=False):
            try:
                if not self._closed:
                    self._scheduler.settle()
            finally:
                self._decoding.release()
