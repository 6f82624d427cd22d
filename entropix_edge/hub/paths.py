"""Where the catalogue's models live on this machine, and whether the network may be used."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..storage import data_folder

_TRUE = {"1", "ON", "YES", "TRUE"}


def checkout_models() -> Path | None:
    """Return the `models/` folder of the checkout this package runs from, if it runs from one."""
    root = Path(__file__).resolve().parents[2]
    models = root / "models"
    return models if (root / "pyproject.toml").is_file() and models.is_dir() else None


def model_folders() -> list[Path]:
    """Return the folders that may hold catalogue models, the preferred one first."""
    checkout = checkout_models()
    folders = [] if checkout is None else [checkout]
    with contextlib.suppress(OSError):  # a user without a home
        folders.append(data_folder() / "models")
    return folders


def download_folder() -> Path:
    """Return the folder that catalogue models are fetched into, making it if needed.

    Raises:
        OSError: there is no user's data folder, or it cannot be made.
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
