"""What a server is started with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import GenerationConfig, Preset

DEFAULT_PORT = 8717


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to serve.

    Attributes:
        defaults: how a reply is generated where its request does not say; given the engine's own `preset`.
        alias: the model's name for clients.
        ctx_size: tokens that one conversation may use.
        parallel: replies that are generated side by side.
        queue: replies that may wait beyond these.
        host: address to listen on.
        port: to listen on; 0 for any that is free.
        strict_model: refuse requests for another model's name.
        api_keys: one of these must come with each request; none are asked for where there are none.
        cors_origins: pages of these origins may call, beside the server's own; `*` for all.
        page: whether the page is served at `/`.
        max_body: most bytes of a request.
        timeout: seconds that a request may take, from its last byte to the end of the answer.
        body_timeout: seconds in which a request's header, and then its body, must come.
        ping: seconds without news after which a stream says that it is alive.
        stall: seconds after which a client that does not read is given up.
        drain: seconds that running replies have to finish when the server closes.
    """

    defaults: Callable[[Callable[[str], Preset]], GenerationConfig]
    alias: str
    ctx_size: int
    parallel: int = 4
    queue: int = 32
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    strict_model: bool = False
    api_keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    page: bool = True
    max_body: int = 20 * 2**20
    timeout: float = 600.0
    body_timeout: float = 60.0
    ping: float = 10.0
    stall: float = 60.0
    drain: float = 10.0
