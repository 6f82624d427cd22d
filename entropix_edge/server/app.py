"""The routes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from .. import __version__
from ..config import SAMPLERS
from ..render.page import PAGE_POLICY, page_files
from ..strategy import describe_table, preset_names
from . import schema
from .account import Account
from .errors import ApiError, from_msgspec, internal
from .metrics import CONTENT_TYPE
from .openapi import document
from .replies import Answer, ChatAnswer, TextAnswer
from .security import Gate
from .streaming import EventStream, Whole
from .values import read_chat, read_completion

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..engine import Engine
    from .service import Service
    from .values import Ask

    Handler = Callable[[Request], Awaitable[Response]]

Value = TypeVar("Value")

_NOT_BUILT = (
    "assistants",
    "audio",
    "batches",
    "embeddings",
    "files",
    "fine_tuning",
    "images",
    "moderations",
    "responses",
    "threads",
    "uploads",
    "vector_stores",
)


def make_app(service: Service) -> Starlette:
    """The server as an ASGI application."""
    routes = Routes(service)
    paths: dict[str, tuple[str, Handler]] = {
        "/chat/completions": ("POST", routes.chat),
        "/completions": ("POST", routes.completions),
        "/models": ("GET", routes.models),
        "/models/{name:path}": ("GET", routes.model),
        "/health": ("GET", routes.health),
        "/metrics": ("GET", routes.metrics),
        "/props": ("GET", routes.props),
        "/tokenize": ("POST", routes.tokenize),
        "/detokenize": ("POST", routes.detokenize),
        "/openapi.json": ("GET", routes.openapi),
    }
    table = [
        Route(prefix + path, handler, methods=[method])
        for path, (method, handler) in paths.items()
        for prefix in ("/v1", "")
    ]
    for name in _NOT_BUILT:
        at = [f"{prefix}/{name}{rest}" for prefix in ("/v1", "") for rest in ("", "/{rest:path}")]
        table += [Route(path, _not_built, methods=["GET", "POST", "PUT", "DELETE"]) for path in at]
    if service.settings.page:
        table += [Route(f"/{name}", _page, methods=["GET"]) for name in page_files()]
    known = frozenset(prefix + path for path in paths for prefix in ("/v1", ""))
    handlers: dict[Any, Any] = {
        ApiError: _api_error,
        HTTPException: _http_error,
        ClientDisconnect: _gone,
        Exception: _fault,
    }
    middleware = [Middleware(Account, service, known), Middleware(Gate, service)]
    app = Starlette(routes=table, middleware=middleware, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


class Routes:
    """What is answered at each path.

    Args:
        service: the engine.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.settings

    # --- replies --------------------------------------------------------------------------------------

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        return await self._reply(request, read_chat(await self._read(request, schema.CHAT)), ChatAnswer)

    async def completions(self, request: Request) -> Response:
        """Go on from a text."""
        return await self._reply(request, read_completion(await self._read(request, schema.COMPLETION)), TextAnswer)

    async def _reply(self, request: Request, ask: Ask, form: type[Answer]) -> Response:
        ticket = await self._service.begin(ask, request.scope["begun"])
        vocabulary = self._service.engine.model.vocabulary
        answer = form(ask, ticket.sources, self._settings.alias, vocabulary)
        return (EventStream if ask.stream else Whole)(ticket, answer, self._settings)

    # --- the model ------------------------------------------------------------------------------------

    async def models(self, _request: Request) -> Response:
        """The one model."""
        return _json(schema.ModelList([self._card()]))

    async def model(self, request: Request) -> Response:
        """The one model, by its name."""
        name, alias = request.path_params["name"], self._settings.alias
        if name != alias:
            raise ApiError(404, f"the model {name[:200]!r} is not served here: it is {alias!r}", "model_not_found")
        return _json(self._card())

    def _card(self) -> schema.ModelCard:
        model, limit = self._service.engine.model, self._settings.ctx_size
        header = model.header
        meta = schema.ModelMeta(limit, model.n_ctx_train, model.n_vocab, header.parameters, header.file_size)
        return schema.ModelCard(self._settings.alias, self._service.created, limit, limit, meta)

    async def props(self, _request: Request) -> Response:
        """How the model is served."""
        engine, settings = self._service.engine, self._settings
        defaults = settings.defaults(engine.preset)
        model = engine.model
        return _json(
            schema.Properties(
                model_alias=settings.alias,
                model_file=model.path.name,
                total_slots=settings.parallel,
                n_ctx=settings.ctx_size,
                chat_template=model.chat_template,
                bos_token=model.vocabulary.bos,
                eos_token=model.vocabulary.eos,
                attention_layers=list(engine.watched_layers),
                strategy={
                    **describe_table(),
                    "presets": {name: msgspec.to_builtins(engine.preset(name)) for name in preset_names()},
                    "samplers": SAMPLERS,
                    "answers": get_args(schema.Vote),
                },
                default_generation_settings={
                    "preset": msgspec.to_builtins(defaults.preset),
                    "sampler": defaults.sampler,
                    "seed": defaults.seed,
                    "n_predict": defaults.n_predict,
                    "stop": defaults.stop,
                },
                build_info=f"entropix-edge {__version__}",
            )
        )

    # --- tokens ---------------------------------------------------------------------------------------

    async def tokenize(self, request: Request) -> Response:
        """A text as token ids; control tokens are read, and none is put before it, unless that is asked for."""
        asked = await self._read(request, schema.TOKENIZE)
        return _json(await self._service.prepare(len(asked.content), _tokenized, self._service.engine, asked))

    async def detokenize(self, request: Request) -> Response:
        """Token ids as a text."""
        asked = await self._read(request, schema.DETOKENIZE)
        return _json(await self._service.prepare(len(asked.tokens), _detokenized, self._service.engine, asked))

    # --- the server -----------------------------------------------------------------------------------

    async def health(self, _request: Request) -> Response:
        """Whether requests are answered."""
        self._service.check_open()
        return _json(schema.Health("ok"))

    async def metrics(self, _request: Request) -> Response:
        """Counts and times for Prometheus."""
        return Response(self._service.metrics.exposition(), headers={"content-type": CONTENT_TYPE})

    async def openapi(self, _request: Request) -> Response:
        """What this server understands."""
        return Response(document(), media_type="application/json")

    # --- reading --------------------------------------------------------------------------------------

    async def _read(self, request: Request, decoder: msgspec.json.Decoder[Value]) -> Value:
        """A request's body as what it must be.

        Raises:
            ApiError: it is not, or it is too long, or it does not come.
        """
        self._service.check_open()
        body = await self._body(request)
        try:
            return decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise from_msgspec(error) from error
        except UnicodeDecodeError as error:
            raise ApiError(400, f"the request is not UTF-8: {error.reason}", "invalid_json") from error
        except RecursionError as error:
            raise ApiError(400, "the request is nested too deeply", "invalid_json") from error

    async def _body(self, request: Request) -> bytes:
        most = self._settings.max_body
        length = request.headers.get("content-length", "0")
        if int(length) > most:  # h11 has seen that it is a number
            raise _too_large(most)
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                async for part in request.stream():
                    body += part
                    if len(body) > most:
                        raise _too_large(most)
        except TimeoutError as error:
            message = f"the request did not come within {self._settings.body_timeout:g} seconds"
            raise ApiError(408, message, "request_timeout", headers=_CLOSE) from error
        return bytes(body)


_CLOSE = {"connection": "close"}  # what was not read must not be taken for the next request


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"the request is longer than {most} bytes", "body_too_large", headers=_CLOSE)


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _tokenized(engine: Engine, asked: schema.TokenizeRequest) -> schema.TokenList:
    vocabulary = engine.model.vocabulary
    tokens = vocabulary.tokenize(
        asked.content, add_bos=bool(asked.add_special), parse_special=asked.parse_special is not False
    )
    if not asked.with_pieces:
        return schema.TokenList([*tokens])
    return schema.TokenList([schema.Piece(token, _shown(vocabulary.piece(token))) for token in tokens])


def _shown(piece: bytes) -> str | list[int]:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)


def _detokenized(engine: Engine, asked: schema.DetokenizeRequest) -> schema.Content:
    most = engine.model.n_vocab
    for token in asked.tokens:
        if token >= most:
            raise ApiError(
                400, f"token {token} does not exist: ids go up to {most - 1}", "invalid_value", param="tokens"
            )
    return schema.Content(b"".join(map(engine.model.vocabulary.piece, asked.tokens)).decode("utf-8", "replace"))


# --- the page -----------------------------------------------------------------------------------------


async def _page(request: Request) -> Response:
    """A file of the page: open to all, as it holds nothing of anyone's."""
    content, kind = page_files()[request.url.path.removeprefix("/")]
    headers = {
        "content-security-policy": PAGE_POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }
    return Response(content, headers=headers, media_type=kind)


# --- errors -------------------------------------------------------------------------------------------


async def _not_built(request: Request) -> Response:
    message = f"{request.url.path[:100]} is not implemented by this server"
    raise ApiError(501, message, "not_implemented", headers={"x-should-retry": "false"})


async def _api_error(_request: Request, error: ApiError) -> Response:
    return Response(error.encode(), error.status, error.headers, "application/json")


async def _http_error(request: Request, error: HTTPException) -> Response:
    path = request.url.path[:100]
    if error.status_code == 405:
        failure = ApiError(
            405, f"{request.method} is not allowed at {path}", "method_not_allowed", headers=error.headers
        )
    else:
        failure = ApiError(error.status_code, f"there is nothing at {path}", "not_found")
    return await _api_error(request, failure)


async def _gone(_request: Request, _error: ClientDisconnect) -> Response:
    return Response(status_code=499)


async def _fault(request: Request, _error: Exception) -> Response:
    return await _api_error(request, internal())
