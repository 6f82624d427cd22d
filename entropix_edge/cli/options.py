"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..config import DEFAULT_MODEL, DEFAULT_PRESET, SAMPLERS

Command = TypeVar("Command", bound=Callable[..., Any])


class _Length(click.ParamType[int]):
    """A reply's length: at least 1, or −1."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number.", param, ctx)
        if number != -1 and number < 1:
            self.fail(f"{number} must be at least 1, or -1 (until the model or the context ends).", param, ctx)
        return number


class _Seed(click.ParamType["int | None"]):
    """A seed; −1 means a random one."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number.", param, ctx)
        if not -1 <= number < 2**64:
            self.fail(f"{number} must be from 0 to 2^64 - 1, or -1 (random).", param, ctx)
        return None if number == -1 else number


class _GpuLayers(click.ParamType["int | str"]):
    """How many layers a GPU takes."""

    name = "auto|all|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value in ("auto", "all"):
            return str(value)
        if str(value).isdecimal() and int(value) < 2**31:
            return int(value)
        return self.fail(f"{value!r} must be auto, all, or a number of layers.", param, ctx)


class _Attention(click.ParamType["str | tuple[int, ...]"]):
    """Which layers' attention is measured."""

    name = "last|all|off|L1,L2"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | tuple[int, ...]:
        if value in ("last", "all", "off") or isinstance(value, tuple):
            return value  # type: ignore[no-any-return]
        parts = str(value).split(",")
        if all(part.strip().isdecimal() for part in parts):
            return tuple(int(part) for part in parts)
        return self.fail(f"{value!r} must be last, all, off, or layer numbers like 0,5,11.", param, ctx)


def _apply(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_COUNT = click.IntRange(min=1)

verbose_option = click.option("-v", "--verbose", is_flag=True, help="Show llama.cpp's log, and errors in full.")

model_options = _apply(
    click.option(
        "-m",
        "--model",
        envvar="ENTROPIX_EDGE_MODEL",
        metavar="NAME",
        help=f"A .gguf file, an alias (see `ls`), or a Hugging Face name. Default: {DEFAULT_MODEL}.",
    ),
    click.option("-hf", "--hf-repo", metavar="USER/REPO[:QUANT]", help="A model from Hugging Face."),
    click.option("--offline", is_flag=True, help="Never reach for the network."),
)

threads_option = click.option(
    "-t", "--threads", type=_COUNT, metavar="N", help="Threads for generation. Default: the cores."
)

batch_option = click.option("-b", "--batch-size", type=_COUNT, metavar="N", help="Most prompt tokens in one decode.")

gpu_option = click.option(
    "-ngl",
    "--n-gpu-layers",
    type=_GpuLayers(),
    default="auto",
    metavar="auto|all|N",
    help="Layers for the GPU. Default: auto.",
)

engine_options = _apply(
    click.option(
        "-c",
        "--ctx-size",
        type=click.IntRange(min=0),
        metavar="N",
        help="Tokens of context; 0 means the model's own. Default: the smaller of the model's and 4096.",
    ),
    threads_option,
    click.option("-tb", "--threads-batch", type=_COUNT, metavar="N", help="Threads for the prompt. Default: as -t."),
    batch_option,
    gpu_option,
    click.option(
        "-fa",
        "--flash-attn",
        type=click.Choice(["on", "off", "auto"]),
        default="auto",
        help="Flash attention. `on` needs `--attention off`. Default: auto.",
    ),
)


def attention_option(default: str | None, told: str) -> Callable[[Command], Command]:
    """`--attention` with a command's own default."""
    return click.option(
        "--attention",
        type=_Attention(),
        default=default,
        metavar="last|all|off|L1,L2",
        help=f"Layers whose attention is measured (turns flash attention off). Default: {told}.",
    )


sampling_options = _apply(
    click.option("-n", "--n-predict", "--max-tokens", type=_Length(), default=-1, help="Most tokens. Default: -1."),
    click.option("-s", "--seed", type=_Seed(), default=-1, help="Seed; -1 means random. Default: -1."),
    click.option(
        "--preset", default=DEFAULT_PRESET, metavar="NAME|FILE", help=f"The table. Default: {DEFAULT_PRESET}."
    ),
    click.option(
        "--sampler",
        type=click.Choice(SAMPLERS),
        default="entropix",
        help="entropix acts on the table; the others only report it. Default: entropix.",
    ),
    click.option(
        "--temp",
        "--temperature",
        "temperature",
        type=click.FloatRange(0, 100),
        metavar="T",
        help="Temperature.",
    ),
    click.option("--top-k", type=click.IntRange(min=0), metavar="N", help="Most probable tokens kept; 0: all."),
    click.option("--top-p", type=click.FloatRange(0, 1), metavar="P", help="Probability mass kept; 1: all."),
    click.option(
        "--min-p",
        type=click.FloatRange(0, 1),
        metavar="P",
        help="Least share of the best token's probability.",
    ),
    click.option(
        "-o",
        "--option",
        "options",
        type=(str, str),
        multiple=True,
        metavar="KEY VALUE",
        help="Any threshold or coefficient of the preset, such as `-o pause.entropy_above 2.5`.",
    ),
    click.option("--stop", multiple=True, metavar="TEXT", help="End the reply before this text. Repeatable."),
    click.option(
        "--deliberate",
        type=click.IntRange(2, 64),
        metavar="N",
        help="Generate up to N whole replies side by side and print the best.",
    ),
    click.option(
        "--answer",
        metavar="EXTRACTOR",
        help="With --deliberate: replies with the same answer vote together. "
        "last-number, choice, exact or regex:PATTERN. Default: confidence alone decides.",
    ),
)

prompt_options = _apply(
    click.argument("prompt", required=False),
    click.option("-p", "--prompt", "prompt_option", metavar="TEXT", help="The prompt, as an option."),
    click.option(
        "-f",
        "--file",
        "files",
        type=click.Path(path_type=Path, allow_dash=True),
        multiple=True,
        help="A file with (a part of) the prompt; - means standard input. Repeatable.",
    ),
    click.option("-sys", "--system", metavar="TEXT", help="A system message."),
    click.option("--raw", is_flag=True, help="Take the prompt as it is, without the model's chat template."),
    click.option(
        "--prompt-cache",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Go on from the tokens kept in FILE where the prompt begins alike, and keep them there for the next time.",
    ),
    click.option("--parse-special", is_flag=True, help="Read control-token text in the prompt as control tokens."),
)

output_options = _apply(
    click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        help="Colour each token by its strategy. Default: auto (on a terminal).",
    ),
    click.option("--stats", is_flag=True, help="Print speed, strategies and entropy to standard error."),
    click.option(
        "--trace",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Write one JSON object a token.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the reply as one JSON object."),
)


def model_name(options: dict[str, Any]) -> str:
    """The model that `model_options` name.

    Raises:
        click.UsageError: they name two.
    """
    if options["model"] and options["hf_repo"]:
        raise click.UsageError("-m and -hf both name a model: give one of them")
    return options["hf_repo"] or options["model"] or DEFAULT_MODEL
