"""A model's name → a verified file on disk."""

from .catalogue import CatalogueModel, aliases, catalogue_models
from .models import InstalledModel, installed, remove, resolve
from .progress import Progress

__all__ = [
    "CatalogueModel",
    "InstalledModel",
    "Progress",
    "aliases",
    "catalogue_models",
    "installed",
    "remove",
    "resolve",
]
