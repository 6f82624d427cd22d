"""Where an option's value comes from when it is not on the command line: variables, config.toml, a profile.

The order: command line, ENTROPIX_EDGE_*, llama.cpp's LLAMA_ARG_*, config.toml in the settings folder, `--profile`.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from ..errors import ConfigError
from ..storage import config_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

logger = logging.getLogger("entropix_edge")

OWN, LLAMA = "ENTROPIX_EDGE_", "LLAMA_ARG_"
_LLAMA_NAMES = {
    "alias": "LLAMA_ARG_ALIAS",
    "api_key": "LLAMA_API_KEY",
    "api_key_file": "LLAMA_ARG_API_KEY_FILE",
    "batch_size": "LLAMA_ARG_BATCH",
    "cache_type_k": "LLAMA_ARG_CACHE_TYPE_K",
    "cache_type_v": "LLAMA_ARG_CACHE_TYPE_V",
    "chat_template": "LLAMA_ARG_CHAT_TEMPLATE",
    "chat_template_file": "LLAMA_ARG_CHAT_TEMPLATE_FILE",
    "chat_template_kwargs": "LLAMA_ARG_CHAT_TEMPLATE_KWARGS",
    "ctx_size": "LLAMA_ARG_CTX_SIZE",
    "device": "LLAMA_ARG_DEVICE",
    "flash_attn": "LLAMA_ARG_FLASH_ATTN",
    "hf_repo": "LLAMA_ARG_HF_REPO",
    "host": "LLAMA_ARG_HOST",
    "min_p": "LLAMA_ARG_MIN_P",
    "mlock": "LLAMA_ARG_MLOCK",
    "mmap": "LLAMA_ARG_MMAP",
    "model": "LLAMA_ARG_MODEL",
    "n_gpu_layers": "LLAMA_ARG_N_GPU_LAYERS",
    "n_predict": "LLAMA_ARG_N_PREDICT",
    "offline": "LLAMA_ARG_OFFLINE",
    "parallel": "LLAMA_ARG_N_PARALLEL",
    "port": "LLAMA_ARG_PORT",
    "rpc": "LLAMA_ARG_RPC",
    "temperature": "LLAMA_ARG_TEMPERATURE",
    "threads": "LLAMA_ARG_THREADS",
    "timeout": "LLAMA_ARG_TIMEOUT",
    "top_k": "LLAMA_ARG_TOP_K",
    "top_p": "LLAMA_ARG_TOP_P",
    "ubatch_size": "LLAMA_ARG_UBATCH",
}
_LOAD_MODE = "LLAMA_ARG_LOAD_MODE"
_LOAD_MODES: dict[str, dict[str, bool]] = {
    "auto": {},
    "none": {"mmap": False, "mlock": False},
    "mmap": {"mmap": True, "mlock": False},
    "mlock": {"mmap": False, "mlock": True},
    "mmap+mlock": {"mmap": True, "mlock": True},
}  # what newer versions of llama.cpp read in place of two variables
_CHANGES = "changes"  # the option -o: what is given adds to what the layers below it say
_FILE_CHANGES, _PROFILE, _FROM_LOAD_MODE = "entropix_edge.changes", "entropix_edge.profile", "entropix_edge.load_mode"


class Profile(NamedTuple):
    """Defaults for a kind of machine.

    Attributes:
        name: that it was chosen by.
        told: why it was chosen.
        values: by option.
        changes: of the preset's keys, where no preset was named.
    """

    name: str
    told: str
    values: Mapping[str, Any]
    changes: tuple[tuple[str, str], ...]


class Source(NamedTuple):
    """Where a value comes from: what counts more, and in words."""

    rank: int
    told: str


# --- the environment ----------------------------------------------------------------------------------


def name_variables(command: click.Command) -> None:
    """Let each option of a command be set by variables too."""
    for option in _options(command):
        own = [OWN + name.replace("-", "_").upper() for name in _long_names(option)]
        llama = _LLAMA_NAMES.get(option.name or "")
        option.envvar = [*own, llama] if llama else own


def _options(command: click.Command) -> Iterator[click.Option]:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and _long_names(parameter):
            yield parameter


def _long_names(option: click.Option) -> list[str]:
    return [name.removeprefix("--") for name in option.opts if name.startswith("--")]


def set_from_load_mode(context: click.Context, name: str, command: click.Command) -> None:
    """Make what llama.cpp's variable for the way to load a model says the defaults of a command that can be told so.

    Raises:
        ConfigError: there is no such way here.
    """
    mode = os.environ.get(_LOAD_MODE)
    if not mode or all(option.name != "mlock" for option in _options(command)):
        return
    if mode not in _LOAD_MODES:
        raise ConfigError(f"{_LOAD_MODE} is {mode!r}: it must be one of {', '.join(_LOAD_MODES)}")
    context.meta[_FROM_LOAD_MODE] = values = _LOAD_MODES[mode]
    context.default_map = {name: {**(context.default_map or {}).get(name, {}), **values}}


# --- config.toml --------------------------------------------------------------------------------------


def config_path() -> Path:
    """The user's settings file, which may not exist.

    Raises:
        FileNotFoundError: this user has no home folder.
    """
    return config_folder() / "config.toml"


def read_config(path: Path, commands: Callable[[], Mapping[str, click.Command]]) -> dict[str, Any]:
    """What a settings file holds, each name checked.

    Args:
        path: of the file; nothing where there is none.
        commands: all of them, by name; asked where the file is there.

    Raises:
        ConfigError: it is no TOML, or names an option or a command that there is not.
    """
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    known = {name: _names(command) for name, command in commands().items()}
    every: set[str] = set().union(*known.values())
    for key, value in found.items():
        if key in known and isinstance(value, dict):
            for inner in value:
                _check_key(path, inner, known[key], f"an option of {key}")
        else:
            _check_key(path, key, every | known.keys(), "an option or a command")
    return found


def _names(command: click.Command) -> set[str]:
    return {name for option in _options(command) for name in _long_names(option)}


def _check_key(path: Path, key: str, known: set[str], what: str) -> None:
    if key.replace("_", "-") not in known:
        near = difflib.get_close_matches(key, known, 1, 0.5)
        meant = f"perhaps {near[0]}" if near else "see --help"
        raise ConfigError(f"{path}: {key!r} is not {what}: {meant}")


def set_from_file(context: click.Context, name: str, command: click.Command, found: Mapping[str, Any]) -> None:
    """Make what a settings file holds the defaults of a command that is about to be parsed.

    Raises:
        ConfigError: a value that no option can be.
    """
    own = found.get(name)
    given = {**found, **(own if isinstance(own, dict) else {})}
    values: dict[str, Any] = {}
    for option in _options(command):
        for key in (form for long in _long_names(option) for form in (long, long.replace("-", "_"))):
            if key in given:
                values[option.name or ""] = _as_given(option, key, given[key])
    if changes := values.pop(_CHANGES, None):
        context.meta[_FILE_CHANGES] = changes
    context.default_map = {name: values}


def _as_given(option: click.Option, key: str, value: Any) -> Any:
    """A value of a settings file as it would stand on the command line."""
    if option.name == _CHANGES and isinstance(value, dict):
        return tuple((name, _scalar(key, inner)) for name, inner in value.items())
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list):
        texts = [_scalar(key, inner) for inner in value]
        return texts if option.multiple else ",".join(texts)
    text = _scalar(key, value)
    return [text] if option.multiple else text


def _scalar(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise ConfigError(f"config.toml: {key} is {value!r}: it must be a text, a number, or true or false")
    return str(value)


# --- a profile ----------------------------------------------------------------------------------------


def set_from_profile(context: click.Context, profile: Profile) -> None:
    """Make a profile's values the defaults that nothing else sets; called while a command is being parsed."""
    below = context.default_map or {}
    context.meta[_PROFILE] = profile, profile.values.keys() - below.keys()
    context.default_map = {**profile.values, **below}


def with_changes(given: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Changes of the preset's keys: the profile's, then config.toml's, then those that were given."""
    return tuple(change for _told, changes in _layers(given) for change in changes)


def _layers(given: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    """Where changes come from, and which: a later one counts."""
    context = click.get_current_context()
    profile, _names = context.meta.get(_PROFILE, (None, ()))
    if profile and not source("preset").rank:
        yield f"profile {profile.name}", profile.changes
    yield "config.toml", context.meta.get(_FILE_CHANGES, ())
    yield source(_CHANGES).told, given


# --- what counts --------------------------------------------------------------------------------------


def source(name: str) -> Source:
    """Where an option's value comes from, in the command that is being run; rank 0 where nobody set it."""
    context = click.get_current_context()
    where = context.get_parameter_source(name)
    if where is ParameterSource.COMMANDLINE:
        return Source(4, "the command line")
    if where is ParameterSource.ENVIRONMENT:
        option = next(parameter for parameter in context.command.params if parameter.name == name)
        names = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
        variable = next((variable for variable in names if os.environ.get(variable)), "the environment")
        return Source(3 if variable.startswith(OWN) else 2, variable)
    if where is ParameterSource.DEFAULT_MAP:
        if name in context.meta.get(_FROM_LOAD_MODE, ()):
            return Source(2, _LOAD_MODE)
        profile, of_profile = context.meta.get(_PROFILE, (None, ()))
        return Source(0, f"profile {profile.name}") if name in of_profile else Source(1, "config.toml")
    return Source(0, "default")


def refuse_both(first: str, second: str, message: str) -> str:
    """Which of two options that exclude each other counts: the one that was set nearer to the command line.

    Raises:
        click.UsageError: both were set in the same way.
    """
    ranks = source(first).rank, source(second).rank
    if ranks[0] == ranks[1]:
        raise click.UsageError(message)
    return first if ranks[0] > ranks[1] else second


def say_sources() -> None:
    """Log what each option is, and where that comes from."""
    context = click.get_current_context(silent=True)
    if context is None or not logger.isEnabledFor(logging.DEBUG):
        return
    profile, _names = context.meta.get(_PROFILE, (None, ()))
    if profile:
        changes = "".join(f", -o {key} {value}" for key, value in profile.changes)
        chosen = ", ".join(f"{name} {value}" for name, value in profile.values.items())
        logger.debug("profile %s (%s): %s%s", profile.name, profile.told, chosen, changes)
    for option in _options(context.command):
        if option.name == _CHANGES:
            for told, changed in _layers(context.params[_CHANGES]):
                for key, text in changed:
                    logger.debug("-o %s %s: %s", key, text, told)
        elif option.name in context.params:
            value = context.params[option.name]
            logger.debug("--%s %s: %s", _long_names(option)[0], value, source(option.name).told)


def with_origin(error: click.ClickException) -> click.ClickException:
    """An error that says of a refused value where it comes from, unless it stands on the command line."""
    if not isinstance(error, click.BadParameter) or error.ctx is None or not (error.param and error.param.name):
        return error
    with error.ctx.scope(cleanup=False):
        where = source(error.param.name)
    if where.rank not in (1, 2, 3):
        return error
    return click.BadParameter(f"{error.message} (from {where.told})", error.ctx, error.param, error.param_hint)
