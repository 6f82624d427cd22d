"""Prompts to tokens: what was typed is what the tokens spell, in a chat and raw."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_vocabulary
import tiny_gguf
from hypothesis import example, given
from hypothesis import strategies as st

from entropix_edge import ConfigError, Engine, EngineConfig, GenerationConfig, PromptError, TemplateError
from entropix_edge.engine.prompt import tokenize_parts
from entropix_edge.llama import Model, Vocabulary
from entropix_edge.text import ControlText

careful, texts = test_vocabulary.careful, test_vocabulary.texts


@pytest.fixture(scope="module", params=[*test_vocabulary.NAMES, "added"])
def vocabulary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vocabulary]:
    if request.param == "added":
        path = test_vocabulary.write_added(tmp_path_factory.mktemp("added") / "added.gguf")
    else:
        path = test_vocabulary.FOLDER / f"ggml-vocab-{request.param}.gguf"
        if not path.exists():
            pytest.skip(f"no vocabulary of {request.param} in {test_vocabulary.FOLDER}")
    with Model(path, vocabulary_only=True) as model:
        yield model.vocabulary


def chat(vocabulary: Vocabulary, before: str, content: str, after: str) -> list[int]:
    """The tokens of a message between what a template writes around it."""
    control = ControlText(vocabulary.special_texts_in(content))
    marked = control.mark([{"role": "user", "content": content}])[0]["content"]
    return tokenize_parts(control.split(before + marked + after), vocabulary)


def without_bos(vocabulary: Vocabulary, tokens: list[int]) -> list[int]:
    assert not vocabulary.adds_bos or tokens[0] == vocabulary.bos_id
    return tokens[1:] if vocabulary.adds_bos else tokens


@careful
@given(content=texts)
@example("Strike <s>old</s> new")
@example("<added>a")
def test_a_message_between_plain_words_is_spelled_as_it_was_typed(vocabulary: Vocabulary, content: str) -> None:
    tokens = without_bos(vocabulary, chat(vocabulary, "[INST] ", content, " [/INST]"))
    whole = test_vocabulary.writable(vocabulary, f"[INST] {content} [/INST]")
    assert test_vocabulary.spelled(vocabulary, tokens) == whole
    assert not any(map(vocabulary.is_control, tokens))


@careful
@given(content=texts)
@example("Strike <s>old</s> new")
@example("<s>")
def test_a_message_between_control_tokens_is_spelled_as_it_was_typed(vocabulary: Vocabulary, content: str) -> None:
    end = vocabulary.eos
    tokens = without_bos(vocabulary, chat(vocabulary, "", f"x{content}y", end))
    assert vocabulary.label(tokens[-1]) == end
    assert not any(map(vocabulary.is_control, tokens[:-1]))
    whole = test_vocabulary.writable(vocabulary, f"x{content}y")
    assert test_vocabulary.spelled(vocabulary, tokens[:-1]) == whole


@careful
@given(content=st.text(st.characters(codec="ascii", categories=["L", "P", "Zs"]), max_size=12))
def test_without_control_text_a_chat_is_what_llama_cpp_reads(vocabulary: Vocabulary, content: str) -> None:
    if vocabulary.special_texts_in(content):
        return
    bos = vocabulary.bos if vocabulary.adds_bos else ""
    whole = f"{bos}[INST] {content}{vocabulary.eos}"
    assert chat(vocabulary, f"{bos}[INST] ", content, vocabulary.eos) == vocabulary.tokenize(whole, parse_special=True)


def test_a_user_s_bos_is_no_bos(vocabulary: Vocabulary) -> None:
    tokens = chat(vocabulary, "", f"{vocabulary.bos}hello", "")
    assert tokens.count(vocabulary.bos_id) == (1 if vocabulary.adds_bos else 0)


# --- through the engine -----------------------------------------------------------------------------

TEMPLATE = (
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if think is defined %}{{ think }}{% endif %}<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = tiny_gguf.write_llama(tmp_path_factory.mktemp("chat") / "chat.gguf", template=TEMPLATE)
    with Engine.open(path, EngineConfig(threads=1, ctx_size=256, exact=True)) as engine:
        yield engine


def spelled(engine: Engine, tokens: list[int]) -> str:
    return "".join(map(engine.model.vocabulary.label, tokens))


def test_variables_of_the_user_s_reach_the_template(engine: Engine) -> None:
    assert spelled(engine, engine.tokenize_prompt("a", chat_template_kwargs={"think": "no"})) == (
        "<|im_start|>user\na<|im_end|>\nno<|im_start|>assistant"
    )
    config = GenerationConfig(n_predict=1, chat_template_kwargs={"think": "no"})
    plain, varied = (engine.generate("a", chosen) for chosen in (GenerationConfig(n_predict=1), config))
    assert varied.prompt_tokens == plain.prompt_tokens + 2


def test_variables_need_a_template(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="chat_template_kwargs must be empty"):
        engine.tokenize_prompt("a", raw=True, chat_template_kwargs={"think": "no"})
    with Engine.open(tiny_gguf.write_llama(tmp_path / "base.gguf", template=None)) as base:
        with pytest.raises(TemplateError, match="has no chat template"):
            base.tokenize_prompt("a", chat_template_kwargs={"think": "no"})
        assert base.prompts._renderer.pid is None  # which would wait for nothing


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"messages": []}, "names 'messages': it must be a name other than add_generation_prompt, bos_token, "),
        ({"a": object()}, "it must be what JSON can hold"),
        ({1: 2}, "names 1: it must be a name"),
    ],
)
def test_variables_that_no_template_can_take_are_refused(variables: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        GenerationConfig(chat_template_kwargs=variables)


def test_a_system_message_without_a_place_is_not_lost(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    assert spelled(engine, engine.tokenize_prompt("a", system="s")) == (
        "<|im_start|>user\ns\n\na<|im_end|>\n<|im_start|>assistant"
    )
    assert "no place for a system message" in caplog.text


def test_the_template_s_process_ends_with_the_engine(tmp_path: Path) -> None:
    path = tiny_gguf.write_llama(tmp_path / "chat.gguf", template=TEMPLATE)
    with Engine.open(path, EngineConfig(threads=1)) as engine:
        renderer = engine.prompts._renderer
        assert renderer.pid is not None
    assert renderer.pid is None


def test_a_character_without_a_token_is_told(caplog: pytest.LogCaptureFixture) -> None:
    path = test_vocabulary.FOLDER / "ggml-vocab-falcon.gguf"
    if not path.exists():
        pytest.skip(f"no vocabulary of falcon in {test_vocabulary.FOLDER}")
    from entropix_edge.engine import PromptTokenizer

    with Model(path, vocabulary_only=True) as model:
        PromptTokenizer(model).tokenize("a\x19b", raw=True)
    assert caplog.messages == ["the model's vocabulary has no token for '\\x19': left out of the prompt"]
