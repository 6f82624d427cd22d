"""A model's name → a verified file on disk."""

from .catalogue import CatalogueModel, aliases, catalogue_models
from .models import InstalledModel, installed, remove, resolve
from .paths import config_folder, data_folder, write_whole
from .progress import Progress
from .verify import fingerprint

__all__ = [
    "CatalogueModel",
    "InstalledModel",
    "Progress",
    "aliases",
    "catalogue_models",
    "config_folder",
    "data_folder",
    "fingerprint",
    "installed",
    "remove",
    "resolve",
    "write_whole",
]
