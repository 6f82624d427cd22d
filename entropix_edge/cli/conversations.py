"""Where conversations are kept: one file each in the user's data folder, and those that were saved under a name."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..storage import data_folder

if TYPE_CHECKING:
    from ..sessions import Conversation

logger = logging.getLogger("entropix_edge")


def newest() -> Path | None:
    """The conversation that was kept last."""
    found = []
    for path in _folder("conversations").glob("*.json"):
        try:
            found.append((path.stat().st_mtime_ns, path))
        except OSError:  # it was removed meanwhile
            continue
    return max(found)[1] if found else None


def saved() -> list[str]:
    """The names that conversations were saved under."""
    return sorted(path.stem for path in _folder("saved").glob("*.json"))


def saved_file(name: str) -> Path:
    """The file of a conversation that is, or will be, saved under a name; a path is taken as it is.

    Raises:
        ConfigError: the name is no file's.
    """
    path = Path(name).expanduser()
    if len(path.parts) > 1 or path.suffix == ".json":
        return path
    if not name.strip() or name.startswith("."):
        raise ConfigError(f"{name!r} is not a name for a conversation: give letters and digits, or a path")
    return _made(_folder("saved")) / f"{name}.json"


def history_file() -> Path:
    """Where the lines that were typed are kept."""
    return _made(data_folder()) / "chat-history"


def _folder(name: str) -> Path:
    return data_folder() / name


def _made(folder: Path) -> Path:
    """A folder that is there; only its user reads what is said in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


class Keeper:
    """Keeps a conversation as it goes on, in a file of its own.

    Args:
        wanted: False keeps nothing.
        path: a file to go on with.

    Attributes:
        wanted: whether anything is kept.
        path: of the file; None before the first turn.
    """

    def __init__(self, *, wanted: bool = True, path: Path | None = None) -> None:
        self.wanted = wanted
        self.path = path
        self._seen = _state(path) if path else None
        self._failed = False

    def begin(self) -> None:
        """Let what comes be another conversation: its file is made with its first turn."""
        self.path = self._seen = None

    def keep(self, conversation: Conversation) -> None:
        """Write the conversation down. Where that fails, a warning says so once, and the conversation goes on."""
        if not self.wanted or (self.path is None and not conversation.turns):
            return
        try:
            if self.path is not None and _state(self.path) != self._seen:
                logger.warning("another process has changed %s: this conversation goes on in a new file", self.path)
                self.path = None
            self.path = self.path or _made(_folder("conversations")) / _new_name()
            conversation.save(self.path)
            self._seen = _state(self.path)
        except OSError as error:
            if not self._failed:
                logger.warning("the conversation is not kept: %s", error)
            self._failed = True
        else:
            self._failed = False


def _new_name() -> str:
    return f"{time.strftime('%Y-%m-%d-%H%M%S')}-{os.urandom(2).hex()}.json"


def _state(path: Path) -> tuple[int, int] | None:
    """What tells whether another process has written a file; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
