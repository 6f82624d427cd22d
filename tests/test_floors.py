"""The plan of the house against the code: imports go down the floors only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "entropix_edge"

FLOORS = [
    {"errors", "types", "ranges", "engine_config", "config", "storage", "encoding", "addresses"},
    {"native"},
    {"llama", "text", "hub", "metrics", "checks"},
    {"strategy", "sampling", "confidence"},
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
    "prompt_toolkit": {"cli"},
    "rich": {"render", "cli"},
    "starlette": {"server"},
    "uvicorn": {"server"},
    "prometheus_client": {"server"},
    "msgspec": {"server"},
    "matplotlib": {"render"},
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
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield whole if module == "entropix_edge" or is_module(whole) else module, id(node) in typing_only


def is_module(name: str) -> bool:
    """Whether a name is a file or a folder of the package."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    return name.startswith("entropix_edge.") and (path.is_dir() or path.with_suffix(".py").exists())


def module_of(path: Path) -> str:
    """A file's name as a module; a folder's `__init__` is the folder."""
    return ".".join(["entropix_edge", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


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
    order = ["errors", "types", "ranges", "engine_config", "config", "storage", "encoding", "addresses"]
    for room in order:
        for name, _typing_only in imports(PACKAGE / f"{room}.py"):
            if name.startswith("entropix_edge."):
                assert order.index(name.split(".")[1]) < order.index(room)


def graph(package: Path) -> dict[str, set[str]]:
    """What each module imports of the package, for types too."""
    return {module_of(path): {name for name, _typing_only in imports(path)} for path in package.rglob("*.py")}


def circles(modules: dict[str, set[str]]) -> list[list[str]]:
    """Circles of imports, each from one of its modules back to it."""
    found: list[list[str]] = []
    done: set[str] = set()

    def follow(module: str, way: list[str]) -> None:
        if module in way:
            found.append([*way[way.index(module) :], module])
        elif module not in done:
            for name in sorted(modules[module] & modules.keys() - {module}):
                follow(name, [*way, module])
            done.add(module)

    for module in sorted(modules):
        follow(module, [])
    return found


def test_no_room_has_a_circle() -> None:
    assert circles(graph(PACKAGE)) == []


def test_the_check_finds_a_circle() -> None:
    assert circles({"a": {"b"}, "b": {"c", "x"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c", "a"]]


LONGEST_FILE, LONGEST_FUNCTION = 400, 60  # lines


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < LONGEST_FUNCTION, f"{node.name} is too long"


def test_the_table_is_pure() -> None:
    allowed = {"__future__", "dataclasses", "math", "re", "typing", "entropix_edge.types", "entropix_edge.config"}
    assert {name for name, _typing_only in imports(PACKAGE / "strategy" / "table.py")} <= allowed


def test_the_check_finds_an_upward_import(tmp_path: Path) -> None:
    found = [name for name, _ in imports(PACKAGE / "engine" / "engine.py")]
    assert "entropix_edge.decoding" in found
    assert "entropix_edge.hub" in found
