"""Which GGUF file of a repository is meant."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import DownloadError, ModelNotFoundError
from .names import HubModel

DEFAULT_QUANT = "Q4_K_M"

_LABEL = re.compile(
    r"(?<![a-z0-9])(?:ud-)?(?:i?q\d+(?:_[a-z0-9]+)*|tq\d(?:_\d)?|mxfp\d(?:_moe)?|bf16|fp?16|fp?32)(?![a-z0-9_])",
    re.IGNORECASE,
)
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})(?=\.gguf$)", re.IGNORECASE)


def choose(files: Iterable[str], wanted: HubModel) -> list[str]:
    """Return the path of the model's file or, where it is split, of all its parts in order.

    Raises:
        ModelNotFoundError: the repository has no such file; the message lists what there is.
        DownloadError: the model is split and one of its parts is missing.
    """
    paths = sorted(path for path in files if path.lower().endswith(".gguf"))
    if wanted.file is not None:
        return _all_parts(_explicit(paths, wanted, wanted.file), paths)
    models = [path for path in paths if is_model(path)]
    # Files in the top folder come before those in subfolders.
    models.sort(key=lambda path: (path.count("/"), path))
    if not models:
        raise ModelNotFoundError(f"{wanted.repository} has no GGUF file: look for a repository that ends in -GGUF")
    matching = [path for path in models if has_quant(path, wanted.quant or DEFAULT_QUANT)]
    if wanted.quant and not matching:
        raise ModelNotFoundError(f"{wanted.repository} has no quantisation {wanted.quant}: it has {_enumerate(models)}")
    return _all_parts((matching or models)[0], paths)


def has_quant(path: str, quant: str) -> bool:
    """Whether `quant` is a whole label in the file's path: Q4_K is not in model-Q4_K_M.gguf."""
    # An underscore before the label separates (model_q8_0), except where the label would be the
    # tail of another (K_M).
    before = r"(?<![a-z0-9])" if _LABEL.fullmatch(quant) else r"(?<![a-z0-9_])"
    return re.search(rf"{before}{re.escape(quant)}(?![a-z0-9_])", path, re.IGNORECASE) is not None


def label(path: str) -> str | None:
    """Return the quantisation a file's name states, as Q4_K_M."""
    found = _LABEL.findall(path.rsplit("/", 1)[-1]) or _LABEL.findall(path)
    return found[-1].upper() if found else None


def is_model(path: str) -> bool:
    """Whether the file can be opened as a model: it is whole, or the first part of a split one."""
    name = path.rsplit("/", 1)[-1].lower()
    if not name.endswith(".gguf") or "mmproj" in name:
        return False
    # Some publishers name a model quantised with an importance matrix after it.
    if "imatrix" in name and label(name) is None:
        return False
    split = _SPLIT.search(name)
    return split is None or int(split[1]) == 1


def _explicit(paths: list[str], wanted: HubModel, file: str) -> str:
    if file not in paths:
        raise ModelNotFoundError(f"{wanted.repository} has no file {file}: it has {_enumerate(paths)}")
    return file


def _all_parts(path: str, paths: list[str]) -> list[str]:
    split = _SPLIT.search(path)
    if split is None:
        return [path]
    count = int(split[2])
    parts = [_SPLIT.sub(f"-{number:05}-of-{split[2]}", path) for number in range(1, count + 1)]
    if missing := [part for part in parts if part not in paths]:
        raise DownloadError(f"{path} is one of {count} parts, of which {missing[0]} is missing")
    return parts


def _enumerate(paths: list[str], limit: int = 12) -> str:
    names = list(dict.fromkeys(label(path) or path for path in paths))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) + more) or "no GGUF file"
