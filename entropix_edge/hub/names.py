"""What a model's name means: a file, an alias, or a repository on the hub."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from ..errors import ModelNotFoundError
from .catalogue import CatalogueModel, aliases, catalogue_models
from .known import known_models

_PREFIX = re.compile(r"(?:https?://)?(?:www\.)?(?:hf\.co|huggingface\.co)/|hf://(?:models/)?", re.IGNORECASE)
# A link copied from the site: user/repo/blob/main/file.gguf?download=true
_PAGE = re.compile(r"^([^/]+/[^/]+)/(?:blob|resolve|tree)/main(?=/|$)")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_QUANT = re.compile(r"[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class HubModel:
    """A repository on the hub and, where it was said, which of its files."""

    repository: str  # "user/name"
    quant: str | None = None
    file: str | None = None  # path inside the repository

    def __str__(self) -> str:
        """The name as a user types it."""
        if self.file:
            return f"{self.repository}/{self.file}"
        return f"{self.repository}:{self.quant}" if self.quant else self.repository


def parse(name: str) -> Path | CatalogueModel | HubModel:
    """Return what `name` stands for. Only the file system is looked at.

    Raises:
        ModelNotFoundError: it names nothing, or a file that is not there.
    """
    name = name.strip()
    path = _as_path(name)
    if path is not None:
        return path
    if model := catalogue_models().get(name.lower()):
        return model
    if known := known_models().get(name.lower()):
        return HubModel(known.repository, file=known.file)
    return _as_hub_model(name)


def _as_path(name: str) -> Path | None:
    if not name or "\0" in name:
        raise _unknown(name)
    try:
        path = Path(name).expanduser()
        if path.exists() and not (path.is_dir() and name.lower() in catalogue_models()):
            return path
        if not _looks_like_path(name, path):
            return None
    except (OSError, RuntimeError) as error:  # no right to look, a name too long, no such home
        raise ModelNotFoundError(f"cannot look for {name!r}: {error}") from error
    raise ModelNotFoundError(f"no such file: {path}")


def _looks_like_path(name: str, path: Path) -> bool:
    if name.startswith(("./", "../", "/", "~")) or name in {".", ".."}:
        return True
    if _PREFIX.match(name) or "/" not in name or not name.endswith(".gguf"):
        return False
    # user/repo/file.gguf names a file on the hub, unless there is such a folder here.
    return name.count("/") == 1 or path.parent.is_dir()


def _as_hub_model(name: str) -> HubModel:
    rest = _PREFIX.sub("", name, count=1)
    if rest != name:
        rest = unquote(rest.split("?")[0].split("#")[0])
    rest = _PAGE.sub(r"\1", rest).rstrip("/")
    repository = "/".join(rest.split("/")[:2])
    if file := rest[len(repository) + 1 :]:
        if _REPOSITORY.fullmatch(repository) and _is_gguf_inside(file):
            return HubModel(repository, file=file)
        raise _unknown(name)
    repository, colon, quant = repository.partition(":")
    if not _REPOSITORY.fullmatch(repository) or (colon and not _QUANT.fullmatch(quant)):
        raise _unknown(name)
    return HubModel(repository, quant=quant if quant and quant.lower() != "latest" else None)


def _is_gguf_inside(file: str) -> bool:
    return file.lower().endswith(".gguf") and ".." not in file.split("/")


def _unknown(name: str) -> ModelNotFoundError:
    close = difflib.get_close_matches(name.lower(), [*aliases(), *known_models()], n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    return ModelNotFoundError(
        f"no model {name!r}{meant}: give a .gguf file, user/repo[:quant], user/repo/file.gguf, "
        f"or one of {', '.join(aliases())}, {', '.join(known_models())}"
    )
