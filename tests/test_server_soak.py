"""Some seconds of `scripts/soak.py`, one minute in CI; requests made at random from the server's own description."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import HELLO, Served, endless_model, serving, until

from entropix_edge import EngineConfig

SCRIPT = Path(__file__).parents[1] / "scripts" / "soak.py"
SECONDS = 60 if os.environ.get("CI") else 4


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    assert spec
    assert spec.loader
    module = sys.modules["soak"] = importlib.util.module_from_spec(spec)  # where dataclasses look
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    model = endless_model(tmp_path_factory.mktemp("soak") / "soak.gguf", 1024)
    with serving(model, EngineConfig(threads=1, exact=True), ctx_size=1024, parallel=8, queue=12) as found:
        yield found


def test_clients_that_come_and_go_change_nobodys_text(soak: Any, served: Served) -> None:
    clients = soak.Clients(served.url, soak.requests())
    asyncio.run(clients.run(SECONDS, 64))
    assert clients.report.wrong == []
    assert all(clients.report.counts[name] for name in ("finished", "left", "garbage"))
    until(lambda: served.engine.jobs == (0, 0))
    assert served.engine.free == (16, served.engine.context.n_ctx)
    assert served.metric("entropix_cells_used") == 0


def test_memory_that_grows_is_seen(soak: Any) -> None:
    level = [(float(second), 100.0 + second % 2) for second in range(40)]
    assert abs(soak.growth(level)) < 1
    assert soak.growth([(second, mib + second) for second, mib in level]) > 15


# --- requests at random -------------------------------------------------------------------------------


def values(schema: dict[str, Any], schemas: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema describes, or nearly."""
    if "$ref" in schema:
        return values(schemas[schema["$ref"].rsplit("/", 1)[1]], schemas)
    if "anyOf" in schema:
        return st.one_of([values(each, schemas) for each in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from([*schema["enum"], "other"])
    match schema.get("type"):
        case "string":
            return st.text(max_size=20)
        case "integer":
            return st.integers(schema.get("minimum", -5) - 1, 40) | st.integers()
        case "number":
            return st.floats(-0.5, 3) | st.integers(-1, 2) | st.floats(allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "array":
            return st.lists(values(schema.get("items", {}), schemas), max_size=4)
        case "object" if "properties" in schema:
            fields = {name: values(each, schemas) for name, each in schema["properties"].items()}
            needed = {name: fields[name] for name in schema.get("required", ())}
            return st.fixed_dictionaries(needed, optional={k: v for k, v in fields.items() if k not in needed})
        case "object":
            return st.dictionaries(st.text(max_size=8), anything(), max_size=3)
    return anything()


def anything() -> st.SearchStrategy[Any]:
    """Any JSON."""
    plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10)
    return st.recursive(
        plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=5
    )


BASES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 3},
    "/v1/completions": {"prompt": "once", "max_tokens": 3},
    "/tokenize": {"content": "hello"},
    "/detokenize": {"tokens": [5]},
}


@pytest.mark.parametrize("path", BASES)
def test_every_request_is_answered_in_json(served: Served, path: str) -> None:
    """Good requests with some fields made at random: each is answered, or refused, in JSON."""
    described = served.http.get("/openapi.json").json()
    schema = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schemas = described["components"]["schemas"]
    fields = schemas[schema["$ref"].rsplit("/", 1)[1]]["properties"]
    changes = [
        st.tuples(st.just(name), values(each, schemas) | anything())
        for name, each in fields.items()
        if name != "max_tokens"
    ]
    seen = set()

    @settings(max_examples=60, database=None, suppress_health_check=list(HealthCheck))
    @given(changed=st.lists(st.one_of(changes), max_size=3))
    def check(changed: list[tuple[str, Any]]) -> None:
        body = BASES[path] | dict(changed)
        response = served.http.post(path, content=json.dumps(body).encode())
        seen.add(response.status_code)
        assert response.status_code in (200, 400), (body, response.text)
        if response.headers["content-type"].startswith("text/event-stream"):
            assert response.text.endswith("data: [DONE]\n\n")
        else:
            assert response.headers["content-type"] == "application/json"
            assert ("error" in response.json()) == (response.status_code == 400)

    check()
    assert seen == {200, 400}
    until(lambda: served.engine.jobs == (0, 0))
