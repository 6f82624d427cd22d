"""The models known by a short name, and their files on disk."""

from __future__ import annotations

import logging
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import DownloadError, ModelFileError
from .failures import ONLINE
from .paths import download_folder, model_folders
from .progress import Progress
from .verify import matches, remember
from .wheels import Part, join_parts

_log = logging.getLogger("entropix_edge")


@dataclass(frozen=True)
class CatalogueModel:
    """A model known by a short name: what it is, and how to know that its file is whole."""

    alias: str
    description: str
    licence: str
    file: str
    size: int  # bytes
    sha256: str
    parts: tuple[Part, ...]


@cache
def catalogue_models() -> dict[str, CatalogueModel]:
    """Return the models known by a short name, by that name (in lower case)."""
    table = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text("utf-8"))
    return {alias: _entry(alias, fields) for alias, fields in table.items()}


def _entry(alias: str, fields: dict[str, object]) -> CatalogueModel:
    parts = fields.pop("parts")
    assert isinstance(parts, list)
    return CatalogueModel(alias=alias, parts=tuple(Part(**part) for part in parts), **fields)  # type: ignore[arg-type]


def aliases() -> list[str]:
    """Return the short names, the default model's first."""
    return list(catalogue_models())


def on_disk(model: CatalogueModel) -> Path | None:
    """Return the model's file if one of the right size is there. Its checksum is not looked at."""
    for folder in model_folders():
        path = folder / model.file
        try:
            if path.stat().st_size == model.size:
                return path
        except OSError:
            continue
    return None


def ensure(model: CatalogueModel, *, offline: bool, progress: Progress) -> Path:
    """Return the model's verified file, fetching it if it is missing or damaged.

    Raises:
        DownloadError: it could not be fetched, or `offline` forbids to.
        ModelFileError: the file on disk is damaged, and `offline` forbids to fetch it again.
    """
    try:
        damaged = None
        for folder in model_folders():
            path = folder / model.file
            if matches(path, model.sha256, size=model.size, progress=progress):
                return path
            damaged = path if path.exists() else damaged
        if offline:
            raise _offline_error(model, damaged)
        if damaged:
            _log.warning("%s is damaged (its size or checksum differs): fetching it again", damaged)
        target = download_folder() / model.file
        join_parts(model.parts, target, size=model.size, sha256=model.sha256, progress=progress)
    except OSError as error:
        raise DownloadError(f"cannot store {model.alias}: {error}") from error
    remember(target, model.sha256)
    return target


def _offline_error(model: CatalogueModel, damaged: Path | None) -> Exception:
    if damaged:
        return ModelFileError(f"{damaged} is damaged (its size or checksum differs)", hint=ONLINE)
    return DownloadError(f"{model.alias} is not on this machine", hint=ONLINE)
