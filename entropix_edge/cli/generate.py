"""`entropix-edge generate`: a prompt in, text out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ..config import DEFAULT_PRESET, EngineConfig, GenerationConfig
from ..strategy import load_preset, override
from ..types import TokenEvent
from . import EXIT_FAILED, EXIT_INTERRUPTED
from .options import (
    attention_option,
    engine_options,
    model_name,
    model_options,
    output_options,
    prompt_options,
    sampling_options,
    verbose_option,
)
from .terminal import DownloadBar, Interrupt, console, gather_prompt, saying, set_up_logging, wants_colour

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..config import Preset
    from ..engine import Engine, ReplyStream
    from ..render import Stats, TraceWriter
    from ..sessions import Deliberation
    from ..types import Event

_FILTERS = ("temperature", "top_k", "top_p", "min_p")


@click.command("generate")
@prompt_options
@model_options
@engine_options
@attention_option("last", "last")
@sampling_options
@output_options
@verbose_option
def command(**options: Any) -> int:
    """Answer PROMPT.

    The prompt may come as an argument, with -p, from files and from standard input; what there is of them
    is joined. Standard output is the model's text and nothing else.
    """
    set_up_logging(verbose=options["verbose"])
    _check_output(options)
    engine_config, generation_config = _configs(options)
    prompt = gather_prompt(options["prompt"], options["prompt_option"], options["files"])

    interrupt = Interrupt()
    with interrupt.watching():
        return _generate(prompt, engine_config, generation_config, options, interrupt)


def _generate(
    prompt: str, engine_config: EngineConfig, config: GenerationConfig, options: dict[str, Any], interrupt: Interrupt
) -> int:
    from ..engine import Engine, prepare
    from ..hub import resolve

    start = time.perf_counter()
    with DownloadBar() as bar:
        path = resolve(model_name(options), offline=options["offline"], progress=bar)
    with saying("Compiling the kernels for this machine: some seconds, once.", after=1.0):
        prepare(engine_config)
    with interrupt.deferring(), Engine.open(path, engine_config, cancelled=interrupt) as engine:
        config = _fitted(config, engine, options)
        cache: Path | None = options["prompt_cache"]
        if cache is not None and cache.exists():
            engine.load_prompt_cache(cache)
        startup = time.perf_counter() - start
        stream = _stream(engine, prompt, config, options)
        code = _Run(engine, stream, config, options, startup).show(interrupt)
        if cache is not None:
            engine.save_prompt_cache(cache)
        return code


def _stream(
    engine: Engine, prompt: str, config: GenerationConfig, options: dict[str, Any]
) -> ReplyStream | Deliberation:
    if options["deliberate"] is None:
        return engine.stream(prompt, config, system=options["system"], raw=options["raw"])
    from ..sessions import Deliberation, Manner, extract

    extractor = options["answer"]
    tokens = engine.tokenize_prompt(
        prompt, system=options["system"], raw=options["raw"], parse_special=config.parse_special
    )
    answer_of = (lambda text: extract(text, extractor)) if extractor else None
    return Deliberation(engine, tokens, config, Manner(roads=options["deliberate"]), answer_of)


def _configs(options: dict[str, Any]) -> tuple[EngineConfig, GenerationConfig]:
    engine = EngineConfig(
        ctx_size=options["ctx_size"],
        batch_size=options["batch_size"],
        threads=options["threads"],
        threads_batch=options["threads_batch"],
        gpu_layers=options["n_gpu_layers"],
        flash_attention=options["flash_attn"],
        attention=options["attention"],
        sequences=(options["deliberate"] or 2) // 2,
    )
    generation = GenerationConfig(
        preset=_preset(options),
        sampler=options["sampler"],
        seed=options["seed"],
        n_predict=options["n_predict"],
        stop=options["stop"],
        parse_special=options["parse_special"],
    )
    return engine, generation


def _check_output(options: dict[str, Any]) -> None:
    """Refuse at once what could only fail after the model is loaded."""
    if options["as_json"] and options["color"] == "always":
        raise click.UsageError("--json and --color always do not go together: JSON has no colours")
    if options["answer"] and options["deliberate"] is None:
        raise click.UsageError("--answer says by what roads vote: give --deliberate N too")
    if options["answer"]:
        from ..sessions import check_extractor

        check_extractor(options["answer"])
    if options["raw"] and options["system"] is not None:
        raise click.UsageError("--raw and --system do not go together: put the system message into the text")
    cache: Path | None = options["prompt_cache"]
    if cache is not None and not cache.parent.is_dir():
        raise click.UsageError(f"the prompt cache {cache} cannot be written: {cache.parent} is no folder")
    trace: Path | None = options["trace"]
    if trace is not None and str(trace) == "-":
        raise click.UsageError("--trace needs a file: standard output is for the text")
    if trace is not None and not trace.parent.is_dir():
        raise click.UsageError(f"the trace {trace} cannot be opened: {trace.parent} is no folder")
    if sys.stdout is None:
        raise click.UsageError("standard output is closed: there is nowhere to write the text")


def _preset(options: dict[str, Any], base: Preset | None = None) -> Preset:
    filters = {f"sampler.{name}": options[name] for name in _FILTERS if options[name] is not None}
    return override(base or load_preset(options["preset"]), filters | dict(options["options"]))


def _fitted(config: GenerationConfig, engine: Engine, options: dict[str, Any]) -> GenerationConfig:
    """The same with the default preset as it was fitted to the model."""
    if options["preset"] != DEFAULT_PRESET or engine.fitted is None:
        return config
    return dataclasses.replace(config, preset=_preset(options, engine.fitted))


class _Run:
    """One reply on its way to the screen, the trace and the statistics."""

    def __init__(
        self,
        engine: Engine,
        stream: ReplyStream | Deliberation,
        config: GenerationConfig,
        options: dict[str, Any],
        startup: float,
    ) -> None:
        self._engine = engine
        self._stream = stream
        self._config = config
        self._options = options
        self._startup = startup

    def show(self, interrupt: Interrupt) -> int:
        """Generate, and return the exit code."""
        from ..render import TextPrinter, legend

        as_json = self._options["as_json"]
        terminal = sys.stdout.isatty()
        colour = not as_json and self._wants_colour(terminal)
        if colour:
            console(colour=True).print(legend())
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
        printer = TextPrinter(sys.stdout, colour=colour, terminal=terminal)
        with contextlib.ExitStack() as stack:
            stack.callback(self._stream.close)
            trace = self._open_trace(stack)
            stack.callback(self._finish_trace, trace)
            for event in self._events():
                if trace:
                    trace.write(event)
                if isinstance(event, TokenEvent) and not as_json:
                    printer.write(event)
                if interrupt():
                    self._stream.cancel()
            if as_json:
                print(json.dumps(self._record(), ensure_ascii=False))
            else:
                printer.finish()
        self._report()
        if interrupt():
            return EXIT_INTERRUPTED
        return EXIT_FAILED if trace and trace.failed else 0

    def _events(self) -> Iterator[Event]:
        """The stream's events; while several roads are being looked down there are none, and that is said."""
        events = self._stream.everything()
        if self._options["deliberate"]:
            with console().status(f"Looking down up to {self._options['deliberate']} roads"):
                first = next(events, None)
            if first is not None:
                yield first
        yield from events

    def _finish_trace(self, trace: TraceWriter | None) -> None:
        """Where the reader has gone, end the reply, and the trace as it should end."""
        self._stream.cancel()
        if trace:
            for event in self._stream.everything():
                trace.write(event)

    def _wants_colour(self, terminal: bool) -> bool:
        wanted = self._options["color"]
        return wanted == "always" or (wanted == "auto" and terminal and wants_colour())

    def _open_trace(self, stack: contextlib.ExitStack) -> TraceWriter | None:
        from ..render import TraceWriter

        path: Path | None = self._options["trace"]
        if path is None:
            return None
        trace = TraceWriter(path, self._header())
        stack.callback(trace.close)
        return trace

    def _header(self) -> dict[str, Any]:
        return {
            "model": str(self._engine.model.path.name),
            "seed": self._stream.seed,
            "prompt_tokens": self._stream.prompt_tokens,
            "sampler": self._config.sampler,
            "preset": dataclasses.asdict(self._config)["preset"],
            "attention_layers": list(self._engine.watched_layers),
        }

    def _stats(self) -> Stats:
        from ..render import Stats

        reply = self._stream.reply()
        return Stats(
            reply.events,
            reply.roads,
            prompt_tokens=reply.prompt_tokens,
            cached_tokens=reply.cached_tokens,
            decoded_tokens=reply.decoded_tokens,
            prompt_seconds=reply.prompt_seconds,
            generation_seconds=reply.generation_seconds,
            startup_seconds=self._startup,
        )

    def _record(self) -> dict[str, Any]:
        reply = self._stream.reply()
        return {
            "model": str(self._engine.model.path.name),
            "text": reply.text,
            "finish_reason": reply.finish_reason,
            "seed": reply.seed,
            "stats": self._stats().as_record(),
        }

    def _preset_shown(self) -> str:
        name: str = self._options["preset"]
        if name != DEFAULT_PRESET:
            return name
        return f"{name} (fitted to this model)" if self._engine.fitted else f"{name} (the default model's thresholds)"

    def _report(self) -> None:
        if self._options["stats"]:
            facts = {
                "preset": self._preset_shown(),
                "finish": self._stream.reply().finish_reason,
                "seed": self._stream.seed,
            }
            console().print(self._stats().table(**facts))
        elif self._options["seed"] is None and self._options["sampler"] != "greedy" and console().is_terminal:
            console().print(f"seed {self._stream.seed}", style="dim")
