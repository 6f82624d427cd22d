"""One line of the log and one count for each request; never a word of a prompt or a reply."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .replies import Answer
    from .service import Service

logger = logging.getLogger("entropix_edge.requests")


class Account:
    """Counts and logs what goes through it."""

    def __init__(self, app: ASGIApp, service: Service, endpoints: frozenset[str]) -> None:
        self._app = app
        self._service = service
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and take note of it."""
        begun = time.perf_counter()
        status = 499  # nginx's number for a client that has gone
        scope["begun"] = begun
        self._service.open_requests += 1

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            status = 500
            raise
        finally:
            self._service.open_requests -= 1
            seconds = time.perf_counter() - begun
            path = scope["path"]
            endpoint = path.removeprefix("/v1") if path in self._endpoints else "other"
            self._service.metrics.request(endpoint, status, seconds)
            shown = path[:100].encode("unicode_escape").decode()
            logger.info("%s %s %d in %.2f s%s", scope["method"], shown, status, seconds, _told(scope, seconds))


def _told(scope: Scope, seconds: float) -> str:
    if "outcome" in scope:
        return f": {scope['outcome']}"
    answer: Answer | None = scope.get("answer")
    if answer is None:
        return ""
    usage = answer.usage()
    reasons = ", ".join(dict.fromkeys(choice.finish or "" for choice in answer.choices))
    cached = usage.prompt_tokens_details.cached_tokens
    rate = usage.completion_tokens / seconds if seconds else 0.0
    return (
        f": {usage.prompt_tokens} prompt tokens ({cached} cached), {usage.completion_tokens} tokens, {reasons}, "
        f"{rate:.1f} tokens/s"
    )
