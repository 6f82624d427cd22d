"""Errors advise in the words of who reads them: a field's name in Python, an option on the command line."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from entropix_edge import Engine, EngineConfig, GenerationConfig, PromptError
from entropix_edge.cli import cli, run
from entropix_edge.cli.hints import NAMES, explain
from entropix_edge.errors import ConfigError, ContextError, EntropixError, Hint

PACKAGE = Path(__file__).parents[1] / "entropix_edge"
LIBRARY = sorted(path for path in PACKAGE.rglob("*.py") if "cli" not in path.relative_to(PACKAGE).parts)
OPTION = re.compile(r"(?<![\w-])--[a-z]")
LONG = "word " * 200


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found
    return found


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """The texts in a file that say something: those of several words, docstrings left out."""
    tree = ast.parse(path.read_text("utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings)
    for node in constants:
        if isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, node.value


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_library_names_no_option(path: Path) -> None:
    assert [(line, text) for line, text in messages(path) if OPTION.search(text)] == []


def test_the_search_finds_options(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text('"""Uses --raw."""\nraise ValueError(f"{1}: raise --ctx-size")\nprint(["--quiet"], "a -- b")\n')
    assert [line for line, text in messages(file) if OPTION.search(text)] == [2]


def hints() -> set[str]:
    """The settings that hints in the library name."""
    found = set()
    for path in LIBRARY:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Hint":
                setting = node.args[1]
                found.add(setting.value if isinstance(setting, ast.Constant) else "attention")
    return {str(setting) for setting in found}


def test_every_hint_is_an_option_of_generate() -> None:
    options = {parameter.name for parameter in command("generate").params}
    assert hints() >= {"ctx_size", "raw", "offline", "attention"}
    assert {NAMES.get(setting, setting) for setting in hints() | NAMES.keys()} <= options


@pytest.mark.parametrize(
    ("hint", "in_python", "as_option"),
    [
        (Hint("shorten it or raise {}", "ctx_size", "raise"), "shorten it or raise ctx_size", "--ctx-size"),
        (Hint("use {}", "attention", "set", "off"), "use attention='off'", "--attention off"),
        (Hint("use {}", "raw", "set", True), "use raw=True", "--raw"),
        (Hint("fetch it without {}", "offline", "unset", True), "fetch it without offline=True", "--offline"),
        (Hint("use {}", "flash_attention", "set", "auto"), "use flash_attention='auto'", "--flash-attn auto"),
    ],
)
def test_a_hint_in_both_languages(hint: Hint, in_python: str, as_option: str) -> None:
    error = ContextError("it {} fails", hint=hint)
    assert str(error) == f"it {{}} fails: {in_python}"
    assert explain(error, command("generate")) == f"it {{}} fails: {hint.advice.replace('{}', as_option)}"
    assert explain(error, None) == explain(error, command("ls")) == str(error)


def test_an_error_without_a_hint_is_its_message() -> None:
    error = ConfigError("n_predict is 0")
    assert (str(error), error.hint, explain(error, command("generate"))) == ("n_predict is 0", None, "n_predict is 0")
    assert str(EntropixError()) == ""


def test_an_error_survives_being_sent_to_another_process() -> None:
    error = PromptError("too long", hint=Hint("raise {}", "ctx_size", "raise"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.hint) == ("too long: raise ctx_size", error.hint)


def test_a_long_prompt_in_python_and_on_the_command_line(
    tiny_model: Path, compiled: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with Engine.open(tiny_model, EngineConfig(ctx_size=256, threads=1)) as engine:
        with pytest.raises(PromptError) as caught:
            engine.generate(LONG, GenerationConfig(seed=1))
        tokens = len(engine.tokenize_prompt(LONG))
    said = f"the prompt is {tokens} tokens and the context 256: shorten it or raise"
    assert str(caught.value) == f"{said} ctx_size"
    assert run(["generate", "-m", str(tiny_model), "-c", "256", "-t", "1", LONG]) == 1
    assert capsys.readouterr().err == f"Error: {said} --ctx-size\n"
