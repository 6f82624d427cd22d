"""Real models' chat templates, rendered as Hugging Face's transformers renders them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import pytest
from conftest import CHECKOUT
from jinja2.sandbox import ImmutableSandboxedEnvironment

from entropix_edge.errors import TemplateError
from entropix_edge.text import ChatTemplate, Message, Renderer

FILE = CHECKOUT.parent / "shared" / "data" / "templates.json"

SYSTEM: Message = {"role": "system", "content": "You are terse <zq1>."}
USER: Message = {"role": "user", "content": 'Why is 2 < 3 & "so"? <zq2>\n\n漢字 🙂'}
ANSWER: Message = {"role": "assistant", "content": "Because <zq3>."}
AGAIN: Message = {"role": "user", "content": "Really? <zq4>"}
TALKS: dict[str, tuple[list[Message], dict[str, Any]]] = {
    "user": ([USER], {}),
    "system": ([SYSTEM, USER], {}),
    "turns": ([USER, ANSWER, AGAIN], {}),
    "all": ([SYSTEM, USER, ANSWER, AGAIN], {}),
    "thinking": ([USER, ANSWER, AGAIN], {"enable_thinking": True}),
    "not thinking": ([USER, ANSWER, AGAIN], {"enable_thinking": False}),
    "no tools": ([SYSTEM, USER], {"tools": None}),
    "tools": ([SYSTEM, USER], {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"é": "<x>"}}}]}),
}

# What the reference drops without a word and we do not: a system message is put before the first user message.
MOVED = {
    "library/granite3-guardian:2b",
    "library/llama-pro:latest",
    "library/nuextract:3.8b",
    "library/phi3:14b",
    "library/phi4-reasoning:14b",
    "mistralai/Mistral-7B-Instruct-v0.3 (JSON Schema)",
    "CISCai/Mistral-7B-Instruct-v0.3-SOTA-GGUF",
}
# A list of parts instead of a text, where the reference drops the text: these need it.
PARTS = {"library/llama-guard3:1b", "library/gemma3:1b"}
WITH_TOOLS = {"CISCai/Mistral-7B-Instruct-v0.3-SOTA-GGUF"}  # it has a place for a system message beside tools alone
# They judge the last messages alone; what went before would be lost.
LAST_ONLY = {
    ("library/granite3-guardian:2b", "turns"),
    ("library/granite3-guardian:2b", "thinking"),
    ("library/granite3-guardian:2b", "not thinking"),
    ("library/granite3-guardian:2b", "all"),
    ("library/shieldgemma:27b", "all"),
}


@cache
def templates() -> dict[str, str]:
    """Each distinct template under the first name that has it."""
    if not FILE.exists():
        return {}
    found: dict[str, str] = {}
    for entry in json.loads(FILE.read_text("utf-8")):
        if entry["tpl"] not in found.values():
            number = sum(name.split(" #")[0] == entry["name"] for name in found)
            found[entry["name"] + (f" #{number + 1}" if number else "")] = entry["tpl"]
    return found


class Tracker(jinja2.ext.Extension):
    """The generation tag as a block that is called."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("called"), [], [], body).set_lineno(line)

    def called(self, caller: Callable[[], str]) -> str:
        return caller()


def reference(source: str, messages: list[Any], given: dict[str, Any]) -> str:
    def raise_exception(message: str) -> NoReturn:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(
        x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Tracker, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    variables = {"tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>"} | given
    return environment.from_string(source).render(messages=messages, add_generation_prompt=True, **variables)


def expected(name: str, source: str, messages: list[Message], given: dict[str, Any]) -> str:
    """The reference's text, of messages as they are known to have to be given."""
    shaped: list[Any] = list(messages)
    if name in MOVED and messages[0] is SYSTEM and not (name in WITH_TOOLS and given.get("tools")):
        both = f"{SYSTEM['content']}\n\n{messages[1]['content']}"
        shaped = [{"role": "user", "content": both}, *messages[2:]]
    if name == "library/llama-guard3:1b" or (name in PARTS and messages[0] is SYSTEM):
        shaped = [m | {"content": [{"type": "text", "text": m["content"]}]} for m in shaped]
    return reference(source, shaped, given)


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with Renderer() as renderer:
        yield renderer


def test_the_templates_are_there() -> None:
    if not FILE.exists():
        pytest.skip(f"no templates of real models: {FILE} is not there")
    assert len(templates()) == 128


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("name", templates())
def test_a_real_template_renders_as_the_reference_does(renderer: Renderer, name: str, talk: str) -> None:
    source = templates()[name]
    messages, given = TALKS[talk]
    template = ChatTemplate(source, renderer, bos="<s>", eos="</s>")
    if (name, talk) in LAST_ONLY:
        with pytest.raises(TemplateError, match="leaves out message"):
            template.render(messages, given)
        return
    try:
        text = expected(name, source, messages, given)
    except Exception as error:
        reason = " ".join(str(error).split())
        with pytest.raises(TemplateError) as caught:
            template.render(messages, given)
        assert reason in str(caught.value)
        return
    assert template.render(messages, given) == text
    for message in messages:
        assert message["content"][-5:].strip() in text or "tojson" in source
