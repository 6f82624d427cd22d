"""Options of the commands that open a model for replies: how it is opened."""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import click

from ..encoding import decode_text
from ..engine_config import CACHE_TYPES, AttentionChoice, CacheType, EngineConfig, FlashAttention
from .defaults import refuse_both
from .options import batch_option, gpu_option, threads_option
from .parameters import Names, Scaled, ScaledFile, Text
from .supervise import rpc_option

# annotations are not deferred here: the options in them would be compiled anew at each start


class EngineOptions(NamedTuple):
    """How the model is opened; attention apart, whose default differs from command to command."""

    ctx_size: Annotated[
        int | None,
        click.option(
            "-c",
            "--ctx-size",
            type=click.IntRange(min=0),
            metavar="N",
            help="Tokens of context; 0 means the model's own. Default: the smaller of the model's and 4096.",
        ),
    ]
    threads: Annotated[int | None, threads_option]
    threads_batch: Annotated[
        int | None,
        click.option(
            "-tb",
            "--threads-batch",
            type=click.IntRange(min=1),
            metavar="N",
            help="Threads for the prompt. Default: as -t.",
        ),
    ]
    batch_size: Annotated[int | None, batch_option]
    ubatch_size: Annotated[
        int | None,
        click.option(
            "-ub",
            "--ubatch-size",
            type=click.IntRange(min=1),
            metavar="N",
            help="Most prompt tokens computed at once; fewer take less memory. Default: as -b.",
        ),
    ]
    n_gpu_layers: Annotated[int | Literal["auto", "all"], gpu_option]
    device: Annotated[
        tuple[str, ...] | None,
        click.option(
            "-dev",
            "--device",
            type=Names(),
            metavar="none|NAME,…",
            help="Devices that take layers, as `info` names them. Default: all.",
        ),
    ]
    flash_attn: Annotated[
        FlashAttention,
        click.option(
            "-fa",
            "--flash-attn",
            type=click.Choice(["on", "off", "auto"]),
            default="auto",
            help="Flash attention. Default: auto.",
        ),
    ]
    rpc: Annotated[tuple[str, ...], rpc_option]
    cache_type_k: Annotated[
        CacheType,
        click.option(
            "-ctk",
            "--cache-type-k",
            type=click.Choice(CACHE_TYPES),
            default="f16",
            metavar="TYPE",
            help=f"Type of the KV cache's keys: {', '.join(CACHE_TYPES)}. Default: f16.",
        ),
    ]
    cache_type_v: Annotated[
        CacheType,
        click.option(
            "-ctv",
            "--cache-type-v",
            type=click.Choice(CACHE_TYPES),
            default="f16",
            metavar="TYPE",
            help="Type of its values; q8_0 and shorter ones need flash attention. Default: f16.",
        ),
    ]
    mmap: Annotated[
        bool,
        click.option("--mmap/--no-mmap", default=True, help="Map the model's file, or read it whole. Default: map it."),
    ]
    mlock: Annotated[bool, click.option("--mlock", is_flag=True, help="Keep the weights from being swapped out.")]
    lora: Annotated[
        tuple[Scaled, ...],
        click.option(
            "--lora",
            type=ScaledFile(),
            multiple=True,
            metavar="FILE[:SCALE]",
            help="A LoRA adapter in GGUF, applied with this factor (default: 1). Repeatable.",
        ),
    ]
    force: Annotated[
        bool, click.option("--force", is_flag=True, help="Open the model where memory is predicted not to suffice.")
    ]
    chat_template: Annotated[
        str | None,
        click.option(
            "--chat-template", type=Text(), metavar="JINJA", help="A chat template in place of the model's own."
        ),
    ]
    chat_template_file: Annotated[
        Path | None,
        click.option(
            "--chat-template-file",
            type=click.Path(path_type=Path, dir_okay=False, exists=True),
            metavar="FILE",
            help="The same, from a file.",
        ),
    ]

    def config(self, attention: AttentionChoice) -> EngineConfig:
        """The same for the engine.

        Raises:
            ConfigError: values that do not go together.
        """
        return EngineConfig(
            ctx_size=self.ctx_size,
            batch_size=self.batch_size,
            ubatch_size=self.ubatch_size,
            threads=self.threads,
            threads_batch=self.threads_batch,
            gpu_layers=self.n_gpu_layers,
            devices=self.device,
            rpc=self.rpc,
            flash_attention=self.flash_attn,
            cache_type_k=self.cache_type_k,
            cache_type_v=self.cache_type_v,
            mmap=self.mmap,
            mlock=self.mlock,
            loras=self.lora,
            force=self.force,
            chat_template=self._template(),
            attention=attention,
        )

    def _template(self) -> str | None:
        """The chat template in place of the model's own.

        Raises:
            click.UsageError: there are two.
        """
        if self.chat_template_file is None:
            return self.chat_template
        if self.chat_template is not None:
            both = "--chat-template and --chat-template-file both give a template: give one of them"
            if refuse_both("chat_template", "chat_template_file", both) == "chat_template":
                return self.chat_template
        return decode_text(self.chat_template_file.read_bytes(), str(self.chat_template_file))
