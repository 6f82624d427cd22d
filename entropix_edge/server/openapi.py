"""What the server understands, as OpenAPI describes it: made from the types that requests are read with."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import msgspec

from .. import __version__
from . import schema
from .errors import ErrorBody


class _Operation(NamedTuple):
    method: str
    path: str
    told: str
    request: type | None
    answer: type | None
    streams: type | None = None


_OPERATIONS = [
    _Operation(
        "post",
        "/v1/chat/completions",
        "Answer a conversation.",
        schema.ChatRequest,
        schema.ChatCompletion,
        schema.ChatChunk,
    ),
    _Operation(
        "post", "/v1/completions", "Go on from a text.", schema.CompletionRequest, schema.Completion, schema.Completion
    ),
    _Operation("get", "/v1/models", "The model that is served.", None, schema.ModelList),
    _Operation("get", "/v1/models/{name}", "The model, by its name.", None, schema.ModelCard),
    _Operation("get", "/health", "Whether requests are answered.", None, schema.Health),
    _Operation("get", "/metrics", "Counts and times for Prometheus.", None, None),
    _Operation("get", "/props", "How the model is served.", None, schema.Properties),
    _Operation("post", "/tokenize", "A text as token ids.", schema.TokenizeRequest, schema.TokenList),
    _Operation("post", "/detokenize", "Token ids as a text.", schema.DetokenizeRequest, schema.Content),
]


@cache
def document() -> bytes:
    """The description, as JSON."""
    types = {kind for operation in _OPERATIONS for kind in operation[3:] if kind} | {ErrorBody}
    ordered = sorted(types, key=lambda kind: kind.__name__)
    _references, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {}
    for operation in _OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "entropix-edge", "version": __version__},
            "paths": paths,
            "components": {"schemas": components},
        }
    )


def _described(operation: _Operation) -> dict[str, Any]:
    content: dict[str, Any] = (
        {"application/json": _schema(operation.answer)} if operation.answer else {"text/plain": {}}
    )
    if operation.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    described: dict[str, Any] = {
        "summary": operation.told,
        "responses": {
            "200": {"description": "The answer.", "content": content},
            "default": {"description": "An error.", "content": {"application/json": _schema(ErrorBody)}},
        },
    }
    if operation.request:
        described["requestBody"] = {"required": True, "content": {"application/json": _schema(operation.request)}}
    if "{name}" in operation.path:
        described["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
    return described


def _schema(kind: type) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}
