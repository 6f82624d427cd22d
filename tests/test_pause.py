"""Pause texts resolved by a scripted tokenizer, and by the tokenizers of real models."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CHECKOUT

from entropix_edge.errors import ConfigError
from entropix_edge.llama import Model
from entropix_edge.sampling import resolve_pause
from entropix_edge.strategy import load_preset

VOCABULARIES = CHECKOUT.parent / "shared" / "data" / "vocabs"


class ScriptedTokenizer:
    """Knows the given texts only; ids from 900 are control tokens, from 800 tokens without bytes."""

    def __init__(self, **known: list[int]) -> None:
        self.known = {name.replace("_", " "): tokens for name, tokens in known.items()}
        self.asked: list[str] = []

    def tokenize(self, text: str, *, continues: bool = False) -> list[int]:
        self.asked.append(text)
        return self.known.get(text, [])

    def is_control(self, token: int) -> bool:
        return token >= 900

    def piece(self, token: int) -> bytes:
        return b"" if token >= 800 else b"x"


# --- the scripted tokenizer -----------------------------------------------------------------------


def test_a_text_that_is_one_token_is_taken_as_given() -> None:
    assert resolve_pause([" so"], ScriptedTokenizer(_so=[5], so=[6])) == (5,)


def test_the_space_is_dropped_where_only_that_makes_one_token() -> None:
    assert resolve_pause([" so"], ScriptedTokenizer(_so=[1, 2], so=[6])) == (6,)


def test_a_space_is_added_where_only_that_makes_one_token() -> None:
    assert resolve_pause(["so"], ScriptedTokenizer(so=[1, 2], _so=[5])) == (5,)


def test_each_text_is_tried_with_and_without_its_space_in_order() -> None:
    tokenizer = ScriptedTokenizer(a=[1])
    resolve_pause([" a", "b"], tokenizer)
    assert tokenizer.asked == [" a", "a", "b", " b"]


def test_a_lone_space_is_not_tried_without_itself() -> None:
    tokenizer = ScriptedTokenizer(_=[3])
    assert resolve_pause([" "], tokenizer) == (3,)
    assert tokenizer.asked == [" "]


def test_among_single_tokens_the_first_text_wins() -> None:
    assert resolve_pause(["a", "b"], ScriptedTokenizer(a=[1], b=[2])) == (1,)


def test_a_single_token_of_a_later_text_beats_a_sequence_of_an_earlier() -> None:
    assert resolve_pause(["a", "b"], ScriptedTokenizer(a=[1, 2], b=[3])) == (3,)


def test_without_a_single_token_the_first_of_the_shortest_sequences_is_inserted_whole() -> None:
    tokenizer = ScriptedTokenizer(a=[1, 2, 3], b=[4, 5], c=[6, 7])
    assert resolve_pause(["a", "b", "c"], tokenizer) == (4, 5)


def test_a_control_token_is_never_a_pause() -> None:
    assert resolve_pause(["a", "b"], ScriptedTokenizer(a=[900], b=[1, 2])) == (1, 2)


def test_a_sequence_with_a_control_token_in_it_is_never_a_pause() -> None:
    assert resolve_pause(["a", "b"], ScriptedTokenizer(a=[1, 900], b=[1, 2, 3])) == (1, 2, 3)


def test_a_token_without_bytes_is_never_a_pause() -> None:
    assert resolve_pause(["a", "b"], ScriptedTokenizer(a=[800], b=[1, 2])) == (1, 2)


@pytest.mark.parametrize("known", [{}, {"a": [900]}, {"a": [800]}, {"a": [1, 900], "_a": [900]}])
def test_nothing_usable_is_refused_with_the_texts(known: dict[str, list[int]]) -> None:
    with pytest.raises(ConfigError, match=r"no pause text of \['a'\] can be written with this model's tokens"):
        resolve_pause(["a"], ScriptedTokenizer(**known))


# --- real tokenizers ------------------------------------------------------------------------------

# name: the ids of " ...", "..." and " Wait"; and what a pause of " ..." is
TABLE = {
    "llama-bpe": ([2564], [1131], [14144], (2564,)),
    "qwen2": ([2503], [1112], [13824], (2503,)),
    "gpt-2": ([2644], [986], [16314], (2644,)),
    "deepseek-llm": ([3564], [1204], [22944], (3564,)),
    "falcon": ([204, 951], [951], [15787], (951,)),
    "llama-spm": ([29871, 2023], [2023], [29871, 20340], (2023,)),
    "phi-3": ([29871, 2023], [2023], [29871, 20340], (2023,)),
}
SMOLLM2 = ([4563], [2026], [22297], (4563,))


@pytest.fixture(scope="module", params=[*TABLE, pytest.param("smollm2", marks=pytest.mark.model)])
def real(request: pytest.FixtureRequest) -> Iterator[tuple[str, Model]]:
    """A tokenizer of the table, with its name."""
    name: str = request.param
    if name == "smollm2":
        path: Path = request.getfixturevalue("default_model")
    else:
        path = VOCABULARIES / f"ggml-vocab-{name}.gguf"
        if not path.exists():
            pytest.skip(f"no vocabulary of {name} in {VOCABULARIES}")
    with Model(path, vocabulary_only=True) as model:
        yield name, model


def row_of(name: str) -> tuple[list[int], list[int], list[int], tuple[int, ...]]:
    return SMOLLM2 if name == "smollm2" else TABLE[name]


def test_a_real_tokenizer_writes_the_texts_of_the_table(real: tuple[str, Model]) -> None:
    name, model = real
    spaced, bare, wait, _pause = row_of(name)
    assert model.vocabulary.tokenize(" ...") == spaced
    assert model.vocabulary.tokenize("...") == bare
    assert model.vocabulary.tokenize(" Wait") == wait


def test_the_pause_of_a_real_tokenizer_is_its_own_single_token(real: tuple[str, Model]) -> None:
    name, model = real
    pause = resolve_pause(load_preset("article").pause.texts, model.vocabulary)
    assert pause == row_of(name)[3]
    assert b"".join(map(model.vocabulary.piece, pause)).strip() == b"..."


def test_a_thought_opener_is_inserted_whole_and_reads_as_written(real: tuple[str, Model]) -> None:
    _name, model = real
    pause = resolve_pause(["Wait, let me think."], model.vocabulary)
    assert b"".join(map(model.vocabulary.piece, pause)).strip() == b"Wait, let me think."


def test_control_token_text_is_never_read_as_a_control_token(real: tuple[str, Model]) -> None:
    _name, model = real
    end = model.vocabulary.eos
    pause = resolve_pause([end], model.vocabulary)
    assert not any(model.vocabulary.is_control(token) for token in pause)
    assert b"".join(map(model.vocabulary.piece, pause)).strip() == end.encode()


def test_the_constant_of_the_original_is_a_pause_only_where_it_reads_as_one(real: tuple[str, Model]) -> None:
    name, model = real
    piece = model.vocabulary.piece(2564)
    assert piece == {"llama-bpe": b" ...", "qwen2": b".html"}.get(name, piece)
    assert (2564 in resolve_pause([" ...", "Wait,"], model.vocabulary)) == (piece == b" ...")
