"""What real vocabularies write is what was typed, control text and all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest
from conftest import CHECKOUT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from entropix_edge.llama import Model, Vocabulary

FOLDER = CHECKOUT.parent / "shared" / "data" / "vocabs"
NAMES = ["deepseek-llm", "falcon", "gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2"]
SPELLINGS = ["<s>", "</s>", "<unk>", "<|user|>", "<|end|>", "<|endoftext|>", "<|im_end|>", "<|begin_of_text|>"]
SPELLINGS += [
    "<｜begin▁of▁sentence｜>",
    "<|end_of_text|>",
    ">>TITLE<<",
    "[PAD151646]",
    "<0x0A>",
    "<added>",
    "<add",
    "▁",
]

FALCON_LACKS = [3, 4, 5, 11, 17, 19, 20, 21, 22, 23, 25, 28, 29, 30]

texts = st.lists(
    st.sampled_from([*SPELLINGS, " ", "  ", "\n", "Strike ", "old", " new", "漢字", "🙂", "\U0010fffe", "\x00"])
    | st.text(max_size=4),
    max_size=8,
).map("".join)
careful = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write_added(path: Path) -> Path:
    """A SentencePiece vocabulary with words that were added to it."""
    writer = gguf.GGUFWriter(path, "llama")
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "ab", "▁a", "▁ab"]
    kinds = [2, 3, 3, *[6] * 256, *[1] * 6]
    pieces, kinds = [*pieces, "<added>", "<add", "old"], [*kinds, 4, 4, 4]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([float(-number) for number in range(len(pieces))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module", params=[*NAMES, "added"])
def vocabulary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vocabulary]:
    if request.param == "added":
        path = write_added(tmp_path_factory.mktemp("added") / "added.gguf")
    else:
        path = FOLDER / f"ggml-vocab-{request.param}.gguf"
        if not path.exists():
            pytest.skip(f"no vocabulary of {request.param} in {FOLDER}")
    with Model(path, vocabulary_only=True) as model:
        yield model.vocabulary


def writable(vocabulary: Vocabulary, text: str) -> str:
    return "".join(letter for letter in text if letter not in vocabulary.unwritable_in(text))


def spelled(vocabulary: Vocabulary, tokens: list[int], *, begins: bool = True) -> str:
    """What tokens write, without the space that a SentencePiece vocabulary puts before a text."""
    data = b"".join(map(vocabulary.piece, tokens))
    return (data.removeprefix(b" ") if begins and puts_space(vocabulary) else data).decode("utf-8", "ignore")


def puts_space(vocabulary: Vocabulary) -> bool:
    return vocabulary.piece(vocabulary.tokenize("a")[0]).startswith(b" ")


@careful
@given(text=texts)
@example("Strike <s>old</s> new")
@example("a<added>b<add c<added>")
def test_a_text_s_tokens_spell_it_and_none_of_them_is_a_control_token(vocabulary: Vocabulary, text: str) -> None:
    tokens = vocabulary.tokenize(text)
    assert spelled(vocabulary, tokens) == writable(vocabulary, text)
    assert not any(map(vocabulary.is_control, tokens))


@careful
@given(parts=st.lists(texts, max_size=4))
@example(["a", "", " b"])
def test_a_text_in_parts_is_the_same_text(vocabulary: Vocabulary, parts: list[str]) -> None:
    tokens: list[int] = []
    for part in parts:
        tokens += vocabulary.tokenize(part, continues=bool(tokens))
    assert spelled(vocabulary, tokens) == writable(vocabulary, "".join(parts))


@careful
@given(text=texts)
def test_what_continues_a_text_is_what_the_text_alone_would_be_without_its_space(
    vocabulary: Vocabulary, text: str
) -> None:
    tokens = vocabulary.tokenize(text, continues=True)
    assert spelled(vocabulary, tokens, begins=False) == writable(vocabulary, text)
    if not puts_space(vocabulary):
        assert tokens == vocabulary.tokenize(text)


@careful
@given(text=texts)
@example("")
@example("<s>hello")
@example("<|begin_of_text|>hello")
def test_a_text_begins_with_one_bos_and_never_ends_with_eos(vocabulary: Vocabulary, text: str) -> None:
    plain = vocabulary.tokenize(text)
    begin = [vocabulary.bos_id] if vocabulary.adds_bos else []
    assert vocabulary.tokenize(text, add_bos=True) == begin + plain
    parsed = vocabulary.tokenize(text, parse_special=True)
    whole = vocabulary.tokenize(text, parse_special=True, add_bos=True)
    assert whole == (parsed if parsed[:1] == begin else begin + parsed)


@pytest.mark.parametrize("vocabulary", ["added"], indirect=True)
def test_added_words_are_tokens_of_their_own(vocabulary: Vocabulary) -> None:
    tokens = vocabulary.tokenize("a<added>b")
    assert [vocabulary.label(token) for token in tokens] == [" a", "<added>", "b"]


def test_only_falcon_lacks_some_control_characters(vocabulary: Vocabulary, request: pytest.FixtureRequest) -> None:
    everything = "".join(map(chr, range(0xD800)))
    falcon = request.node.callspec.params["vocabulary"] == "falcon"
    assert vocabulary.unwritable_in(everything) == (list(map(chr, FALCON_LACKS)) if falcon else [])


@pytest.mark.parametrize("run", ["a", " ", "\n", "漢", ".", "_", "!🙂", "a\u0301"])
def test_a_long_run_of_one_kind_is_a_text_like_any_other(vocabulary: Vocabulary, run: str) -> None:
    # a page of it overflows the stack of the expressions that llama.cpp cuts texts with
    text = run * (100_000 // len(run))
    assert spelled(vocabulary, vocabulary.tokenize(f"x{text}y")) == f"x{text}y"


@pytest.mark.parametrize("length", [4094, 4095, 4096, 6142, 6143, 6144, 8190])
def test_control_text_beside_a_long_run_is_read(vocabulary: Vocabulary, length: int) -> None:
    special = next(token for token in range(vocabulary.size) if vocabulary.is_control(token))
    for run in (".", "<", "|", "a"):
        text = f"{vocabulary.label(special)}{run * length}{vocabulary.label(special)}"
        assert vocabulary.tokenize(text, parse_special=True).count(special) == 2
