"""What goes wrong on the hub, said in our own words."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator

from ..errors import DownloadError, EntropixError, Hint, ModelNotFoundError

ONLINE = Hint("fetch it without {}", "offline", "unset", True)
_SIGN_IN = "`hf auth login`, or set HF_TOKEN"
_NO_ANSWER = (408, 429)  # and every 5xx: the hub is there, and cannot answer now


@contextlib.contextmanager
def plain_errors(name: str) -> Iterator[None]:
    """Turn whatever the hub's client raises about the model `name` into an error of our tree."""
    try:
        yield
    except EntropixError:
        raise
    except Exception as error:
        raise _translate(name, error) from error


def is_network(error: BaseException) -> bool:
    """Whether the error says that a connection failed, rather than that a request was refused."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return False
    # The HTTP client's own errors are known by its name: the hub's client has changed it before.
    return isinstance(error, (ConnectionError, TimeoutError)) or type(error).__module__.startswith("httpx")


def _translate(name: str, error: Exception) -> EntropixError:
    import ssl

    from huggingface_hub import errors as hub

    repository = "/".join(name.split(":")[0].split("/")[:2])
    if isinstance(error, hub.GatedRepoError):
        return DownloadError(
            f"{repository} is gated: accept its licence on its page on the hub, then sign in ({_SIGN_IN})"
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        return ModelNotFoundError(f"no repository {repository} on the hub; if it is private, sign in ({_SIGN_IN})")
    if isinstance(error, hub.LocalEntryNotFoundError):  # what its client says when it gets no answer
        return DownloadError(f"cannot fetch {name}: no connection to the hub")
    if isinstance(error, (hub.EntryNotFoundError, hub.RevisionNotFoundError)):
        return ModelNotFoundError(f"the hub has no {name}")
    if isinstance(error, hub.HFValidationError):
        return ModelNotFoundError(f"{repository!r} is not a repository's name: {_first_line(error)}")
    if isinstance(error, hub.HfHubHTTPError):
        return _refused(name, error.response.status_code, error)
    if is_network(error):
        return DownloadError(f"cannot fetch {name}: no connection to the hub ({_first_line(error)})")
    if isinstance(error, UnicodeError):
        return DownloadError(f"cannot fetch {name}: the token has a character that no token has: {_SIGN_IN}")
    if isinstance(error, ssl.SSLError) or (isinstance(error, FileNotFoundError) and error.filename is None):
        variable = f"SSL_CERT_FILE={os.environ.get('SSL_CERT_FILE', '')}"
        return DownloadError(f"cannot fetch {name}: the certificates cannot be read ({variable}): {_first_line(error)}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError(f"cannot fetch {name}: the disk is full")
    if isinstance(error, ValueError) and type(error).__name__ == "JSONDecodeError":
        return DownloadError(f"cannot fetch {name}: what answered is not the hub (a proxy, a login page?)")
    return DownloadError(f"cannot fetch {name}: {_first_line(error)}")


def _refused(name: str, status: int, error: Exception) -> EntropixError:
    if status >= 500 or status in _NO_ANSWER:
        return DownloadError(f"cannot fetch {name}: the hub answered {status}; try again later")
    if status in (401, 403):
        return DownloadError(f"the hub refused {name} ({status}): check the token ({_SIGN_IN})")
    return DownloadError(f"cannot fetch {name}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def quiet_client() -> Iterator[None]:
    """Keep the hub's client from printing: its warnings are our errors."""
    # Importing it sets its level: so first that, then ours.
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    level = get_verbosity()
    set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        set_verbosity(level)
