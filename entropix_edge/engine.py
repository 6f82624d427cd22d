"""The composition root: opens a model, wires the parts, streams replies."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from . import native
from .config import DEFAULT_CTX_SIZE, DEFAULT_MODEL, DEFAULT_PRESET, EngineConfig, GenerationConfig, Preset
from .decoding import Scheduler, Task, generate
from .errors import ConfigError, ContextError, PromptError, TemplateError
from .hub import config_folder, fingerprint, resolve
from .llama import Context, Model, read_state, write_state
from .strategy import load_fitted, load_preset
from .text import ChatTemplate, ControlText, as_messages, clean
from .types import TokenEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .decoding import Live
    from .hub import Progress
    from .text import Message
    from .types import Event, FinishReason, SideEvent

logger = logging.getLogger("entropix_edge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One finished reply.

    Attributes:
        text: what the model said.
        events: the token events that made it.
        roads: what else happened: roads looked down, rejected draws, rewinds, strategies that could not act.
        finish_reason: why it ended.
        seed: that repeats it.
        prompt_tokens: how many tokens the prompt was.
        cached_tokens: how many of them were in the cache already, from an earlier prompt that begins alike.
        decoded_tokens: how many were decoded beyond the prompt, roads not taken included.
        prompt_seconds: from the first decode to the first token.
        generation_seconds: from the first token to the last.
    """

    text: str
    events: tuple[TokenEvent, ...]
    roads: tuple[SideEvent, ...]
    finish_reason: FinishReason | None
    seed: int
    prompt_tokens: int
    cached_tokens: int
    decoded_tokens: int
    prompt_seconds: float
    generation_seconds: float


class ReplyStream:
    """A reply as it is generated: an iterator of token events. Closing it early ends the generation.

    What else happened (roads not taken, rejected draws, rewinds) comes between them from `everything`. Where the
    generation failed, every read after its events raises the error.
    """

    def __init__(
        self,
        engine: Engine,
        live: Live,
        coming: deque[Event],
        *,
        seed: int,
        prompt_tokens: int,
        begun: tuple[int, ...] = (),
    ) -> None:
        self.seed = seed
        self.prompt_tokens = prompt_tokens
        self.begun = begun
        self._engine = engine
        self._live = live
        self._coming = coming  # the generation appends to it
        self._events: list[Event] = []
        self._start_time = self._last_time = time.perf_counter()
        self._first_time = 0.0

    @property
    def ended(self) -> bool:
        """Whether nothing more will be generated; what was may still be unread."""
        return self._live.ended

    @property
    def decoded_tokens(self) -> int:
        """Tokens decoded so far beyond the prompt and what the reply began with."""
        live = self._live
        return max(live.decoded + live.shared - self.prompt_tokens - len(self.begun), 0)

    @property
    def text(self) -> str:
        """What was said in the events read so far."""
        return "".join(event.text for event in self._events if isinstance(event, TokenEvent))

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens of the events read so far."""
        tokens = (event.token_id for event in self._events if isinstance(event, TokenEvent))
        return tuple(token for token in tokens if token is not None)

    def waiting(self) -> Iterator[Event]:
        """The events that have come and were not read yet; decodes nothing.

        Raises:
            EntropixError: the generation failed.
        """
        while self._coming:
            yield self._take()
        if self._live.error:
            raise self._live.error

    def __iter__(self) -> Iterator[TokenEvent]:
        return self

    def __next__(self) -> TokenEvent:
        while True:
            event = self._next()
            if event is None:
                raise StopIteration
            if isinstance(event, TokenEvent):
                return event

    def everything(self) -> Iterator[Event]:
        """All events, in the order things happened."""
        return iter(self._next, None)

    def _next(self) -> Event | None:
        while not self._coming:
            if not self._live.ended:
                self._engine.pump()
            elif not self._coming:  # what another thread's decode brought came before the end
                if self._live.error:
                    raise self._live.error
                return None
        return self._take()

    def _take(self) -> Event:
        event = self._coming.popleft()
        now = time.perf_counter()
        self._first_time = self._first_time or now
        self._last_time = now
        self._events.append(event)
        return event

    def cancel(self) -> None:
        """End the reply before the next decode; its last event has the finish reason `cancelled`."""
        self._live.cancel()

    def close(self) -> None:
        """End the generation at once and free its part of the context."""
        self._engine._drop(self._live)

    def reply(self) -> Reply:
        """The whole reply, generating what is still missing.

        Raises:
            EntropixError: the generation failed.
        """
        for _event in self.everything():
            pass
        tokens = tuple(event for event in self._events if isinstance(event, TokenEvent))
        roads = tuple(event for event in self._events if not isinstance(event, TokenEvent))
        first = self._first_time or self._last_time
        return Reply(
            text=self.text,
            events=tokens,
            roads=roads,
            finish_reason=tokens[-1].finish_reason if tokens else None,
            seed=self.seed,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self._live.shared,
            decoded_tokens=self.decoded_tokens,
            prompt_seconds=first - self._start_time,
            generation_seconds=self._last_time - first,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def prepare(config: EngineConfig) -> None:
    """Compile the kernels where that was not done on this machine, while an interrupt is still an interrupt."""
    native.prepare([native.KERNELS] if config.attention == "off" else [native.KERNELS, native.TAP])


def open_context(model: Model, config: EngineConfig, cancelled: Callable[[], bool] = lambda: False) -> Context:
    """A context as `config` says, on a model that is open.

    Raises:
        ContextError: no memory for it.
        ConfigError: a layer that the model does not have.
    """
    return Context(
        model,
        n_ctx=_context_size(config, model),
        batch_size=config.batch_size,
        sequences=config.sequences + config.forks,
        threads=config.threads,
        threads_batch=config.threads_batch,
        flash_attention=config.flash_attention,
        layers=_watched_layers(config, model),
        exact=config.exact,
        pooled=config.pooled,
        cancelled=cancelled,
    )


class Engine:
    """An open model that answers prompts. A context manager.

    Several threads may use it; what they generate shares batches, and one of them decodes at a time.
    """

    def __init__(self, model: Model, context: Context, sequences: int) -> None:
        self.model = model
        self.context = context
        self.sequences = sequences
        self._scheduler = Scheduler(context, sequences)
        self._lock = threading.RLock()
        self._closed = False

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
            cancelled: asked during the load and each long decode; True stops them.

        Raises:
            ModelError: it cannot be found, fetched or loaded.
            ContextError: no memory for the context.
            ConfigError: a layer that the model does not have.
        """
        config = config or EngineConfig()
        path = resolve(str(model), offline=offline, progress=progress)
        prepare(config)
        with contextlib.ExitStack() as stack:
            opened = stack.enter_context(
                Model(
                    path,
                    gpu_layers=config.gpu_layers,
                    n_ctx=config.ctx_size or DEFAULT_CTX_SIZE,
                    mmap=config.mmap,
                    cancelled=cancelled,
                )
            )
            context = stack.enter_context(open_context(opened, config, cancelled))
            stack.pop_all()
            return cls(opened, context, config.sequences)

    @property
    def watched_layers(self) -> tuple[int, ...]:
        """The layers whose attention is measured; none where it cannot be."""
        return self.context.tap.layers if self.context.tap else ()

    @cached_property
    def fitted(self) -> Preset | None:
        """The default preset with thresholds fitted to this model; None where `calibrate` has not been run."""
        found = None
        with contextlib.suppress(OSError):  # the file is gone, which an open model does not mind
            found = load_fitted(fingerprint(self.model.path), config_folder() / "presets")
        if found is None:
            logger.debug("no thresholds are fitted to this model: those of the default model are used")
        return found

    def preset(self, name: str = DEFAULT_PRESET) -> Preset:
        """A preset by name, or by a TOML file's path; the default one fitted to this model, where that was done.

        Raises:
            ConfigError: no such preset, or one that does not hold.
        """
        return (self.fitted if name == DEFAULT_PRESET else None) or load_preset(name)

    def forget(self) -> None:
        """Free what ended replies left in the cache, so that nothing said before reaches what is said next.

        A prompt that goes on from cells is computed in other portions than a new one, and the last digits differ.
        """
        with self._lock:
            self._check_open()
            self._scheduler.forget()

    def save_prompt_cache(self, path: Path) -> int:
        """Write the cells of the reply that ended last to a file, so that another process need not decode them.

        Args:
            path: replaced, if it is there.

        Returns:
            How many tokens it holds; 0, and nothing is written, where there are none.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            self._check_open()
            saved = self._scheduler.saved()
        if saved is None:
            return 0
        tokens, state = saved
        write_state(path, fingerprint(self.model.path), tokens, state)
        return len(tokens)

    def load_prompt_cache(self, path: Path) -> int:
        """Take up what `save_prompt_cache` wrote: the next prompt that begins alike goes on from it.

        Returns:
            How many tokens it holds.

        Raises:
            OSError: it cannot be read.
            ContextError: it is damaged, another model's, or does not fit this context.
        """
        tokens, state = read_state(path, fingerprint(self.model.path))
        with self._lock:
            self._check_open()
            if len(tokens) > self.context.room:
                raise ContextError(
                    f"the prompt cache {path} holds {len(tokens)} tokens and the context {self.context.room}: "
                    "raise --ctx-size"
                )
            if not self._scheduler.restore(tokens, state):
                raise ContextError(
                    f"the prompt cache {path} does not fit: open the model with the --attention and --flash-attn "
                    "that it was written with"
                )
        return len(tokens)

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """The model's own chat template; None where the file has none."""
        source = self.model.chat_template
        vocabulary = self.model.vocabulary
        return ChatTemplate(source, bos=vocabulary.bos, eos=vocabulary.eos) if source else None

    def tokenize_prompt(
        self,
        prompt: str | Sequence[Message],
        *,
        system: str | None = None,
        raw: bool = False,
        parse_special: bool = False,
    ) -> list[int]:
        """The tokens that a prompt becomes.

        Args:
            prompt: a text, or the turns of a conversation.
            system: a system message to begin with.
            raw: take the text as it is, without the chat template.
            parse_special: read control-token text in it as control tokens.

        Raises:
            PromptError: it is empty or malformed.
            TemplateError: the model has no chat template, or one that fails.
        """
        self._check_open()
        vocabulary = self.model.vocabulary
        if raw:
            if not isinstance(prompt, str) or system is not None:
                raise PromptError("a raw prompt is one text without a system message: put it into the text")
            if not prompt:
                raise PromptError("the prompt is empty: give the text to continue")
            return vocabulary.tokenize(clean(prompt), add_special=True, parse_special=parse_special)
        messages = as_messages(prompt, system)
        if self.chat_template is None:
            if not isinstance(prompt, str) or system is not None:
                raise TemplateError(f"{self.model.path.name} has no chat template: give one raw text")
            return vocabulary.tokenize(clean(prompt), add_special=True, parse_special=parse_special)
        found = [] if parse_special else vocabulary.control_texts_in("\n".join(m["content"] for m in messages))
        control = ControlText(found)
        text = self.chat_template.render(control.mark(messages))
        tokens: list[int] = []
        for part, special in control.split(text):
            tokens += vocabulary.tokenize(part, parse_special=special)
        return self._with_bos(tokens, text)

    def _with_bos(self, tokens: list[int], text: str) -> list[int]:
        """Begin as the model was trained to, where its template did not."""
        vocabulary = self.model.vocabulary
        if vocabulary.adds_bos and not text.startswith(vocabulary.bos):
            return vocabulary.tokenize(vocabulary.bos, parse_special=True) + tokens
        return tokens

    def stream(
        self,
        prompt: str | Sequence[Message],
        config: GenerationConfig | None = None,
        *,
        system: str | None = None,
        raw: bool = False,
    ) -> ReplyStream:
        """Generate a reply event by event. Several streams may be read in turns.

        Args:
            prompt: a text, or the turns of a conversation.
            config: how to generate.
            system: a system message to begin with.
            raw: take the text as it is, without the chat template.

        Raises:
            PromptError: the prompt is empty, malformed, or longer than the context.
            TemplateError: the chat template fails.
            ConfigError: an unknown preset, or a pause that cannot be written with this vocabulary.
        """
        config = config or GenerationConfig()
        tokens = self.tokenize_prompt(prompt, system=system, raw=raw, parse_special=config.parse_special)
        return self.stream_tokens(tokens, config)

    def stream_tokens(
        self, tokens: Sequence[int], config: GenerationConfig, *, begun: Sequence[int] = ()
    ) -> ReplyStream:
        """Generate a reply to a prompt that is tokens already. Errors as for `stream`.

        What the prompt has in common with one that was or is being answered is not decoded again.

        Args:
            tokens: the prompt, from `tokenize_prompt`.
            config: how to generate.
            begun: tokens that the reply begins with; they count towards `n_predict`, not as generated.
        """
        preset = config.preset if isinstance(config.preset, Preset) else self.preset(config.preset)
        seed = secrets.randbits(32) if config.seed is None else config.seed
        if not tokens:
            raise PromptError("the prompt is empty: it has no tokens")
        if len(tokens) >= self.context.room:
            raise PromptError(
                f"the prompt is {len(tokens)} tokens and the context {self.context.room}: "
                "shorten it or raise --ctx-size"
            )
        room = self.context.room if self.sequences == 1 else min(self.context.room, self.model.n_ctx_train)
        cells = room if config.n_predict < 0 else min(len(tokens) + config.n_predict, room)
        task = Task(
            preset=preset,
            sampler=config.sampler,
            seed=seed,
            n_predict=config.n_predict,
            stop=config.stop,
            room=cells,
            begun=tuple(begun),
        )
        with self._lock:
            coming: deque[Event] = deque()
            generation = generate(tokens, task, self.model.vocabulary, coming.append)
            live = self._scheduler.add(generation, cells, (*tokens, *begun))
        return ReplyStream(self, live, coming, seed=seed, prompt_tokens=len(tokens), begun=tuple(begun))

    def generate(
        self,
        prompt: str | Sequence[Message],
        config: GenerationConfig | None = None,
        *,
        system: str | None = None,
        raw: bool = False,
    ) -> Reply:
        """Generate a whole reply. Arguments and errors as for `stream`."""
        with self.stream(prompt, config, system=system, raw=raw) as stream:
            return stream.reply()

    def pump(self) -> None:
        """One decode for all replies, whose events then wait in their streams: for who reads many at once."""
        with self._lock:
            self._check_open()
            try:
                self._scheduler.step()
            except BaseException:
                self._scheduler.close()
                raise

    def close(self) -> None:
        """End every stream and free the model."""
        with self._lock:
            self._closed = True
            self._scheduler.close()
            self.context.close()
            self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ContextError("the engine is closed: open it again")

    def _drop(self, live: Live) -> None:
        with self._lock:
            if not self._closed:
                self._scheduler.remove(live)


def _context_size(config: EngineConfig, model: Model) -> int:
    if config.ctx_size is None:
        return min(model.n_ctx_train, DEFAULT_CTX_SIZE)
    if config.ctx_size == 0:
        return model.n_ctx_train
    if config.ctx_size > model.n_ctx_train and config.sequences == 1:
        logger.warning(
            "a context of %d tokens is more than the %d this model was trained for: replies may degrade",
            config.ctx_size,
            model.n_ctx_train,
        )
    return config.ctx_size


def _watched_layers(config: EngineConfig, model: Model) -> tuple[int, ...]:
    if config.attention == "off":
        return ()
    if model.is_recurrent or model.is_hybrid:
        kind = model.header.architecture
        logger.warning("a %s model shows no attention; it counts as 0 in every formula", kind)
        return ()
    if config.attention == "all":
        return tuple(range(model.n_layer))
    if config.attention == "last":
        return (model.n_layer - 1,)
    for layer in config.attention:
        if layer >= model.n_layer:
            raise ConfigError(f"attention layer {layer} does not exist: this model has 0 to {model.n_layer - 1}")
    return tuple(dict.fromkeys(config.attention))
