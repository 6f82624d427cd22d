"""Where models and our own small records live on this machine."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

_TRUE = {"1", "ON", "YES", "TRUE"}


def data_folder() -> Path:
    """Return the user's data folder, which may not exist yet.

    `$ENTROPIX_EDGE_HOME` if it is set, else what the platform prescribes.
    """
    return _users_folder("XDG_DATA_HOME", ".local/share")


def config_folder() -> Path:
    """Return the user's folder for settings, which may not exist yet.

    `$ENTROPIX_EDGE_HOME` if it is set, else what the platform prescribes.
    """
    return _users_folder("XDG_CONFIG_HOME", ".config")


def _users_folder(variable: str, default: str) -> Path:
    if chosen := os.environ.get("ENTROPIX_EDGE_HOME"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "entropix-edge"
    base = os.environ.get(variable)
    # The XDG specification says to ignore a relative path.
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / default
    return root / "entropix-edge"


def write_whole(target: Path, text: str) -> None:
    """Write a file at once or not at all, and make its folder if needed.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{target.stem}-", suffix=f"{target.suffix}.part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def checkout_models() -> Path | None:
    """Return the `models/` folder of the checkout this package runs from, if it runs from one."""
    root = Path(__file__).resolve().parents[2]
    models = root / "models"
    return models if (root / "pyproject.toml").is_file() and models.is_dir() else None


def model_folders() -> list[Path]:
    """Return the folders that may hold catalogue models, the preferred one first."""
    checkout = checkout_models()
    users = data_folder() / "models"
    return [users] if checkout is None else [checkout, users]


def download_folder() -> Path:
    """Return the folder that catalogue models are fetched into, making it if needed.

    Raises:
        OSError: the user's data folder cannot be made.
    """
    for folder in model_folders():
        if folder.is_dir() and os.access(folder, os.W_OK):
            return folder
    folder = data_folder() / "models"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def offline_by_environment() -> bool:
    """Whether the environment forbids the network, in the words the hub's client listens to."""
    said = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return said.upper() in _TRUE
