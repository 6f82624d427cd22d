"""What can be set while a conversation goes on: the options of `chat`, by their own names and by Ollama's."""

from __future__ import annotations

import enum
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import ConfigError
from ..strategy import load_preset

if TYPE_CHECKING:
    from .talk import Options

_OTHER_NAMES = {
    "temp": "temperature",
    "num_predict": "n_predict",
    "max_tokens": "n_predict",
    "num_ctx": "ctx_size",
    "num_thread": "threads",
    "num_gpu": "n_gpu_layers",
    "num_batch": "batch_size",
}
_NOT_HERE = {
    "format": "replies are plain text",
    "history": "what is typed is kept, but with --no-save",
    "nohistory": "start `chat` with --no-save",
    "repeat_penalty": "the preset's own guard ends loops: see loop.span, loop.repeats and loop.bans",
    "repeat_last_n": "the preset's own guard ends loops: see loop.span, loop.repeats and loop.bans",
    "rpc": "start `chat` with --rpc",
    "mirostat": "the strategies of the preset stand in its place",
}
_FLAGS: dict[str, tuple[dict[str, Any], str]] = {
    "verbose": ({"stats": True}, "statistics follow each reply"),
    "quiet": ({"stats": False}, "no statistics"),
    "wordwrap": ({"wordwrap": True}, "lines break between words, and are copied with these line breaks"),
    "nowordwrap": ({"wordwrap": False}, "the terminal breaks lines"),
}
_CHOICES = {"color": ("auto", "always", "never"), "thoughts": ("show", "fold")}
THINKING = {"think": True, "nothink": False}
"""What a chat template may be told with its variable `enable_thinking`."""
_GROUPS = ("sampling", "candidates", "verdict", "engine")


class Change(NamedTuple):
    """Options after a change.

    Attributes:
        options: all of them.
        told: what is so now.
        reopens: whether the model must be opened anew.
    """

    options: Options
    told: str
    reopens: bool = False


class Settings:
    """The options of a command, as `/set` changes them.

    Args:
        command: that has them.
    """

    def __init__(self, command: click.Command) -> None:
        self._context = click.Context(command)
        self._parameters = {parameter.name: parameter for parameter in command.params}

    def names(self, options: Options) -> list[str]:
        """All that can be set, thresholds and coefficients apart."""
        fields = (field for group in _GROUPS for field in getattr(options, group)._fields)
        return sorted({*fields, *_FLAGS, *_CHOICES, *THINKING, "attention", "system"} - {"changes", *_NOT_HERE})

    def change(self, options: Options, name: str, value: str) -> Change:
        """Options with one changed.

        Args:
            options: as they are.
            name: of an option, with or without dashes, or of a coefficient of the preset, such as
                `pause.entropy_above`.
            value: as it stands on a command line; `default` brings the default back.

        Raises:
            ConfigError: there is no such option, or the value is not one of its.
        """
        name = name.lstrip("-")
        if "." in name:
            return _checked(_with(options, "sampling", changes=(*options.sampling.changes, (name, value))), name, value)
        name = name.replace("-", "_")
        name = _OTHER_NAMES.get(name, name)
        if name in _NOT_HERE:
            raise ConfigError(f"{name} cannot be set: {_NOT_HERE[name]}")
        if name in _FLAGS:
            fields, told = _FLAGS[name]
            return Change(options._replace(**fields), told)
        if name not in self.names(options):
            raise ConfigError(f"{name!r} cannot be set: it must be one of {', '.join(self.names(options))}")
        if not value:
            raise ConfigError(f"{name} needs a value: /set {name} VALUE")
        if name in _CHOICES:
            if value not in _CHOICES[name]:
                raise ConfigError(f"{name} is {value!r}: it must be one of {', '.join(_CHOICES[name])}")
            return Change(options._replace(**{name: value}), f"{name}: {value}")  # type: ignore[arg-type]
        held = self._converted(name, value)
        if name == "attention":
            return _checked(options._replace(attention=held), name, value, reopens=True)
        group = next(group for group in _GROUPS if name in getattr(options, group)._fields)
        return _checked(
            _with(options, group, **{name: held}), name, value, reopens=group not in ("sampling", "verdict")
        )

    def _converted(self, name: str, value: str) -> Any:
        parameter = self._parameters[name]
        try:
            if value == "default":
                return self._default(parameter)
            return parameter.type_cast_value(self._context, shlex.split(value) if parameter.multiple else value)
        except click.BadParameter as error:
            raise ConfigError(f"{name} is {value!r}: {error.message}") from error
        except ValueError as error:  # a quotation that does not end
            raise ConfigError(f"{name} is {value!r}: {error}") from error

    def _default(self, parameter: click.Parameter) -> Any:
        """What an option is where it is not given."""
        default = parameter.get_default(self._context, call=True)
        if isinstance(default, enum.Enum):  # click's mark for none
            return () if parameter.multiple else None
        return parameter.process_value(self._context, default)

    def listed(self, options: Options) -> list[tuple[str, str]]:
        """What is set, other than by default."""
        rows = []
        for group in _GROUPS:
            for field, value in getattr(options, group)._asdict().items():
                default = self._parameters[field].get_default(self._context, call=True)
                if field != "changes" and value not in (default, None, ()):
                    rows.append((field, " ".join(map(str, value)) if isinstance(value, tuple) else str(value)))
        return [*rows, *options.sampling.changes]


def _with(options: Options, group: str, **fields: Any) -> Options:
    return options._replace(**{group: getattr(options, group)._replace(**fields)})


def _checked(options: Options, name: str, value: str, *, reopens: bool = False) -> Change:
    """The change, if the options go together.

    Raises:
        ConfigError: they do not.
    """
    try:
        options.candidates.check()
        options.verdict.check(offline=options.model.offline)
    except click.UsageError as error:
        raise ConfigError(error.message) from error
    options.generation_config(load_preset)
    options.engine_config()
    return Change(options, f"{name}: {value}", reopens)
