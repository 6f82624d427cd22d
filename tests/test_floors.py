"""The plan of the house against the code: imports go down the floors only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "entropix_edge"

FLOORS = [
    {"errors", "types", "config", "storage", "encoding"},
    {"native"},
    {"llama", "text", "hub", "metrics", "checks"},
    {"strategy", "sampling"},
    {"decoding"},
    {"engine"},
    {"sessions"},
    {"render"},
    {"server", "evaluation", "bench"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Libraries that live in one place.
HOMES = {
    "llama_cpp": {"llama"},
    "click": {"cli"},
    "huggingface_hub": {"hub"},
    "jinja2": {"text"},
    "numba": {"native"},
    "llvmlite": {"native"},
    "rich": {"render", "cli"},
}

FILES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem not in ("__init__", "__main__")
)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Names imported anywhere in a file, absolute, with whether only for types."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    package = ["entropix_edge", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            if module in ("entropix_edge", ""):
                yield from ((f"{module}.{alias.name}", id(node) in typing_only) for alias in node.names)
            else:
                yield module, id(node) in typing_only


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    room = room_of(path)
    for name, _typing_only in imports(path):
        parts = name.split(".")
        if parts[0] == "entropix_edge" and len(parts) > 1 and parts[1] in FLOOR and parts[1] != room:
            same_ground = FLOOR[room] == 0 == FLOOR[parts[1]]
            assert FLOOR[parts[1]] < FLOOR[room] or same_ground, f"{room} imports {parts[1]}, which is not below it"
        if parts[0] in HOMES:
            assert room in HOMES[parts[0]], f"{parts[0]} is imported in {room}: it lives in {HOMES[parts[0]]}"


def test_every_room_is_on_the_plan() -> None:
    rooms = {room_of(path) for path in FILES}
    assert rooms <= set(FLOOR)


def test_the_ground_floor_has_no_circle() -> None:
    order = ["errors", "types", "config", "storage"]
    for room in order:
        for name, _typing_only in imports(PACKAGE / f"{room}.py"):
            if name.startswith("entropix_edge."):
                assert order.index(name.split(".")[1]) < order.index(room)


def test_the_table_is_pure() -> None:
    allowed = {"__future__", "dataclasses", "math", "re", "typing", "entropix_edge.types", "entropix_edge.config"}
    assert {name for name, _typing_only in imports(PACKAGE / "strategy" / "table.py")} <= allowed


def test_the_check_finds_an_upward_import(tmp_path: Path) -> None:
    found = [name for name, _ in imports(PACKAGE / "engine" / "engine.py")]
    assert "entropix_edge.decoding" in found
    assert "entropix_edge.hub" in found
