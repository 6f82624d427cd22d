"""How a model is opened, as a frozen, validated value; part of `config`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from .errors import ConfigError, Hint
from .ranges import check_number, set_number

if TYPE_CHECKING:
    from os import PathLike

FlashAttention = Literal["auto", "on", "off"]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
CACHE_TYPES: tuple[CacheType, ...] = get_args(CacheType)
WHOLE_TYPES = ("f32", "f16", "bf16")  # those of one number each, not of blocks
AttentionChoice = Literal["last", "all", "off"] | tuple[int, ...]
_MOST_THREADS = 512  # ggml's own limit
_ENDPOINT = re.compile(r"(\[[0-9a-fA-F:]+\]|[^:\s]+):(\d{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How a model is opened.

    Attributes:
        ctx_size: tokens of context; None means the smaller of the model's own and 4096, 0 the model's own.
        batch_size: most tokens a decode; None means 512, or fewer where attention's scores need the room, as they do
            with flash attention off. At least one a sequence.
        ubatch_size: most tokens that are computed at once; None means a whole batch. As rows are counted in whole
            batches, none is larger. A small one takes less memory.
        threads: for single tokens; None means the physical (on Apple Silicon the performance) cores.
        threads_batch: for prompts; None means the same.
        gpu_layers: layers to offload: "auto" (what fits), "all", or how many.
        devices: names of the devices that take layers, as `info` lists them; none of them where it is empty, and None
            means all.
        flash_attention: "auto", "on" or "off". "auto" is off where the cache is exact, as it would be rounded, or
            parted, as that is faster; else it is on where llama.cpp finds the devices able to.
        attention: which layers' attention is measured: "last", "all", "off", or layer numbers from 0.
        sequences: slots: how many replies may be generated side by side.
        forks: sequences for their branches, all together.
        prompt_chunk: most prompt tokens that one decode takes while replies are being generated, so that the gap
            between their tokens stays bounded while a long prompt is read; 0 for no limit but the batch size.
        same_shapes: decode each prompt alone and whole, and apart from it one token of every reply, so that a reply's
            numbers do not depend on what is generated beside it: exactly so where `pooled` is False and as many
            replies are generated all the time as there are sequences.
        pooled: the sequences share the context's cells; else each has an equal part of its own, which is faster
            where many generate at once.
        mmap: map the file instead of reading it.
        mlock: keep the weights from being swapped out.
        cache_type_k: type of the cache's keys.
        cache_type_v: of its values; one of blocks (q8_0 and shorter) needs flash attention.
        exact: keep the KV cache in F32; twice the memory, for comparisons that must agree.
        rpc: workers on other machines, each `host:port`, whose devices take layers too; needs a build of llama.cpp with
            RPC. llama.cpp ends the process where one goes away.
        loras: LoRA adapters, GGUF files, each with the factor that it is applied with.
        force: open the model where memory is predicted not to suffice.
        chat_template: Jinja text in place of the model's own; None for its own.
    """

    ctx_size: int | None = None
    batch_size: int | None = None
    ubatch_size: int | None = None
    threads: int | None = None
    threads_batch: int | None = None
    gpu_layers: int | Literal["auto", "all"] = "auto"
    flash_attention: FlashAttention = "auto"
    attention: AttentionChoice = "last"
    sequences: int = 1
    forks: int = 8
    prompt_chunk: int = 64
    same_shapes: bool = False
    pooled: bool = True
    mmap: bool = True
    mlock: bool = False
    cache_type_k: CacheType = "f16"
    cache_type_v: CacheType = "f16"
    exact: bool = False
    devices: tuple[str, ...] | None = None
    rpc: tuple[str, ...] = ()
    loras: tuple[tuple[str | PathLike[str], float], ...] = ()
    chat_template: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        limits = {"ctx_size": (0, 2**31 - 1), "batch_size": (1, 2**31 - 1), "ubatch_size": (1, 2**31 - 1)}
        limits |= dict.fromkeys(("threads", "threads_batch"), (1, _MOST_THREADS))
        for name, (low, high) in limits.items():
            if getattr(self, name) is not None:
                set_number(self, name, int, low, high)
        set_number(self, "sequences", int, 1, 256)
        set_number(self, "forks", int, 0, 256 - self.sequences)
        set_number(self, "prompt_chunk", int, 0, 2**31 - 1)
        if self.gpu_layers not in ("auto", "all"):
            set_number(self, "gpu_layers", int, 0, 2**31 - 1)
        if self.flash_attention not in get_args(FlashAttention):
            raise ConfigError(f"flash_attention is {self.flash_attention!r}: it must be auto, on or off")
        self._check_attention()
        self._check_cache()
        for endpoint in self.rpc:
            if not (found := _ENDPOINT.fullmatch(endpoint)) or not 0 < int(found[2]) < 2**16:
                raise ConfigError(f"rpc names {endpoint!r}: it must be host:port, such as 192.168.1.20:50052")
        for _path, scale in self.loras:
            check_number("lora scale", scale, float, -10_000, 10_000)
        if self.chat_template is not None and not re.search(r"{[{%]", self.chat_template):
            raise ConfigError(
                f"chat_template is {self.chat_template[:40]!r}: it must be Jinja text, with {{{{ }}}} or {{% %}} in it"
            )

    @property
    def cache_types(self) -> tuple[CacheType, CacheType]:
        """Types of the cache's keys and of its values."""
        return ("f32", "f32") if self.exact else (self.cache_type_k, self.cache_type_v)

    def _check_cache(self) -> None:
        for name in ("cache_type_k", "cache_type_v"):
            if getattr(self, name) not in CACHE_TYPES:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: it must be one of {', '.join(CACHE_TYPES)}")
        if self.exact and (self.cache_type_k, self.cache_type_v) != ("f16", "f16"):
            raise ConfigError("exact keeps the cache in f32: leave out cache_type_k and cache_type_v")
        if self.flash_attention == "off" and self.cache_type_v not in WHOLE_TYPES:
            raise ConfigError(
                f"cache_type_v is {self.cache_type_v} and flash attention off: values in blocks need it",
                hint=Hint("use {}", "flash_attention", "set", "on"),
            )

    def _check_attention(self) -> None:
        layers = self.attention
        if isinstance(layers, tuple):
            if not layers:
                raise ConfigError("attention names no layer: it must be last, all, off, or layer numbers")
            plain = tuple(check_number("attention layer", layer, int, 0, 2**31 - 1) for layer in layers)
            object.__setattr__(self, "attention", plain)
        elif layers not in ("last", "all", "off"):
            raise ConfigError(f"attention is {layers!r}: it must be last, all, off, or layer numbers")
