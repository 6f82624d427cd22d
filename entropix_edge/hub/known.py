"""Well-known small models on the hub, by short names; not verified: see known.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_BYTES = {"q8_0": 1.1, "q4_k_m": 0.65}  # a parameter, embeddings included


@dataclass(frozen=True)
class KnownModel:
    """A model on the hub that goes by a short name.

    Attributes:
        alias: the short name.
        repository: on the hub.
        file: in the repository.
        parameters: millions of them.
        licence: its name.
    """

    alias: str
    repository: str
    file: str
    parameters: int
    licence: str

    @property
    def about(self) -> int:
        """Bytes that its file has, roughly, by its parameters and quantisation."""
        quantisation = next(name for name in _BYTES if name in self.file.lower())
        return int(self.parameters * 1e6 * _BYTES[quantisation])


@cache
def known_models() -> dict[str, KnownModel]:
    """The models, by their short names (in lower case)."""
    table = tomllib.loads(Path(__file__).with_name("known.toml").read_text("utf-8"))
    return {alias: KnownModel(alias, **fields) for alias, fields in table.items()}
