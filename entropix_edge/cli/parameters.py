"""What the texts of some options become: click's parameter types of our own."""

from __future__ import annotations

import itertools
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import click

_UNDECODED = re.compile("[\udc80-\udcff]")  # how Python keeps bytes of the command line that were no text


def with_optional_numbers(command: click.Command, arguments: list[str]) -> list[str]:
    """Arguments in which an option whose number may be left out does not take the next argument for it.

    click lets such an option take whatever follows it and is no option: the prompt in `--deliberate "How many?"`.
    """
    usual = {
        name: option.flag_value
        for option in command.params
        if isinstance(option, click.Option) and not option.is_flag and isinstance(option.flag_value, int)
        for name in option.opts
    }
    return [
        f"{argument}={usual[argument]}" if argument in usual and following and not following.isdecimal() else argument
        for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue="")
    ]


class Text(click.ParamType[str]):
    """A text for the model: UTF-8 where it is not in the locale's encoding; refused where it is neither."""

    name = "TEXT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value, or click's own error."""
        try:
            return os.fsencode(str(value)).decode("utf-8") if _UNDECODED.search(str(value)) else str(value)
        except UnicodeDecodeError as error:
            data, where = error.object, error.start
            shown = data[:60].decode("utf-8", "backslashreplace")
            self.fail(f"'{shown}' is not UTF-8 text: byte {where} is 0x{data[where]:02X}.", param, ctx)


class Length(click.ParamType[int]):
    """A reply's length: at least 1, or −1."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The value, or click's own error."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number.", param, ctx)
        if number != -1 and number < 1:
            self.fail(f"{number} must be at least 1, or -1 (until the model or the context ends).", param, ctx)
        return number


class Numbers(click.ParamType["tuple[int, ...]"]):
    """A list of whole numbers such as `16,32`.

    Args:
        least: that each may be.
    """

    name = "N,N"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The value, or click's own error."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isdecimal() and self._least <= int(part) < 2**31 for part in parts):
            self.fail(f"{value!r} must be a whole number of at least {self._least}, or several like 16,32.", param, ctx)
        return tuple(map(int, parts))


class Seed(click.ParamType["int | None"]):
    """A seed; −1 means a random one."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """The value, or click's own error."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number.", param, ctx)
        if not -1 <= number < 2**64:
            self.fail(f"{number} must be from 0 to 2^64 - 1, or -1 (random).", param, ctx)
        return None if number == -1 else number


class GpuLayers(click.ParamType["int | str"]):
    """How many layers a GPU takes."""

    name = "auto|all|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The value, or click's own error."""
        if value in ("auto", "all"):
            return str(value)
        if str(value).isdecimal() and int(value) < 2**31:
            return int(value)
        return self.fail(f"{value!r} must be auto, all, or a number of layers.", param, ctx)


class Attention(click.ParamType["str | tuple[int, ...]"]):
    """Which layers' attention is measured."""

    name = "last|all|off|L1,L2"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | tuple[int, ...]:
        """The value, or click's own error."""
        if value in ("last", "all", "off") or isinstance(value, tuple):
            return value  # type: ignore[no-any-return]
        parts = str(value).split(",")
        if all(part.strip().isdecimal() for part in parts):
            return tuple(int(part) for part in parts)
        return self.fail(f"{value!r} must be last, all, off, or layer numbers like 0,5,11.", param, ctx)


class Names(click.ParamType["tuple[str, ...]"]):
    """Names between commas; `none` for none."""

    name = "none|NAME,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The value, or click's own error."""
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in str(value).split(","))
        if not all(names):
            self.fail(f"{value!r} must be none, or names between commas.", param, ctx)
        return () if names == ("none",) else names


class Scaled(NamedTuple):
    """A file, and the factor it is applied with."""

    path: Path
    scale: float = 1.0

    def __str__(self) -> str:
        return f"{self.path}:{self.scale:g}"


class ScaledFile(click.ParamType[Scaled]):
    """A file, and a factor behind a colon."""

    name = "FILE[:SCALE]"
    envvar_list_splitter = ","

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Scaled:
        """The value, or click's own error."""
        if isinstance(value, Scaled):
            return value
        text = str(value)
        path, colon, scale = text.rpartition(":")
        if not colon or Path(text).exists():
            return Scaled(Path(text))
        try:
            return Scaled(Path(path), float(scale))
        except ValueError:
            self.fail(f"{value!r} must be a file, or a file and a number such as adapter.gguf:0.5.", param, ctx)


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """The value, or click's own error."""
        if isinstance(value, dict):
            return value
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            self.fail(f'{value!r} must be a JSON object, such as {{"enable_thinking": false}}.', param, ctx)
        return found
