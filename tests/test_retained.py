"""A conversation's next prompt keeps the tokens that it had."""

from __future__ import annotations

import pytest
import test_prompt
import test_vocabulary
from hypothesis import example, given
from hypothesis import strategies as st

from entropix_edge.engine.prompt import tokenize_parts
from entropix_edge.llama import Vocabulary

careful, texts, vocabulary = test_vocabulary.careful, test_vocabulary.texts, test_prompt.vocabulary


def spelled(vocabulary: Vocabulary, tokens: list[int]) -> bytes:
    return b"".join(
        f"[{token}]".encode() if vocabulary.is_control(token) else vocabulary.piece(token) for token in tokens
    )


def in_pieces(vocabulary: Vocabulary, pieces: list[str]) -> list[int]:
    """A reply as a model might generate it: not as its tokenizer would write it."""
    return [token for piece in pieces for token in vocabulary.tokenize(piece, continues=True)]


@careful
@given(question=texts, reply=st.lists(texts, max_size=4), more=texts)
@example("Hi", ["Hel", "lo"], "Bye")
def test_a_past_that_is_rendered_as_it_was_keeps_every_token(
    vocabulary: Vocabulary, question: str, reply: list[str], more: str
) -> None:
    first = [("Q: ", True), (question, False), ("\nA:", True)]
    earlier = tokenize_parts(first, vocabulary) + in_pieces(vocabulary, reply)
    said = test_vocabulary.writable(vocabulary, "".join([question, *reply]))
    if said != "".join([question, *reply]):
        return  # what has no token was never in the past
    rest = [(vocabulary.eos, True), ("\nQ: ", True), (more, False), ("\nA:", True)]
    parts = [*first, ("".join(reply), False), *rest]
    tokens = tokenize_parts(parts, vocabulary, earlier)
    assert tokens[: len(earlier)] == earlier
    assert spelled(vocabulary, tokens) == spelled(vocabulary, tokenize_parts(parts, vocabulary))


@careful
@given(
    old=st.lists(st.tuples(texts, st.booleans()), max_size=4), new=st.lists(st.tuples(texts, st.booleans()), max_size=4)
)
@example([("<s>a", False)], [("<s>a", True)])
@example([("<s>a", True)], [("<s>a", False)])
@example([("a", True), ("</s>", False)], [("a</s>", True)])
def test_whatever_the_past_was_the_prompt_is_the_same(
    vocabulary: Vocabulary, old: list[tuple[str, bool]], new: list[tuple[str, bool]]
) -> None:
    earlier = tokenize_parts(old, vocabulary)
    for parts in (new, [*old, *new]):
        fresh = tokenize_parts(parts, vocabulary)
        tokens = tokenize_parts(parts, vocabulary, earlier)
        assert spelled(vocabulary, tokens) == spelled(vocabulary, fresh)
        controls = [token for token in fresh if vocabulary.is_control(token)]
        assert [token for token in tokens if vocabulary.is_control(token)] == controls
    assert tokenize_parts(old, vocabulary, earlier) == earlier


def test_a_thinking_part_that_is_left_out_leaves_what_was_before_it(vocabulary: Vocabulary) -> None:
    end = vocabulary.eos
    first = [(f"Hi{end}", True), ("Q: ", True), ("Why?", False), (f"{end}A: ", True)]
    prompt = tokenize_parts(first, vocabulary)
    earlier = prompt + in_pieces(vocabulary, ["<think>It", " depends.</think>", "Because."])
    parts = [*first, ("Because.", False), (end, True), ("Q: ", True)]
    tokens = tokenize_parts(parts, vocabulary, earlier)
    assert tokens == tokenize_parts(parts, vocabulary)
    kept = max(number for number, token in enumerate(prompt) if vocabulary.is_special(token)) + 1
    assert tokens[:kept] == prompt[:kept]


@pytest.mark.parametrize("vocabulary", ["phi-3"], indirect=True)
def test_spaces_that_a_vocabulary_leaves_out_do_not_end_what_is_kept(vocabulary: Vocabulary) -> None:
    first = [("<s><|user|>\nHi there<|end|>\n<|assistant|>\n", True)]
    prompt = tokenize_parts(first, vocabulary)
    assert [vocabulary.label(token) for token in prompt[:3]] == ["<s>", "<|user|>", " Hi"]
    earlier = [*prompt, *vocabulary.tokenize("Hel"), *in_pieces(vocabulary, ["lo"])]
    parts = [*first, ("Hello<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\n", True)]
    tokens = tokenize_parts(parts, vocabulary, earlier)
    assert tokens[: len(earlier)] == earlier
    assert tokens[len(earlier) :] == vocabulary.tokenize(
        "<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\n", parse_special=True
    )


def test_a_long_past_costs_little(vocabulary: Vocabulary) -> None:
    turn = [("Q: ", True), ("Why is it so, and not otherwise? " * 20, False), (f"A: Because.{vocabulary.eos}", True)]
    earlier = tokenize_parts(turn * 100, vocabulary)
    assert tokenize_parts(turn * 101, vocabulary, earlier)[: len(earlier)] == earlier
