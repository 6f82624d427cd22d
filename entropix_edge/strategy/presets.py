"""Presets: TOML files to `Preset` values, and single options that override them."""

from __future__ import annotations

import difflib
import logging
import tomllib
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_origin, get_type_hints

from ..config import DEFAULT_PRESET, Preset
from ..encoding import decode_text
from ..errors import ConfigError, EncodingError

logger = logging.getLogger("entropix_edge")

_SHIPPED = Path(__file__).parent / "presets"
THRESHOLDS = (
    "argmax.entropy_below",
    "argmax.varentropy_below",
    "branch.entropy_below",
    "branch.varentropy_above",
    "pause.entropy_above",
    "pause.varentropy_below",
    "resample.entropy_above",
    "resample.varentropy_above",
)
"""Where the quadrants begin: what is fitted to a model."""


@cache
def preset_names() -> tuple[str, ...]:
    """Names of the presets that ship with the package."""
    return tuple(sorted(item.name.removesuffix(".toml") for item in _SHIPPED.iterdir() if item.name.endswith(".toml")))


def load_preset(name: str) -> Preset:
    """A shipped preset by name, or a user's own by the path of a TOML file.

    Raises:
        ConfigError: no such preset, or one that does not hold.
    """
    if name in preset_names():
        return _shipped_preset(name)
    path = Path(name).expanduser()
    if path.suffix != ".toml" and not path.exists():
        known = ", ".join(preset_names())
        raise ConfigError(f"preset {name!r} is not known: it must be one of {known}, or the path of a TOML file")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ConfigError(f"preset file {name} is not a regular file: it must be a TOML file")
    try:
        return read_preset(decode_text(path.read_bytes(), f"preset file {name}"), path.stem)
    except OSError as error:
        raise ConfigError(f"preset file {name} cannot be read: {error.strerror}") from error
    except EncodingError as error:
        raise ConfigError(str(error)) from error
    except ConfigError as error:
        raise ConfigError(f"preset file {name}: {error}") from error


def load_fitted(fingerprint: str, folder: Path | None) -> Preset | None:
    """The default preset with the thresholds that were fitted to one model; None where none were.

    A file that does not hold is left out with a warning.

    Args:
        fingerprint: of the model's file.
        folder: of the user's own fitted presets, which come before the shipped ones; None where there is none.
    """
    name = f"{fingerprint}.toml"
    for file in [*([folder / name] if folder else []), _SHIPPED / "fitted" / name]:
        try:
            if file.is_file():
                return read_fitted(decode_text(file.read_bytes(), "the file"))
        except (OSError, EncodingError, ConfigError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            logger.warning("the fitted preset %s is left out: %s; run `entropix-edge calibrate` again", file, reason)
    return None


def thresholds(preset: Preset) -> dict[str, float]:
    """A preset's values of what is fitted."""
    values = {}
    for key in THRESHOLDS:
        section, name = key.split(".")
        values[key] = float(getattr(getattr(preset, section), name))
    return values


def read_fitted(text: str) -> Preset:
    """The default preset with fitted thresholds, from TOML text. What else the text leaves out is the default's.

    Raises:
        ConfigError: as for `read_preset`; or a threshold is missing.
    """
    preset = read_preset(text, DEFAULT_PRESET, load_preset(DEFAULT_PRESET))
    tables = tomllib.loads(text)
    for key in THRESHOLDS:
        section, name = key.split(".")
        if name not in tables.get(section, {}):
            raise ConfigError(f"{key} is missing: a fitted preset has every threshold")
    return preset


def read_preset(text: str, name: str, base: Preset | None = None) -> Preset:
    """A preset from TOML text. What the text leaves out is the base's, or `article`'s.

    Raises:
        ConfigError: the text is not TOML, or names an unknown key, or a value outside its range.
    """
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib leaves huge numbers and deep nesting to Python
        raise ConfigError(f"not TOML: {error}") from error
    rules = _rules()
    for section, values in tables.items():
        if section not in rules:
            raise ConfigError(f"section {section!r} is not known: it must be one of {', '.join(rules)}")
        if not isinstance(values, dict):
            raise ConfigError(f"{section} is {values!r}: it must be a table, [{section}]")
        for key in values:
            _check_key(f"{section}.{key}")
    base = base or _article()
    changed = {section: _replace(base, section, values) for section, values in tables.items()}
    return replace(base, name=name, **changed)


def override(preset: Preset, options: dict[str, object]) -> Preset:
    """The preset with single values replaced.

    Args:
        preset: what to start from.
        options: `section.key` → a number, a text of one, or for `pause.texts` a text.

    Raises:
        ConfigError: an unknown key, or a value that is no number or outside its range.
    """
    sections: dict[str, dict[str, object]] = {}
    for key, value in options.items():
        _check_key(key)
        section, name = key.split(".")
        hint = get_type_hints(type(getattr(preset, section)))[name]
        sections.setdefault(section, {})[name] = _parse(key, value, hint)
    return replace(preset, **{section: _replace(preset, section, values) for section, values in sections.items()})


def options_help(preset: Preset) -> list[tuple[str, object]]:
    """Every `section.key` that can be overridden, with the preset's value."""
    return [(key, getattr(getattr(preset, key.split(".")[0]), key.split(".")[1])) for key in _keys()]


def _shipped(name: str) -> str:
    return _SHIPPED.joinpath(f"{name}.toml").read_text("utf-8")


@cache  # every reply asks, and reading one takes as long as decoding several tokens
def _shipped_preset(name: str) -> Preset:
    return _article() if name == "article" else read_preset(_shipped(name), name)


@cache
def _article() -> Preset:
    tables = tomllib.loads(_shipped("article"))
    return Preset(
        name="article", **{section: _build(rule, section, tables[section]) for section, rule in _rules().items()}
    )


@cache
def _rules() -> dict[str, type]:
    sections = get_type_hints(Preset)
    sections.pop("name")
    return sections


def _keys() -> list[str]:
    return [f"{section}.{item.name}" for section, rule in _rules().items() for item in fields(rule)]


def _check_key(key: str) -> None:
    known = _keys()
    if key in known:
        return
    holding = [name for name in known if key and key in name]
    close = holding[:3] or difflib.get_close_matches(key, known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it must be one of {', '.join(known)}"
    raise ConfigError(f"option {key!r} is not known: {hint}")


def _replace(preset: Preset, section: str, values: dict[str, Any]) -> Any:
    current = getattr(preset, section)
    merged = {item.name: getattr(current, item.name) for item in fields(current)} | values
    return _build(type(current), section, merged)


def _build(rule: type, section: str, values: dict[str, Any]) -> Any:
    if isinstance(values.get("texts"), list):
        values = values | {"texts": tuple(values["texts"])}
    try:
        return rule(**values)
    except ConfigError as error:
        raise ConfigError(f"{section}.{error}") from error


def _parse(key: str, value: object, hint: object) -> object:
    if not isinstance(value, str):
        return value
    if hint == tuple[str, ...]:
        return (value,)
    if get_origin(hint) is Literal:
        return value
    kind = int if hint is int else float
    try:
        return kind(value)
    except ValueError as error:
        expected = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{key} is {value!r}: it must be {expected}") from error
