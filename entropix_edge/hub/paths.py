"""Where models and our own small records live on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_TRUE = {"1", "ON", "YES", "TRUE"}


def data_folder() -> Path:
    """Return the user's data folder, which may not exist yet.

    `$ENTROPIX_EDGE_HOME` if it is set, else what the platform prescribes.
    """
    if chosen := os.environ.get("ENTROPIX_EDGE_HOME"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "entropix-edge"
    base = os.environ.get("XDG_DATA_HOME")
    # The XDG specification says to ignore a relative path.
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "share"
    return root / "entropix-edge"


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
