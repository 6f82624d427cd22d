"""What is answered where a request fails: OpenAI's form of an error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from ..errors import ConfigError, ContextError, EntropixError, PromptError, TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACE = re.compile(r" - at `\$\.?(?P<place>[^`]*)`$")
_RETRY = {"retry-after": "1"}
_NEVER = {"x-should-retry": "false"}  # openai's clients repeat whatever is 408, 409, 429 or 500 and above


_KINDS = {401: "authentication_error", 403: "permission_error", 429: "overloaded_error"}


class ErrorDetail(msgspec.Struct):
    """What was wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct):
    """An error, as OpenAI's clients expect it."""

    error: ErrorDetail


class ApiError(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        message: what was wrong, in one line.
        code: the same for programs.
        param: which field of the request, where it was one.
        headers: to answer with.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body = ErrorBody(ErrorDetail(message, _kind(status), param, code))

    @property
    def code(self) -> str | None:
        """What was wrong, for programs."""
        return self.body.error.code

    def encode(self) -> bytes:
        """The body of the answer."""
        return msgspec.json.encode(self.body)


def _kind(status: int) -> str:
    return _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """A value that cannot be."""
    return ApiError(400, message, code, param=param)


def unsupported(param: str, message: str) -> ApiError:
    """What OpenAI's servers can and this one cannot."""
    return invalid(message, param, "unsupported_parameter")


def too_long(limit: int, length: int, param: str) -> ApiError:
    """A prompt that does not fit, in the words that clients look for."""
    return invalid(
        f"This model's maximum context length is {limit} tokens. However, your {param} resulted in {length} tokens. "
        f"Please reduce the length of the {param}.",
        param,
        "context_length_exceeded",
    )


def unavailable(message: str, code: str, *, retry: bool = True) -> ApiError:
    """The server cannot now."""
    return ApiError(503, message, code, headers=_RETRY if retry else _NEVER)


def busy(waiting: int) -> ApiError:
    """The queue is full."""
    message = f"{waiting} replies are being generated or wait, and there is no place for more: try again later"
    return ApiError(429, message, "queue_full", headers=_RETRY)


def internal(message: str = "the server failed at this request") -> ApiError:
    """A fault of ours, which would come again."""
    return ApiError(500, message, "internal_error", headers=_NEVER)


def from_entropix(error: EntropixError) -> ApiError:
    """An error of the engine's, as its client should see it."""
    if isinstance(error, ConfigError | PromptError | TemplateError):
        return invalid(error.message)
    if isinstance(error, ContextError):
        return unavailable(error.message, "no_capacity")
    return internal(error.message)


def from_msgspec(error: msgspec.MsgspecError) -> ApiError:
    """What msgspec found wrong in a request, and where."""
    message = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return invalid(f"the request is not JSON: {message}", code="invalid_json")
    found = _PLACE.search(message)
    place = found["place"] if found else None
    text = _PLACE.sub("", message)
    text = text[:1].lower() + text[1:]
    return invalid(f"{place}: {text}" if place else text, place or _missing(text))


def _missing(text: str) -> str | None:
    found = re.search(r"missing required field `(\w+)`", text)
    return found[1] if found else None
