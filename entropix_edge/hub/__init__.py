"""A model's name → a verified file on disk."""

from .catalogue import CatalogueModel, aliases, catalogue_models
from .huggingface import unreachable
from .known import KnownModel, known_models
from .models import InstalledModel, installed, remove, resolve
from .paths import offline_by_environment
from .progress import Progress

__all__ = [
    "CatalogueModel",
    "InstalledModel",
    "KnownModel",
    "Progress",
    "aliases",
    "catalogue_models",
    "installed",
    "known_models",
    "offline_by_environment",
    "remove",
    "resolve",
    "unreachable",
]
