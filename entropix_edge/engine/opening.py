"""How a model is opened: what was left to the program is chosen here."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from .. import native
from ..config import DEFAULT_CTX_SIZE
from ..errors import ConfigError
from ..llama import Context, Model, is_translated, plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..config import EngineConfig
    from ..llama import Header, Shape

logger = logging.getLogger("entropix_edge")


def prepare(config: EngineConfig) -> None:
    """Compile the kernels where that was not done on this machine, while an interrupt is still an interrupt."""
    native.prepare([native.KERNELS] if config.attention == "off" else [native.KERNELS, native.TAP])


def planned_context(config: EngineConfig, header: Header) -> Shape:
    """The context that `open_context` will make, as far as memory depends on it, before the model is open."""
    return plan(
        _tokens(config, header.context_length or DEFAULT_CTX_SIZE),
        header.n_heads or 0,
        batch_size=config.batch_size,
        ubatch_size=config.ubatch_size,
        sequences=config.sequences + config.forks,
        flash_attention=config.flash_attention,
        watched=config.attention != "off",
        cache_types=config.cache_types,
        pooled=config.pooled,
    )


def open_model(path: Path, config: EngineConfig, cancelled: Callable[[], bool] = lambda: False) -> Model:
    """The model in a file, opened as `config` says.

    Raises:
        ModelError: it cannot be loaded, or one of its adapters cannot.
        ConfigError: a device that there is not.
        KeyboardInterrupt: `cancelled` said so.
    """
    if is_translated():
        logger.warning(
            "this Python is for Intel's processors and runs under Rosetta, without Metal: install one for arm64"
        )
    return Model(
        path,
        gpu_layers=config.gpu_layers,
        context=partial(planned_context, config),
        mmap=config.mmap,
        mlock=config.mlock,
        rpc=config.rpc,
        devices=config.devices,
        loras=config.loras,
        chat_template=config.chat_template,
        force=config.force,
        cancelled=cancelled,
    )


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
        ubatch_size=config.ubatch_size,
        sequences=config.sequences + config.forks,
        threads=config.threads,
        threads_batch=config.threads_batch,
        flash_attention=config.flash_attention,
        layers=_watched_layers(config, model),
        cache_types=config.cache_types,
        pooled=config.pooled,
        cancelled=cancelled,
    )


def _context_size(config: EngineConfig, model: Model) -> int:
    if (config.ctx_size or 0) > model.n_ctx_train and config.sequences == 1:
        logger.warning(
            "a context of %d tokens is more than the %d this model was trained for: replies may degrade",
            config.ctx_size,
            model.n_ctx_train,
        )
    return _tokens(config, model.n_ctx_train)


def _tokens(config: EngineConfig, trained: int) -> int:
    return min(trained, DEFAULT_CTX_SIZE) if config.ctx_size is None else config.ctx_size or trained


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
