"""`entropix-edge info`: what a GGUF file is, and what this machine can do with it."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import click
from rich.filesize import decimal

from ..config import DEFAULT_PRESET
from ..errors import ConfigError, ContextError
from ..storage import fingerprint
from ..strategy import load_preset
from .console import plain, print_json
from .defaults import say_sources
from .engine_options import EngineOptions
from .hints import explain
from .options import attention_option, offline_option, takes, verbose_option
from .profiles import profile_option
from .session import fetch

if TYPE_CHECKING:
    from pathlib import Path

    from ..engine_config import AttentionChoice, EngineConfig
    from ..llama import Header, Memory, Shape


@click.command("info")
@click.argument("model")
@offline_option
@takes(engine=EngineOptions)
@attention_option("last", "last")
@profile_option
@click.option("--template", is_flag=True, help="Print the chat template and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@verbose_option
def command(
    model: str, offline: bool, engine: EngineOptions, attention: AttentionChoice, template: bool, as_json: bool
) -> None:
    """Say what MODEL is, and what memory it takes when it is opened with these options.

    MODEL is a .gguf file (a vocabulary-only one too), an alias, or a Hugging Face name.
    """
    say_sources()
    config = engine.config(attention)
    path = fetch(model, offline=offline)

    from ..llama import read_header

    header = read_header(path)
    if template:
        text = (header.chat_template or "").removesuffix("\n")
        print(plain(text) if sys.stdout.isatty() else text)
    elif as_json:
        print_json(_record(path, header, config))
    else:
        for name, value in facts(path, header, config, template="--template"):
            if value is not None:
                print(f"{name:<14} {plain(' '.join(str(value).splitlines()))}")


def _record(path: Path, header: Header, config: EngineConfig) -> dict[str, Any]:
    from ..llama import PROCESS, devices, has_rpc, system_info

    record = dataclasses.asdict(dataclasses.replace(header, tensor_types={}, matrices={}))
    record["tensor_types"] = dict(header.tensor_types)
    del record["matrices"]
    if header.n_tensors:
        shape, memory = _memory(header, config)
        record["memory"] = dataclasses.asdict(memory) | {"n_ctx": shape.n_ctx, "process": PROCESS}
        record["fits"] = _refusal(header, config) is None
    record["path"] = str(path)
    record["fingerprint"] = fingerprint(path)
    record["pause"] = _pause(path)
    record["system_info"] = system_info()
    record["rpc"] = has_rpc()
    record["devices"] = [dataclasses.asdict(device) for device in devices()]
    return record


def _pause(path: Path) -> list[tuple[int, str]]:
    """The pause tokens of the default preset in this vocabulary, each with its text."""
    from ..llama import Model
    from ..sampling import resolve_pause

    with Model(path, vocabulary_only=True) as model:
        try:
            tokens = resolve_pause(load_preset(DEFAULT_PRESET).pause.texts, model.vocabulary)
        except ConfigError:
            return []
        return [(token, model.vocabulary.label(token)) for token in tokens]


def facts(path: Path, header: Header, config: EngineConfig, *, template: str) -> list[tuple[str, object]]:
    """What a file is, by name; None where it does not say. The whole chat template is shown by `template`."""
    from ..llama import devices, has_rpc, system_info

    return [
        ("file", path),
        ("name", header.name),
        ("licence", header.licence),
        ("architecture", header.architecture),
        ("parameters", _millions(header.parameters) if header.parameters else None),
        ("size", decimal(header.file_size)),
        ("fingerprint", fingerprint(path)),
        ("quantisation", header.quantisation if header.n_tensors else "none: vocabulary only"),
        ("context", f"{header.context_length} tokens" if header.context_length else None),
        ("memory", _memory_told(header, config) if header.n_tensors else None),
        ("fits", _fits(header, config) if header.n_tensors else None),
        ("layers", header.n_layers),
        ("heads", _heads(header)),
        ("vocabulary", f"{header.vocabulary_size} tokens, {header.tokenizer_model}"),
        ("chat template", _template(header, template)),
        ("generates", "no: it makes embeddings" if header.embedding_only else None),
        ("pause", " ".join(f"{token} {text!r}" for token, text in _pause(path)) or "none can be written"),
        *(("device", _device(device)) for device in devices()),
        ("offload", _offload()),
        ("llama.cpp", system_info()),
        ("rpc", "in this build" if has_rpc() else "not in this build (scripts/rpc makes one)"),
    ]


def _memory(header: Header, config: EngineConfig) -> tuple[Shape, Memory]:
    """The context that would be opened, and the memory that it and the model need."""
    from ..engine import planned_context
    from ..llama import predict

    shape = planned_context(config, header)
    return shape, predict(header, shape, mmap=config.mmap)


def _memory_told(header: Header, config: EngineConfig) -> str:
    from ..llama import PROCESS

    shape, memory = _memory(header, config)
    repacked = f"{decimal(memory.repacked)} of weights laid out for this processor, " if memory.repacked else ""
    return (
        f"about {decimal(memory.total)} at {shape.n_ctx} tokens of context: {decimal(memory.weights)} of weights, "
        f"{repacked}{decimal(memory.vocabulary)} of vocabulary, {decimal(memory.cache)} of KV cache, "
        f"{decimal(memory.context - memory.cache)} of buffers; the process itself about {decimal(PROCESS)}"
    )


def _fits(header: Header, config: EngineConfig) -> str:
    from ..llama import available_memory

    refusal = _refusal(header, config)
    if refusal is not None:
        context = click.get_current_context(silent=True)
        return f"no: {explain(refusal, context.command if context else None)}"
    free = available_memory()
    return f"yes: {decimal(free)} available" if free is not None else "the system does not say what is available"


def _refusal(header: Header, config: EngineConfig) -> ContextError | None:
    """Why it would not be opened, on the CPU alone."""
    from ..llama import check_fit

    try:
        check_fit(header, *_memory(header, config))
    except ContextError as error:
        return error
    return None


def _millions(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.0f} M"


def _heads(header: Header) -> str | None:
    if not header.n_heads:
        return None
    return f"{header.n_heads}, {header.n_heads_kv or header.n_heads} for keys and values"


def _template(header: Header, shown_by: str) -> str:
    if not header.chat_template:
        return "none: prompts are taken as they are"
    return f"{len(header.chat_template)} characters (see {shown_by})"


def _device(device: Any) -> str:
    name = device.name if device.name == device.kind else f"{device.name} ({device.kind})"
    memory = f", {decimal(device.total_memory)} of memory" if device.total_memory else ""
    if 0 < device.free_memory < device.total_memory:
        memory += f", {decimal(device.free_memory)} available"
    return f"{name}: {device.description}{memory}"


def _offload() -> str:
    from ..llama import devices

    takers = [device.name for device in devices() if device.takes_layers]
    return f"layers can go to {', '.join(takers)}" if takers else "no device takes layers: all run on the CPU"
