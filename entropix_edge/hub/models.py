"""The room's front: names in, verified files out; what is there; what may go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import EntropixError, ModelFileError, ModelNotFoundError
from . import cache, catalogue, huggingface
from .catalogue import CatalogueModel
from .names import HubModel, parse
from .paths import model_folders, offline_by_environment
from .progress import Progress, silent
from .selection import choose, is_model, label


@dataclass(frozen=True)
class InstalledModel:
    """A model on this machine: the name that opens it, where it is, its size in bytes."""

    name: str
    path: Path
    size: int


def resolve(name: str, *, offline: bool = False, progress: Progress | None = None) -> Path:
    """Return the file of the model called `name`, verified; fetch it if need be.

    Args:
        name: a path, an alias of the catalogue, `user/repo[:quant]` or `user/repo/file.gguf`
            (an `hf.co/` before it is tolerated).
        offline: use only what is on this machine (`HF_HUB_OFFLINE=1` says the same).
        progress: told how far downloads and checks are.

    Returns:
        The path of the GGUF file; of the first part, where the model is split.

    Raises:
        ModelNotFoundError: no file, alias, repository or quantisation of that name.
        ModelFileError: the name is a directory's, or a file is damaged that cannot be fetched.
        DownloadError: the model could not be fetched.
    """
    report = progress or silent
    found = parse(name)
    if isinstance(found, CatalogueModel):
        return catalogue.ensure(found, offline=offline or offline_by_environment(), progress=report)
    if isinstance(found, HubModel):
        return huggingface.ensure(found, offline=offline, progress=report)
    if found.is_dir():
        raise ModelFileError(f"{found} is a directory: give the .gguf file inside")
    return found


def installed() -> list[InstalledModel]:
    """Return the models on this machine: the catalogue's, then those in the Hugging Face cache.

    Files are listed by their size; their checksums are looked at when they are used.
    """
    models = [
        InstalledModel(entry.alias, path, entry.size)
        for entry in catalogue.catalogue_models().values()
        if (path := catalogue.on_disk(entry))
    ]
    for repository in cache.all_cached():
        models += _installed_from(repository)
    return models


def _installed_from(repository: cache.CachedRepository) -> list[InstalledModel]:
    models = []
    for file in filter(is_model, repository.files):
        try:
            parts = choose(repository.files, HubModel(repository.repository, file=file))
            size = sum(repository.files[part].stat().st_size for part in parts)
        except (EntropixError, OSError):  # parts are missing: it cannot be used
            continue
        name = _shortest_name(repository, file)
        models.append(InstalledModel(name, repository.files[file], size))
    return models


def _shortest_name(repository: cache.CachedRepository, file: str) -> str:
    if quant := label(file):
        by_quant = HubModel(repository.repository, quant=quant)
        same = [path for path in repository.files if is_model(path) and label(path) == quant]
        if len(same) == 1 and choose(repository.files, by_quant)[0] == file:
            return str(by_quant)
    return str(HubModel(repository.repository, file=file))


def remove(name: str) -> int:
    """Delete a model that was fetched, and return the number of bytes that this frees.

    Raises:
        ModelNotFoundError: no such model is on this machine, or the name fits several.
        ModelFileError: `name` is a path, or the file cannot be deleted.
    """
    found = parse(name)
    try:
        if isinstance(found, CatalogueModel):
            return _remove_from_catalogue(found)
        if isinstance(found, HubModel):
            return _remove_from_cache(found)
    except OSError as error:
        raise ModelFileError(f"cannot delete {name}: {error}") from error
    raise ModelFileError(f"{found} is a file of your own: delete it yourself")


def _remove_from_catalogue(model: CatalogueModel) -> int:
    paths = [path for folder in model_folders() if (path := folder / model.file).exists()]
    if not paths:
        raise ModelNotFoundError(f"{model.alias} is not on this machine")
    freed = sum(path.stat().st_size for path in paths)
    for path in paths:
        path.unlink()
    return freed


def _remove_from_cache(model: HubModel) -> int:
    from huggingface_hub import scan_cache_dir

    repository = cache.cached(model.repository)
    here = [entry.name for entry in _installed_from(repository)]
    if not repository.files:
        raise ModelNotFoundError(f"{model} is not on this machine")
    if not (model.quant or model.file) and len(here) > 1:
        raise ModelNotFoundError(f"{model} has several files here, say which: {', '.join(here)}")
    names = set(choose(repository.files, model))
    scan = scan_cache_dir()
    doomed = [
        file
        for entry in scan.repos
        if entry.repo_id == model.repository and entry.repo_type == "model"
        for revision in entry.revisions
        for file in revision.files
        if file.file_path.relative_to(revision.snapshot_path).as_posix() in names
    ]
    if not doomed:  # a broken link somewhere makes the client skip a whole repository
        raise ModelFileError(f"cannot delete {model}: the cache of {model.repository} is damaged (`hf cache rm`)")
    strategy = scan.delete_files(*doomed)
    strategy.execute()
    return strategy.expected_freed_size
