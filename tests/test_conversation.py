"""Conversations: what each turn decodes, the way back, other ways on from a token, files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_gguf

from entropix_edge import (
    ContextError,
    Conversation,
    Engine,
    EngineConfig,
    FinishReason,
    GenerationConfig,
    Origin,
    PromptError,
    TokenEvent,
    VotingConfig,
)

THINKING = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' and not loop.last %}"
    "{{ message['content'].split('v')[-1] }}{% else %}{{ message['content'] }}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Leaves out what an assistant said before its last v, as others leave out thoughts."""

QUESTIONS = ["hello", "Why?", "and then", "the quick brown fox", "good night"]


def ascii_weights() -> tiny_gguf.Weights:
    """Weights of a model that writes printable ASCII, which a next prompt can spell."""
    weights = tiny_gguf.random_weights(tiny_gguf.Shape(), sharpness=2.0)
    printable = {tiny_gguf.TOKENS.index(chr(code)) for code in range(33, 127)}
    weights["output.weight"][[token for token in range(tiny_gguf.N_VOCAB) if token not in printable]] = 0
    return weights


@pytest.fixture(scope="module", params=["plain", "thinking"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    template = THINKING if request.param == "thinking" else tiny_gguf.CHATML
    path = tiny_gguf.write_llama(
        tmp_path_factory.mktemp("talk") / "tiny.gguf", weights=ascii_weights(), template=template
    )
    with Engine.open(path, EngineConfig(threads=1, ctx_size=512, exact=True, sequences=2)) as opened:
        yield opened


def config(seed: int = 1, n_predict: int = 12) -> GenerationConfig:
    return GenerationConfig(preset="article", sampler="temperature", seed=seed, n_predict=n_predict)


def talk(engine: Engine, questions: list[str], seed: int = 1) -> Conversation:
    conversation = Conversation(engine, system="be short")
    for number, question in enumerate(questions):
        with conversation.ask(question, config(seed + number)) as turn:
            list(turn)
    return conversation


def test_a_turn_decodes_only_what_is_new(engine: Engine) -> None:
    """The tokens that the template puts around a question and the question itself, and nothing of what was said."""
    engine.forget()
    conversation = talk(engine, QUESTIONS)
    assert any("v" in turn.text for turn in conversation.turns[:-1])
    for earlier, later in zip(conversation.turns, conversation.turns[1:], strict=False):
        assert later.reply
        said = (*earlier.prompt_ids, *earlier.reply_ids)
        kept = 0
        while kept < min(len(said), len(later.prompt_ids)) and said[kept] == later.prompt_ids[kept]:
            kept += 1
        held = len(said) - 1  # a reply's last token is not decoded
        decoded = later.reply.prompt_tokens - later.reply.cached_tokens
        assert decoded == len(later.prompt_ids) - min(kept, held, len(later.prompt_ids) - 1)
        left_out = "v" in earlier.text and THINKING in str(engine.model.chat_template)
        if not left_out:  # rendered as it was
            assert kept >= len(said) - 2, "all but what ends the turn"
        if not left_out:
            assert later.prompt_ids[: len(earlier.prompt_ids)] == earlier.prompt_ids


def test_what_is_said_is_in_the_messages(engine: Engine) -> None:
    conversation = talk(engine, QUESTIONS[:2])
    assert [message["role"] for message in conversation.messages] == ["user", "assistant"] * 2
    assert conversation.messages[0]["content"] == "hello"
    assert conversation.messages[1]["content"] == conversation.turns[0].text


def test_a_step_can_be_undone(engine: Engine) -> None:
    conversation = talk(engine, QUESTIONS[:2])
    before = conversation.turns
    with conversation.regenerate(config(seed=77)) as turn:
        list(turn)
    assert conversation.turns[:-1] == before[:-1]
    assert conversation.turns[-1].question == before[-1].question
    assert conversation.turns[-1].reply_ids != before[-1].reply_ids
    conversation.set_turns(conversation.turns[1:])
    assert len(conversation.turns) == 1
    assert conversation.undo()
    assert conversation.undo()
    assert conversation.turns == before
    while conversation.undo():
        pass
    assert not conversation.turns


def test_going_on_from_another_token_keeps_the_ids_before_it(engine: Engine) -> None:
    conversation = talk(engine, ["hello"])
    first = conversation.turns[-1]
    other = next(token for token in (70, 71) if token != first.reply_ids[4])
    with conversation.go_on_from(4, [other], config(seed=5)) as turn:
        list(turn)
    gone_on = conversation.turns[-1]
    assert gone_on.reply_ids[:5] == (*first.reply_ids[:4], other)
    assert gone_on.prompt_ids == first.prompt_ids
    assert gone_on.reply
    assert gone_on.reply.cached_tokens >= len(first.prompt_ids), "nothing is decoded again"
    assert gone_on.text.startswith(engine.model.vocabulary.piece(first.reply_ids[0]).decode("utf-8", "ignore"))
    assert conversation.undo()
    assert conversation.turns == (first,)
    with pytest.raises(PromptError, match="token 99 is not in the reply"):
        conversation.go_on_from(99, [other])


def test_a_reply_that_goes_on_from_another_token_tells_all_that_happened(engine: Engine) -> None:
    conversation = Conversation(engine)
    with conversation.ask("hello", replace(config(), alternatives=5)) as turn:
        list(turn)
    first = conversation.turns[-1]
    tokens = [event for event in first.events if isinstance(event, TokenEvent)]
    assert tuple(tokens) == first.reply.events if first.reply else ()
    other = next(each for each in tokens[4].alternatives if each.token_id != tokens[4].token_id)
    with conversation.go_on_from(4, [other.token_id], replace(config(seed=5), alternatives=5)) as turn:
        said = list(turn)
    assert [event.index for event in said] == list(range(len(conversation.turns[-1].reply_ids)))
    assert tuple(event.token_id for event in said) == conversation.turns[-1].reply_ids
    assert "".join(event.text for event in said) == conversation.turns[-1].text
    assert said[:4] == tokens[:4]
    assert said[4].text == other.text
    assert said[4].logprob == other.logprob
    assert said[4].origin is Origin.FORCED
    assert said[4].metrics == tokens[4].metrics
    assert conversation.turns[-1].events == tuple(said)


def test_a_question_can_be_asked_in_other_words(engine: Engine) -> None:
    conversation = talk(engine, QUESTIONS[:2])
    before = conversation.turns
    with conversation.revise("why not?", config()) as turn:
        list(turn)
    assert [turn.question for turn in conversation.turns] == ["hello", "why not?"]
    assert conversation.undo()
    assert conversation.turns == before
    with pytest.raises(PromptError, match="nothing was said yet"):
        Conversation(engine).revise("hm?")


def test_the_oldest_turns_are_dropped_on_request(engine: Engine) -> None:
    conversation = talk(engine, QUESTIONS[:3])
    before = conversation.turns
    with pytest.raises(PromptError, match="4 turns cannot be dropped: it must be from 1 to 3"):
        conversation.drop_oldest(4)
    conversation.drop_oldest(2)
    assert conversation.turns == before[2:]
    with conversation.ask("and now?", config()) as turn:
        list(turn)
    assert len(conversation.turns[-1].prompt_ids) < len(before[-1].prompt_ids) + len(before[-1].reply_ids)


def test_another_model_goes_on_from_the_text(engine: Engine, tmp_path: Path) -> None:
    conversation = talk(engine, QUESTIONS[:2])
    before = conversation.turns
    conversation.move_to(engine)
    assert conversation.turns == before
    other = tiny_gguf.write_llama(tmp_path / "other.gguf", weights=tiny_gguf.random_weights(tiny_gguf.Shape(), seed=1))
    with Engine.open(other, EngineConfig(threads=1, ctx_size=512)) as stranger:
        messages = conversation.messages
        conversation.move_to(stranger)
        assert conversation.messages == messages
        assert not any(turn.reply_ids or turn.prompt_ids or turn.events for turn in conversation.turns)
        with conversation.ask("and you?", config()) as turn:
            list(turn)
        assert len(conversation.turns) == 3


def test_a_reply_that_is_left_early_is_kept_as_far_as_it_went(engine: Engine) -> None:
    conversation = Conversation(engine)
    with conversation.ask("hello", config(n_predict=50)) as turn:
        for event in turn:
            if event.index == 3:
                break
    (kept,) = conversation.turns
    assert 4 <= len(kept.reply_ids) < 50
    assert kept.finish_reason is FinishReason.CANCELLED
    with conversation.ask("Why?", config()) as turn:
        list(turn)
    assert len(conversation.turns) == 2


def test_what_does_not_fit_leaves_the_conversation_as_it_was(engine: Engine) -> None:
    conversation = talk(engine, QUESTIONS[:1])
    before = conversation.turns
    with pytest.raises(PromptError, match="context"):
        conversation.ask("x" * 600, config())
    with pytest.raises(PromptError, match="empty"):
        conversation.ask("  ", config())
    assert conversation.turns == before
    assert engine.free == (10, 512)


def test_candidates_can_answer_a_turn(engine: Engine) -> None:
    conversation = Conversation(engine)
    with conversation.ask("hello", config(), voting=VotingConfig(candidates=3)) as turn:
        said = "".join(event.text for event in turn)
    assert conversation.turns[-1].text == said
    with conversation.ask("Why?", config()) as turn:
        list(turn)
    assert len(conversation.turns) == 2


def test_a_conversation_is_written_and_read_again(engine: Engine, tmp_path: Path) -> None:
    conversation = talk(engine, QUESTIONS[:3])
    path = tmp_path / "talk.json"
    conversation.save(path)
    again = Conversation.load(path, engine)
    assert again.messages == conversation.messages
    assert again.system == "be short"
    assert again.turns == tuple(replace(turn, events=(), reply=None) for turn in conversation.turns)
    texts = []
    for each in (conversation, again):
        engine.forget()
        with each.ask("and now?", config(seed=9)) as turn:
            texts.append("".join(event.text for event in turn))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": "entropix-edge conversation 1", "turns": [3]}'])
def test_what_is_not_a_conversation_is_refused(engine: Engine, tmp_path: Path, content: str) -> None:
    path = tmp_path / "talk.json"
    path.write_text(content)
    with pytest.raises(ContextError, match="is not a conversation"):
        Conversation.load(path, engine)


def test_another_models_conversation_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    talk(engine, QUESTIONS[:1]).save(path)
    other = tiny_gguf.write_llama(tmp_path / "other.gguf", weights=tiny_gguf.random_weights(tiny_gguf.Shape(), seed=1))
    with (
        Engine.open(other, EngineConfig(threads=1, ctx_size=256)) as stranger,
        pytest.raises(ContextError, match=r"a conversation with tiny\.gguf, and this model is other\.gguf"),
    ):
        Conversation.load(path, stranger)


def test_a_reply_from_a_file_is_measured_again(engine: Engine, tmp_path: Path) -> None:
    """Its tokens give the rows that they were taken from, and the whole context may be full of them."""
    conversation = talk(engine, QUESTIONS[:1])
    with conversation.ask("and then", config(n_predict=-1)) as turn:
        list(turn)
    said = conversation.turns[-1]
    assert said.finish_reason is FinishReason.CONTEXT
    conversation.save(tmp_path / "talk.json")
    loaded = Conversation.load(tmp_path / "talk.json", engine)
    assert loaded.turns[-1].reply is None
    assert loaded.measure(replace(config(), alternatives=2))
    measured = [event for event in loaded.turns[-1].events if isinstance(event, TokenEvent)]
    before = [event for event in said.events if isinstance(event, TokenEvent)]
    assert [(each.token_id, each.text) for each in measured] == [(each.token_id, each.text) for each in before]
    assert [each.strategy for each in measured] == [each.strategy for each in before]
    assert [each.logprob for each in measured] == pytest.approx([each.logprob for each in before], abs=1e-4)
    assert all(len(each.alternatives) == 2 for each in measured)
    assert not loaded.undo()
    with pytest.raises(PromptError, match="nothing was said yet"):
        Conversation(engine).measure()
