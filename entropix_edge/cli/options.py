"""Options that several commands share: tuples whose annotations hold the option that fills each field.

@click.command("generate")
@takes(model=ModelOptions, engine=EngineOptions)
def command(model: ModelOptions, engine: EngineOptions) -> int: ...
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, get_type_hints

import click

from ..config import (
    DEFAULT_CANDIDATES,
    DEFAULT_MODEL,
    DEFAULT_PRESET,
    MOST_CANDIDATES,
    SAMPLERS,
    GenerationConfig,
    Preset,
    SamplerName,
)
from .console import set_up_logging
from .defaults import refuse_both, with_changes
from .parameters import Attention, GpuLayers, JsonObject, Length, Seed, Text

if TYPE_CHECKING:
    from ..sessions import VotingConfig

# annotations are not deferred here: the options in them would be compiled anew at each start

Command = TypeVar("Command", bound=Callable[..., Any])


def takes(**groups: type) -> Callable[[Command], Command]:
    """Give a command the options of some groups, and call it with each group built, under the name given here."""
    options = {name: _options(group) for name, group in groups.items()}

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def call(**values: Any) -> Any:
            if any("changes" in group for group in options.values()):
                values["changes"] = with_changes(values["changes"])
            built = {name: groups[name](**{field: values.pop(field) for field in options[name]}) for name in groups}
            return command(**built, **values)

        taking: Any = call
        for group in reversed(options.values()):
            for option in reversed(group.values()):
                taking = option(taking)
        return taking  # type: ignore[no-any-return]

    return decorate


def _options(group: type) -> dict[str, Any]:
    """The option or argument that fills each field of a group; it has the field's name."""
    return {field: hint.__metadata__[0] for field, hint in get_type_hints(group, include_extras=True).items()}


def is_given(option: str) -> bool:
    """Whether an option stands on the command line, not only in the environment."""
    return click.get_current_context().get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE


_COUNT = click.IntRange(min=1)

verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda _context, _parameter, verbose: set_up_logging(verbose=verbose),
    help="Show llama.cpp's log, and errors in full.",
)

offline_option = click.option("--offline", is_flag=True, help="Never reach for the network.")

threads_option = click.option(
    "-t", "--threads", type=_COUNT, metavar="N", help="Threads for generation. Default: the cores."
)

batch_option = click.option("-b", "--batch-size", type=_COUNT, metavar="N", help="Most prompt tokens in one decode.")

gpu_option = click.option(
    "-ngl",
    "--n-gpu-layers",
    type=GpuLayers(),
    default="auto",
    metavar="auto|all|N",
    help="Layers for the GPU. Default: auto.",
)

system_option = click.option("-sys", "--system", type=Text(), metavar="TEXT", help="A system message.")

template_option = click.option(
    "--chat-template-kwargs",
    type=JsonObject(),
    default="{}",
    metavar="JSON",
    help="Variables for the chat template, such as '{\"enable_thinking\": false}'.",
)

color_option = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="Colour each token by its strategy. Default: auto (on a terminal).",
)


def attention_option(default: str | None, told: str) -> Callable[[Command], Command]:
    """`--attention` with a command's own default."""
    return click.option(
        "--attention",
        type=Attention(),
        default=default,
        metavar="last|all|off|L1,L2",
        help=f"Layers whose attention is measured. Default: {told}.",
    )


class ModelOptions(NamedTuple):
    """Which model, and where it may come from."""

    model: Annotated[
        str | None,
        click.option(
            "-m",
            "--model",
            metavar="NAME",
            help=f"A .gguf file, an alias (see `ls`), or a Hugging Face name. Default: {DEFAULT_MODEL}.",
        ),
    ]
    hf_repo: Annotated[
        str | None, click.option("-hf", "--hf-repo", metavar="USER/REPO[:QUANT]", help="A model from Hugging Face.")
    ]
    offline: Annotated[bool, offline_option]

    @property
    def name(self) -> str:
        """The model's name.

        Raises:
            click.UsageError: there are two.
        """
        if self.model and self.hf_repo:
            named = refuse_both("model", "hf_repo", "-m and -hf both name a model: give one of them")
            return self.model if named == "model" else self.hf_repo
        return self.hf_repo or self.model or DEFAULT_MODEL

    def name_or(self, argument: str | None) -> str:
        """The model's name, in a command that takes it as an argument too.

        Raises:
            click.UsageError: there are two.
        """
        if argument is not None and (is_given("hf_repo") or is_given("model")):
            raise click.UsageError(f"{argument!r} and an option both name a model: give one of them")
        return argument or self.name


class SamplingOptions(NamedTuple):
    """How tokens are chosen, and how many."""

    n_predict: Annotated[
        int,
        click.option("-n", "--n-predict", "--max-tokens", type=Length(), default=-1, help="Most tokens. Default: -1."),
    ]
    seed: Annotated[
        int | None, click.option("-s", "--seed", type=Seed(), default=-1, help="Seed; -1 means random. Default: -1.")
    ]
    preset: Annotated[
        str,
        click.option(
            "--preset", default=DEFAULT_PRESET, metavar="NAME|FILE", help=f"The table. Default: {DEFAULT_PRESET}."
        ),
    ]
    sampler: Annotated[
        SamplerName,
        click.option(
            "--sampler",
            type=click.Choice(SAMPLERS),
            default="entropix",
            help="entropix acts on the table; the others only report it. Default: entropix.",
        ),
    ]
    check: Annotated[
        bool | None,
        click.option(
            "--check/--no-check",
            default=None,
            help="Check numbers after `=` with a calculator, whatever the sampler. "
            "Default: as the preset has it, with the sampler entropix.",
        ),
    ]
    temperature: Annotated[
        float | None,
        click.option(
            "--temp", "--temperature", "temperature", type=click.FloatRange(0, 100), metavar="T", help="Temperature."
        ),
    ]
    top_k: Annotated[
        int | None,
        click.option("--top-k", type=click.IntRange(min=0), metavar="N", help="Most probable tokens kept; 0: all."),
    ]
    top_p: Annotated[
        float | None,
        click.option("--top-p", type=click.FloatRange(0, 1), metavar="P", help="Probability mass kept; 1: all."),
    ]
    min_p: Annotated[
        float | None,
        click.option(
            "--min-p", type=click.FloatRange(0, 1), metavar="P", help="Least share of the best token's probability."
        ),
    ]
    changes: Annotated[
        tuple[tuple[str, str], ...],
        click.option(
            "-o",
            "--option",
            "changes",
            type=(str, str),
            multiple=True,
            metavar="KEY VALUE",
            help="Any threshold or coefficient of the preset, such as `-o pause.entropy_above 2.5`.",
        ),
    ]
    stop: Annotated[
        tuple[str, ...],
        click.option(
            "--stop", type=Text(), multiple=True, metavar="TEXT", help="End the reply before this text. Repeatable."
        ),
    ]

    def config(self, load: Callable[[str], Preset]) -> GenerationConfig:
        """The same for a reply.

        Args:
            load: the preset of a name; an open engine's own `preset` knows what was fitted to the model.

        Raises:
            ConfigError: an unknown preset or key, or a value outside its range.
        """
        from ..strategy import override

        filters = {f"sampler.{name}": getattr(self, name) for name in ("temperature", "top_k", "top_p", "min_p")}
        changes = {name: value for name, value in filters.items() if value is not None}
        return GenerationConfig(
            preset=override(load(self.preset), changes | dict(self.changes)),
            sampler=self.sampler,
            check=self.check,
            seed=self.seed,
            n_predict=self.n_predict,
            stop=self.stop,
        )


class CandidateOptions(NamedTuple):
    """Whether several replies are generated, and how the best is found."""

    deliberate: Annotated[
        int | None,
        click.option(
            "--deliberate",
            type=click.IntRange(2, MOST_CANDIDATES),
            is_flag=False,
            flag_value=DEFAULT_CANDIDATES,
            metavar="[N]",
            help="Generate two whole replies side by side, then two more as long as they disagree, up to N, and print "
            f"the best. Without N: {DEFAULT_CANDIDATES}.",
        ),
    ]
    answer: Annotated[
        str | None,
        click.option(
            "--answer",
            metavar="EXTRACTOR",
            help="With --deliberate: by which answers the replies vote. "
            "last-number, choice, exact, code or regex:PATTERN. Default: what most of them have is detected.",
        ),
    ]

    def check(self) -> None:
        """Refuse what could only fail later.

        Raises:
            click.UsageError: an extractor without candidates.
            ConfigError: no such extractor.
        """
        if self.answer and self.deliberate is None:
            raise click.UsageError("--answer tells which answer each candidate votes for: give --deliberate N too")
        if self.answer:
            from ..text import check_extractor

            check_extractor(self.answer)

    def voting(self) -> "VotingConfig | None":
        """How the best of several candidates is chosen; None for a single reply."""
        if self.deliberate is None:
            return None
        from ..sessions import VotingConfig

        return VotingConfig(candidates=self.deliberate)

    @property
    def answer_of(self) -> "Callable[[str], str | None] | None":
        """The answer in a reply by which it votes; None where it is to be detected."""
        if self.answer is None:
            return None
        from ..text import extract

        return functools.partial(extract, extractor=self.answer)
