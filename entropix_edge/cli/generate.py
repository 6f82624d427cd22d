"""`entropix-edge generate`: a prompt in, text out."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import click

from ..config import DEFAULT_PRESET, MOST_ALTERNATIVES, AttentionChoice, GenerationConfig
from ..strategy import load_preset
from ..types import TokenEvent
from . import EXIT_FAILED, EXIT_INTERRUPTED
from .console import console, print_json, wants_colour
from .engine_options import EngineOptions
from .options import (
    CandidateOptions,
    ModelOptions,
    SamplingOptions,
    attention_option,
    color_option,
    takes,
    verbose_option,
)
from .profiles import profile_option
from .prompts import PromptOptions, gather_prompt
from .reply_record import reply_record, said_to_wait
from .session import Session, fetch

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import EngineConfig, Preset
    from ..engine import Engine, ReplyStream
    from ..render import Stats, TraceWriter
    from ..sessions import Deliberation
    from .interrupt import Interrupt


class OutputOptions(NamedTuple):
    """What is printed, and what is written beside it."""

    color: Annotated[Literal["auto", "always", "never"], color_option]
    stats: Annotated[
        bool, click.option("--stats", is_flag=True, help="Print speed, strategies and entropy to standard error.")
    ]
    trace: Annotated[
        Path | None,
        click.option(
            "--trace",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Write one JSON object a token.",
        ),
    ]
    alternatives: Annotated[
        int,
        click.option(
            "--alternatives",
            type=click.IntRange(0, MOST_ALTERNATIVES),
            default=0,
            metavar="N",
            help="Put the N most probable tokens at each place into --trace and --json. Default: 0.",
        ),
    ]
    as_json: Annotated[
        bool, click.option("--json", "as_json", is_flag=True, help="Print the reply as one JSON object.")
    ]


class _Options(NamedTuple):
    """All that the command was given."""

    prompt: PromptOptions
    model: ModelOptions
    engine: EngineOptions
    attention: AttentionChoice
    sampling: SamplingOptions
    candidates: CandidateOptions
    output: OutputOptions

    def engine_config(self) -> EngineConfig:
        """How to open the model: with slots for the candidates that are generated first."""
        config = self.engine.config(self.attention)
        voting = self.candidates.voting()
        return dataclasses.replace(config, sequences=voting.first_wave) if voting else config

    def generation_config(self, load: Callable[[str], Preset]) -> GenerationConfig:
        """How to generate, with presets from `load`."""
        return dataclasses.replace(
            self.sampling.config(load),
            alternatives=self.output.alternatives,
            parse_special=self.prompt.parse_special,
            chat_template_kwargs=self.prompt.chat_template_kwargs,
        )


@click.command("generate")
@takes(prompt=PromptOptions, model=ModelOptions, engine=EngineOptions)
@attention_option("last", "last")
@profile_option
@takes(sampling=SamplingOptions, candidates=CandidateOptions, output=OutputOptions)
@verbose_option
def command(
    prompt: PromptOptions,
    model: ModelOptions,
    engine: EngineOptions,
    attention: AttentionChoice,
    sampling: SamplingOptions,
    candidates: CandidateOptions,
    output: OutputOptions,
) -> int:
    """Answer PROMPT.

    The prompt may come as an argument, with -p, from files and from standard input; what there is of them
    is joined, in the order files, standard input, -p, argument. Standard input is read where it is a pipe or a
    file (</dev/null leaves it out), and with -f - whatever it is. Standard output is the model's text and
    nothing else.
    """
    options = _Options(prompt, model, engine, attention, sampling, candidates, output)
    _check_output(options)
    engine_config = options.engine_config()
    options.generation_config(load_preset)  # what is wrong there is said before the model is loaded
    text = gather_prompt(prompt.prompt, prompt.prompt_option, prompt.files)
    with Session() as session:
        return _generate(session, text, engine_config, options)


def _generate(session: Session, prompt: str, engine_config: EngineConfig, options: _Options) -> int:
    start = time.perf_counter()
    path = fetch(options.model.name, offline=options.model.offline)
    with session.engine(path, engine_config) as engine:
        config = options.generation_config(engine.preset)
        cache = options.prompt.prompt_cache
        if cache is not None and cache.exists():
            engine.load_prompt_cache(cache)
        startup = time.perf_counter() - start
        stream = _stream(engine, prompt, config, options)
        code = _Run(engine, stream, config, options, startup).show(session.interrupt)
        if cache is not None:
            engine.save_prompt_cache(cache)
        return code


def _stream(engine: Engine, prompt: str, config: GenerationConfig, options: _Options) -> ReplyStream | Deliberation:
    system, raw = options.prompt.system, options.prompt.raw
    voting = options.candidates.voting()
    if voting is None:
        return engine.stream(prompt, config, system=system, raw=raw)
    from ..sessions import Deliberation

    tokens = engine.tokenize_prompt(
        prompt,
        system=system,
        raw=raw,
        parse_special=config.parse_special,
        chat_template_kwargs=config.chat_template_kwargs,
    )
    return Deliberation(engine, tokens, config, voting, options.candidates.answer_of)


def _check_output(options: _Options) -> None:
    """Refuse at once what could only fail after the model is loaded."""
    prompt, output = options.prompt, options.output
    if output.as_json and output.color == "always":
        raise click.UsageError("--json and --color always do not go together: JSON has no colours")
    options.candidates.check()
    if prompt.raw and prompt.system is not None:
        raise click.UsageError("--raw and --system do not go together: put the system message into the text")
    if prompt.raw and prompt.chat_template_kwargs:
        raise click.UsageError("--raw and --chat-template-kwargs do not go together: --raw leaves the template out")
    if output.alternatives and not (output.trace or output.as_json):
        raise click.UsageError("--alternatives are written to --trace and --json: give one of them too")
    cache, trace = prompt.prompt_cache, output.trace
    if cache is not None and not cache.parent.is_dir():
        raise click.UsageError(f"the prompt cache {cache} cannot be written: {cache.parent} is not a folder")
    if trace is not None and str(trace) == "-":
        raise click.UsageError("--trace needs a file: standard output is for the text")
    if trace is not None and not trace.parent.is_dir():
        raise click.UsageError(f"the trace {trace} cannot be opened: {trace.parent} is not a folder")
    if trace is not None:
        from ..render import check_replaceable

        check_replaceable(trace)
    if sys.stdout is None:
        raise click.UsageError("standard output is closed: there is nowhere to write the text")


class _Run:
    """One reply on its way to the screen, the trace and the statistics."""

    def __init__(
        self,
        engine: Engine,
        stream: ReplyStream | Deliberation,
        config: GenerationConfig,
        options: _Options,
        startup: float,
    ) -> None:
        self._engine = engine
        self._stream = stream
        self._config = config
        self._options = options
        self._output = options.output
        self._startup = startup

    def show(self, interrupt: Interrupt) -> int:
        """Print the reply as it comes, then what was asked for besides. The exit code."""
        from ..render import TextPrinter, legend

        terminal = sys.stdout.isatty()
        as_json = self._output.as_json
        colour = not as_json and wants_colour(self._output.color)
        if colour:
            console(colour=True).print(legend())
        printer = TextPrinter(sys.stdout, colour=colour, terminal=terminal)
        with contextlib.ExitStack() as stack:
            stack.callback(self._stream.close)
            trace = self._open_trace(stack)
            stack.callback(self._finish_trace, trace)
            for event in said_to_wait(self._stream.everything(), self._options.candidates.deliberate):
                if trace:
                    trace.write(event)
                if isinstance(event, TokenEvent) and not as_json:
                    printer.write(event)
                if interrupt():
                    self._stream.cancel()
            if as_json:
                print_json(self._record())
            else:
                printer.finish()
        self._report()
        if interrupt():
            return EXIT_INTERRUPTED
        return EXIT_FAILED if trace and trace.failed else 0

    def _finish_trace(self, trace: TraceWriter | None) -> None:
        """Where the reader has gone, end the reply, and the trace as it should end."""
        self._stream.cancel()
        if trace:
            for event in self._stream.everything():
                trace.write(event)

    def _open_trace(self, stack: contextlib.ExitStack) -> TraceWriter | None:
        from ..render import TraceWriter

        path: Path | None = self._output.trace
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

        return Stats(self._stream.reply(), startup_seconds=self._startup)

    def _record(self) -> dict[str, Any]:
        return reply_record(
            self._engine,
            self._stream.reply(),
            startup_seconds=self._startup,
            alternatives=self._config.alternatives > 0,
        )

    def _preset_shown(self) -> str:
        name = self._options.sampling.preset
        if self._engine.preset(name) is self._engine.fitted:
            return f"{name} (fitted to this model)"
        return f"{name} (the default model's thresholds)" if name == DEFAULT_PRESET else name

    def _report(self) -> None:
        sampling = self._options.sampling
        if self._output.stats:
            facts = {
                "preset": self._preset_shown(),
                "finish": self._stream.reply().finish_reason,
                "seed": self._stream.seed,
            }
            console().print(self._stats().table(**facts))
        elif sampling.seed is None and sampling.sampler != "greedy" and console().is_terminal:
            console().print(f"seed {self._stream.seed}", style="dim")
