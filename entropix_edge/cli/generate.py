"""`entropix-edge generate`: a prompt in, text out."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import click

from ..config import DEFAULT_PRESET, MOST_ALTERNATIVES, GenerationConfig
from ..engine_config import AttentionChoice
from ..strategy import load_preset
from ..types import TokenEvent
from . import EXIT_ABSTAINED, EXIT_FAILED, EXIT_INTERRUPTED
from .console import console, plain, print_json, wants_colour
from .engine_options import EngineOptions
from .escalation import Second
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
from .reply_record import reply_record, with_alternatives
from .session import Session, fetch
from .verdict import Verdict, VerdictOptions
from .waiting import said_to_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import EngineConfig, Preset
    from ..engine import Engine, ReplyStream
    from ..render import Stats, TextPrinter, TraceWriter
    from ..sessions import Deliberation
    from ..text import Message
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
    verdict: VerdictOptions
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
@takes(sampling=SamplingOptions, candidates=CandidateOptions, verdict=VerdictOptions, output=OutputOptions)
@verbose_option
def command(
    prompt: PromptOptions,
    model: ModelOptions,
    engine: EngineOptions,
    attention: AttentionChoice,
    sampling: SamplingOptions,
    candidates: CandidateOptions,
    verdict: VerdictOptions,
    output: OutputOptions,
) -> int:
    """Answer PROMPT.

    The prompt may come as an argument, with -p, from files and from standard input; what there is of them
    is joined, in the order files, standard input, -p, argument. Standard input is read where it is a pipe or a
    file (</dev/null leaves it out), and with -f - whatever it is. Standard output is the model's text and
    nothing else.
    """
    options = _Options(prompt, model, engine, attention, sampling, candidates, verdict, output)
    _check_output(options)
    engine_config = options.engine_config()
    options.generation_config(load_preset)  # what is wrong there is said before the model is loaded
    text = gather_prompt(prompt.prompt, prompt.prompt_option, prompt.files)
    with Session() as session:
        return _generate(session, text, engine_config, options)


def _generate(session: Session, prompt: str, engine_config: EngineConfig, options: _Options) -> int:
    start = time.perf_counter()
    path = fetch(options.model.name, offline=options.model.offline)
    options.verdict.check_fit(path, options.generation_config, options.candidates.voting())
    with session.engine(path, engine_config) as engine:
        config = _with_names(engine, options)
        cache = options.prompt.prompt_cache
        if cache is not None and cache.exists():
            engine.load_prompt_cache(cache)
        startup = time.perf_counter() - start
        stream = _stream(engine, prompt, config, options)
        run = _Run(engine, stream, config, options, startup)
        code = run.show(session.interrupt)
        if cache is not None:
            engine.save_prompt_cache(cache)
    if run.is_doubted and options.verdict.escalate:  # with the first model closed: there may be memory for one
        run.escalate(prompt)
    return code


def _with_names(engine: Engine, options: _Options) -> GenerationConfig:
    """How to generate; with alternatives where the least sure tokens of an answer are to be named."""
    config = options.generation_config(engine.preset)
    policy = engine.fits.policy(config)
    if not any(fit.policy.startswith(policy) for fit in engine.fits.confidence.fits):
        return config
    from ..render import NAMED_ALTERNATIVES

    return dataclasses.replace(config, alternatives=max(config.alternatives, NAMED_ALTERNATIVES))


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
    options.verdict.check(offline=options.model.offline)
    if prompt.raw and options.verdict.server:
        raise click.UsageError("--raw and a server to --escalate to do not go together: it takes messages")
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


def _printer(options: _Options) -> TextPrinter:
    """What prints the reply; with the meaning of the colours before it."""
    from ..render import TextPrinter, legend

    colour = not options.output.as_json and wants_colour(options.output.color)
    if colour:
        console(colour=True).print(legend())
    return TextPrinter(sys.stdout, colour=colour, terminal=sys.stdout.isatty())


class _Run:
    """One reply on its way to the screen, the trace and the statistics.

    Attributes:
        is_doubted: whether it is too likely to be wrong to be given.
    """

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
        self._printer = _printer(options)
        self._held: list[TokenEvent] = []  # until the verdict
        self.is_doubted = False

    def show(self, interrupt: Interrupt) -> int:
        """Print the reply as it comes, then what was asked for besides. The exit code."""
        as_json, printer = self._output.as_json, self._printer
        waits = self._options.verdict.threshold is not None
        with contextlib.ExitStack() as stack:
            stack.callback(self._stream.close)
            trace = self._open_trace(stack)
            stack.callback(self._finish_trace, trace)
            most = self._options.candidates.deliberate
            for event in said_to_wait(self._stream.everything(), self._stream, most, whole=waits):
                if trace:
                    trace.write(with_alternatives(event, self._output.alternatives))
                if isinstance(event, TokenEvent) and not as_json:
                    self._held.append(event) if waits else printer.write(event)
                if interrupt():
                    self._stream.cancel()
            verdict = self._verdict(interrupt)
            if not self.is_doubted:
                self._give()
            elif not self._options.verdict.escalate:
                self._abstain()
        self._report()
        if interrupt():
            return EXIT_INTERRUPTED
        if verdict is Verdict.DOUBTED and not self._options.verdict.escalate:
            return EXIT_ABSTAINED
        return EXIT_FAILED if trace and trace.failed else 0

    def _verdict(self, interrupt: Interrupt) -> Verdict:
        """What is to be done with the reply; said, where it is not simply given."""
        options, reply = self._options.verdict, self._stream.reply()
        if interrupt():
            return Verdict.GIVEN
        verdict = options.of(reply.confidence)
        self.is_doubted = verdict is Verdict.DOUBTED
        if said := options.told(verdict, reply):
            console().print(said, markup=False)
        return verdict

    def _give(self) -> None:
        if self._output.as_json:
            print_json(self._record())
            return
        for event in self._held:
            self._printer.write(event)
        self._printer.finish()

    def _abstain(self) -> None:
        """The guess goes to standard error, and standard output has nothing of it."""
        if self._output.as_json:
            print_json(self._record() | {"text": None, "guess": self._stream.reply().text, "abstained": True})
        else:
            console().print(plain(self._stream.reply().text), markup=False)

    def escalate(self, prompt: str) -> None:
        """Let the second model answer, and give its answer; where it has none, the first reply."""
        options = self._options
        second = Second.of(options.verdict, options.engine, options.generation_config, offline=options.model.offline)
        messages: list[Message] = [{"role": "user", "content": prompt}]
        answer = second.ask(options.prompt.system, messages, raw=prompt if options.prompt.raw else None)
        if answer is None:
            self._give()
        elif self._output.as_json:
            told = {"text": answer, "guess": self._stream.reply().text, "escalated_to": options.verdict.escalate}
            print_json(self._record() | told)
        else:
            self._printer.write(TokenEvent(0, None, answer))
            self._printer.finish()

    def _finish_trace(self, trace: TraceWriter | None) -> None:
        """Where the reader has gone, end the reply, and the trace as it should end."""
        self._stream.cancel()
        if trace:
            for event in self._stream.everything():
                trace.write(with_alternatives(event, self._output.alternatives))

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
            "preset": dataclasses.asdict(self._engine.fits.preset_of(self._config)),
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
            alternatives=self._output.alternatives,
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
            return
        if not console().is_terminal:
            return
        reply = self._stream.reply()
        if reply.confidence and not self.is_doubted:
            from ..render import told

            console().print(told(reply.confidence, reply.events), style="dim", markup=False)
        if sampling.seed is None and sampling.sampler != "greedy":
            console().print(f"seed {self._stream.seed}", style="dim")
