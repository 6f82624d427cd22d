"""The server's answers in OpenAI's forms, on a tiny model behind real HTTP."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from serving import HELLO, Served, error_of, serving
from test_confidence import NUMBERS, write_fits
from test_corrections import write_sums

from entropix_edge import EngineConfig, GenerationConfig


@pytest.fixture(scope="module")
def served(tiny_model: Path) -> Iterator[Served]:
    with serving(tiny_model, EngineConfig(threads=1, exact=True)) as found:
        yield found


def text_of(chunks: list[Any], index: int = 0) -> str:
    choices = [choice for chunk in chunks if chunk != "[DONE]" for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices if choice["index"] == index)


def alike(one: Any, other: Any) -> bool:
    """Whether two values of JSON are the same, but for the last digits, which depend on what was in the cache."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == (pytest.approx(other, abs=1e-3) if isinstance(other, float) else other))


# --- chat -------------------------------------------------------------------------------------------


def test_a_chat_says_what_the_engine_says(served: Served) -> None:
    answer = served.chat(seed=7, max_tokens=12)
    reply = served.engine.generate("hello", GenerationConfig(seed=7, n_predict=12))
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "tiny"
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": reply.text, "refusal": None}
    assert choice["finish_reason"] == ("stop" if reply.finish_reason == "stop" else "length")
    assert "entropix" not in choice
    usage = answer["usage"]
    assert usage["prompt_tokens"] == reply.prompt_tokens
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_is_the_same_piece_by_piece(served: Served) -> None:
    whole = served.chat(seed=3, max_tokens=16)
    chunks = served.stream(seed=3, max_tokens=16, stream_options={"include_usage": True})
    assert chunks[-1] == "[DONE]"
    first, *rest, last, usage = chunks[:-1]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert first["choices"][0]["finish_reason"] is None
    assert text_of(chunks) == whole["choices"][0]["message"]["content"]
    assert last["choices"][0]["delta"] == {}
    assert last["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert usage["choices"] == []
    assert usage["usage"] | {"prompt_tokens_details": 0} == whole["usage"] | {"prompt_tokens_details": 0}
    assert all("usage" not in chunk for chunk in (first, *rest, last))
    assert len({chunk["id"] for chunk in chunks[:-1]}) == 1
    assert {chunk["object"] for chunk in chunks[:-1]} == {"chat.completion.chunk"}


def test_without_being_asked_a_stream_tells_no_usage(served: Served) -> None:
    chunks = served.stream(seed=3, max_tokens=4)
    assert all("usage" not in chunk for chunk in chunks[:-1])


def test_the_older_path_is_the_same(served: Served) -> None:
    body = {"messages": HELLO, "seed": 3, "max_tokens": 5}
    one, other = (served.post(path, **body).json() for path in ("/v1/chat/completions", "/chat/completions"))
    assert one["choices"] == other["choices"]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        [{"role": "user", "content": "hello", "name": "someone"}],
    ],
)
def test_a_message_may_come_in_parts(served: Served, messages: Any) -> None:
    assert served.chat(messages, seed=1, max_tokens=6)["choices"] == served.chat(seed=1, max_tokens=6)["choices"]


def test_a_developer_is_the_system(served: Served) -> None:
    answers = [
        served.chat([{"role": role, "content": "be kind"}, *HELLO], seed=1, max_tokens=6)["choices"]
        for role in ("system", "developer")
    ]
    assert answers[0] == answers[1]


def test_a_last_message_of_the_assistants_is_continued(served: Served) -> None:
    prompt = served.engine.tokenize_prompt("hello")
    answer = served.chat([*HELLO, {"role": "assistant", "content": "Well,"}], temperature=0, max_tokens=8)
    tokens = [*prompt, *served.engine.model.vocabulary.tokenize("Well,", continues=True)]
    completed = served.complete(tokens, temperature=0, max_tokens=8)
    assert answer["choices"][0]["message"]["content"] == completed["choices"][0]["text"]
    assert answer["usage"]["prompt_tokens"] == len(tokens)


def test_template_variables_reach_the_template(tmp_path: Path) -> None:
    import tiny_gguf

    template = "{{ mood }}:{% for message in messages %}{{ message['content'] }}{% endfor %}"
    model = tiny_gguf.write_llama(tmp_path / "moody.gguf", template=template)
    with serving(model) as served:
        answer = served.chat(max_tokens=1, chat_template_kwargs={"mood": "glad"})
        assert answer["usage"]["prompt_tokens"] == len("glad:hello")


# --- limits and sampling ----------------------------------------------------------------------------


def test_the_number_of_tokens_is_limited_by_either_name(served: Served) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        answer = served.chat(**{name: 3, "temperature": 0})
        assert answer["usage"]["completion_tokens"] <= 3
        assert answer["choices"][0]["finish_reason"] == "length"


def test_without_a_limit_a_reply_ends_with_its_context(served: Served) -> None:
    answer = served.chat(temperature=0, entropix={"options": {"loop.span": 0}})
    assert answer["usage"]["total_tokens"] <= 256
    assert answer["choices"][0]["finish_reason"] in ("length", "stop")


def test_a_seed_repeats_a_reply(served: Served) -> None:
    texts = [served.chat(seed=seed, max_tokens=20, temperature=1.5)["choices"] for seed in (5, 5, 6)]
    assert texts[0] == texts[1] != texts[2]


def test_temperature_0_needs_no_seed(served: Served) -> None:
    assert served.chat(temperature=0, max_tokens=12)["choices"] == served.chat(temperature=0, max_tokens=12)["choices"]


def test_several_replies_have_seeds_of_their_own(served: Served) -> None:
    answer = served.chat(n=3, seed=5, max_tokens=10, temperature=1.5)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    alone = [
        served.chat(seed=seed, max_tokens=10, temperature=1.5)["choices"][0]["message"]["content"] for seed in (5, 6, 7)
    ]
    assert texts == alone
    assert answer["usage"]["prompt_tokens"] == served.chat(max_tokens=1)["usage"]["prompt_tokens"]
    chunks = served.stream(n=3, seed=5, max_tokens=10, temperature=1.5)
    assert [text_of(chunks, index) for index in range(3)] == texts


def test_a_stop_text_ends_the_reply_before_it(served: Served) -> None:
    whole = served.chat(seed=1, max_tokens=30)["choices"][0]["message"]["content"]
    for stop in (whole[4], [whole[4], "never"]):
        answer = served.chat(seed=1, max_tokens=30, stop=stop)
        assert answer["choices"][0]["message"]["content"] == whole[: whole.index(whole[4])]
        assert answer["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "neutral",
    [
        {"frequency_penalty": 0, "presence_penalty": 0.0, "repetition_penalty": 1},
        {"logit_bias": {}, "tools": [], "tool_choice": "none", "functions": [], "parallel_tool_calls": True},
        {"response_format": {"type": "text"}, "user": "me", "metadata": {"a": "b"}, "store": False, "unheard_of": [1]},
        dict.fromkeys(["stop", "n", "seed", "logprobs", "top_logprobs", "temperature", "top_p", "stream", "tools"]),
        {"entropix": None, "model": None, "max_completion_tokens": None, "stream_options": None},
    ],
)
def test_what_asks_for_nothing_is_accepted(served: Served, neutral: dict[str, Any]) -> None:
    usual = served.chat(temperature=0, max_tokens=4)["choices"]
    assert served.chat(**neutral | {"temperature": 0, "max_tokens": 4})["choices"] == usual


# --- logprobs ---------------------------------------------------------------------------------------


def test_logprobs_have_an_entry_for_each_token(served: Served) -> None:
    answer = served.chat(seed=2, max_tokens=12, logprobs=True, top_logprobs=3)
    entries = answer["choices"][0]["logprobs"]["content"]
    assert len(entries) == answer["usage"]["completion_tokens"]
    reply = served.engine.generate("hello", GenerationConfig(seed=2, n_predict=12, alternatives=3))
    for entry, event in zip(entries, reply.events, strict=False):
        assert event.token_id is not None
        assert bytes(entry["bytes"]) == served.engine.model.vocabulary.piece(event.token_id)
        assert entry["logprob"] == pytest.approx(event.logprob, abs=1e-4)
        assert [top["logprob"] for top in entry["top_logprobs"]] == pytest.approx(
            [each.logprob for each in event.alternatives], abs=1e-4
        )
        assert len(entry["top_logprobs"]) == 3
    said = b"".join(bytes(entry["bytes"]) for entry in entries).decode("utf-8", "replace")
    assert said.startswith(answer["choices"][0]["message"]["content"].rstrip("\ufffd"))


def test_logprobs_are_of_the_raw_distribution(served: Served) -> None:
    cold, hot = (
        served.chat(seed=2, max_tokens=1, logprobs=True, top_logprobs=5, temperature=temperature)["choices"][0]
        for temperature in (0, 1.5)
    )
    assert alike(cold["logprobs"]["content"][0]["top_logprobs"], hot["logprobs"]["content"][0]["top_logprobs"])


def test_a_stream_has_the_same_logprobs(served: Served) -> None:
    whole = served.chat(seed=2, max_tokens=12, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    chunks = served.stream(seed=2, max_tokens=12, logprobs=True, top_logprobs=2)
    found = [chunk["choices"][0]["logprobs"] for chunk in chunks[:-1]]
    assert alike([entry for each in found if each for entry in each["content"]], whole)


def test_logprobs_without_top_ones(served: Served) -> None:
    answer = served.chat(seed=2, max_tokens=3, logprobs=True)
    assert all(entry["top_logprobs"] == [] for entry in answer["choices"][0]["logprobs"]["content"])


# --- completions ------------------------------------------------------------------------------------


def test_a_completion_goes_on_from_text_or_ids(served: Served) -> None:
    tokens = served.post("/tokenize", content="once upon").json()["tokens"]
    by_text, by_ids, by_lists = (
        served.complete(prompt, seed=1, max_tokens=8) for prompt in ("once upon", tokens, [tokens])
    )
    assert by_text["object"] == "text_completion"
    assert by_text["choices"] == by_ids["choices"] == by_lists["choices"]


def test_several_prompts_are_answered_in_their_order(served: Served) -> None:
    together = served.complete(["one", "two"], n=2, seed=1, max_tokens=6, temperature=1.5)["choices"]
    apart = [
        served.complete(prompt, seed=seed, max_tokens=6, temperature=1.5)["choices"][0]["text"]
        for prompt, seed in (("one", 1), ("one", 2), ("two", 3), ("two", 4))
    ]
    assert [choice["text"] for choice in together] == apart


def test_a_streamed_completion_is_the_same(served: Served) -> None:
    whole = served.complete("once", seed=1, max_tokens=12, logprobs=2)
    chunks = served.stream("/v1/completions", prompt="once", seed=1, max_tokens=12, logprobs=2)
    assert chunks[-1] == "[DONE]"
    assert {chunk["object"] for chunk in chunks[:-1]} == {"text_completion"}
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == whole["choices"][0]["text"]
    streamed = [chunk["choices"][0]["logprobs"] for chunk in chunks[:-1]]
    for field in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert alike([one for each in streamed if each for one in each[field]], whole["choices"][0]["logprobs"][field])


def test_the_older_logprobs_are_four_lists(served: Served) -> None:
    answer = served.complete("once", seed=1, max_tokens=6, logprobs=2)
    found = answer["choices"][0]["logprobs"]
    count = answer["usage"]["completion_tokens"]
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(
        ("tokens", "token_logprobs", "top_logprobs", "text_offset"), count
    )
    assert all(2 <= len(top) <= 3 for top in found["top_logprobs"])
    assert found["text_offset"][0] == 0
    assert served.complete("once", max_tokens=2, logprobs=0)["choices"][0]["logprobs"]["top_logprobs"] is None


# --- the extension ----------------------------------------------------------------------------------


def test_the_extension_tells_all_that_a_trace_tells(served: Served) -> None:
    answer = served.chat(seed=1, max_tokens=40, entropix={"tokens": True, "branches": True})
    told = answer["choices"][0]["entropix"]
    reply = served.engine.generate("hello", GenerationConfig(seed=1, n_predict=40, alternatives=5))
    tokens = [event for event in told["events"] if "origin" in event]
    assert [event["token_id"] for event in tokens] == [event.token_id for event in reply.events]
    assert len(told["events"]) == len(reply.events) + len(reply.side_events)
    assert len(tokens[0]["alternatives"]) == 5
    assert tokens[0]["metrics"]["attention"] is not None
    summary = told["summary"]
    entropies = [event.metrics.entropy for event in reply.events if event.metrics]
    assert summary["tokens"] == len(entropies)
    assert summary["mean_entropy"] == pytest.approx(sum(entropies) / len(entropies), rel=1e-4)
    assert summary["total_entropy"] == pytest.approx(sum(entropies), rel=1e-4)
    assert summary["greatest_entropy"] == pytest.approx(max(entropies), rel=1e-4)
    assert summary["least_sure"][0]["entropy"] == pytest.approx(max(entropies), rel=1e-4)
    assert summary["perplexity"] == pytest.approx(
        math.exp(-sum(event.logprob for event in reply.events if event.logprob is not None) / len(entropies)),
        rel=1e-4,
    )
    assert sum(summary["strategies"].values()) == pytest.approx(1)
    assert summary["extra_decoded_tokens"] == reply.decoded_tokens - (len(reply.events) - 1)
    assert summary["seed"] == 1


def test_a_stream_has_the_extension_beside_the_delta(served: Served) -> None:
    asked = {"tokens": True, "branches": True, "alternatives": 2}
    whole = served.chat(seed=1, max_tokens=20, entropix=asked)["choices"][0]["entropix"]
    chunks = served.stream(seed=1, max_tokens=20, entropix=asked)[:-1]
    choices = [chunk["choices"][0] for chunk in chunks]
    assert all("entropix" not in choice["delta"] for choice in choices)
    told = [choice["entropix"] for choice in choices if "entropix" in choice]
    assert alike([event for each in told for event in each.get("events", ())], whole["events"])
    assert alike([each["summary"] for each in told if "summary" in each], [whole["summary"]])
    assert "summary" in choices[-1]["entropix"]


def test_an_empty_extension_is_a_summary(served: Served) -> None:
    told = served.chat(seed=1, max_tokens=5, entropix={})["choices"][0]["entropix"]
    assert set(told) == {"summary"}


def test_attention_may_be_left_out(served: Served) -> None:
    told = served.chat(seed=1, max_tokens=3, entropix={"tokens": True, "attention": False})["choices"][0]["entropix"]
    assert all(event["metrics"]["attention"] is None for event in told["events"])


def test_options_and_presets_change_the_table(served: Served) -> None:
    everything = {"argmax.entropy_below": 100, "argmax.varentropy_below": 1000}
    told = served.chat(seed=1, max_tokens=6, entropix={"options": everything})["choices"][0]["entropix"]
    assert told["summary"]["strategies"]["argmax"] == 1
    article = served.chat(seed=1, max_tokens=20, entropix={"preset": "article"})["choices"][0]
    reply = served.engine.generate("hello", GenerationConfig(seed=1, n_predict=20, preset="article"))
    assert article["message"]["content"] == reply.text


def test_a_reply_begins_with_exact_tokens(served: Served) -> None:
    whole = served.chat(temperature=0, max_tokens=10, entropix={"tokens": True})["choices"][0]
    ids = [event["token_id"] for event in whole["entropix"]["events"]]
    again = served.chat(temperature=0, max_tokens=6, entropix={"tokens": True, "begin_tokens": ids[:4]})
    (choice,) = again["choices"]
    assert choice["message"]["content"] == whole["message"]["content"]
    assert [event["token_id"] for event in choice["entropix"].get("events", ())] == ids[4:]
    assert again["usage"]["completion_tokens"] == 6
    assert again["usage"]["prompt_tokens"] == len(served.engine.tokenize_prompt("hello")) + 4


def test_the_best_of_several_replies(served: Served) -> None:
    answer = served.chat(seed=1, max_tokens=8, entropix={"deliberate": 4, "branches": True, "tokens": True})
    told = answer["choices"][0]["entropix"]
    candidates = [event for event in told["events"] if event.get("event") == "candidate"]
    assert 2 <= len(candidates) <= 4
    (kept,) = [candidate for candidate in candidates if candidate["kept"]]
    assert kept["text"] == answer["choices"][0]["message"]["content"]
    assert kept["token_ids"] == [event["token_id"] for event in told["events"] if "origin" in event]
    assert told["summary"]["extra_decoded_tokens"] > 0
    chunks = served.stream(seed=1, max_tokens=8, entropix={"deliberate": 4, "answer": "exact"})
    assert chunks[-1] == "[DONE]"
    assert text_of(chunks)


def test_sums_are_checked_where_that_is_asked_for(tmp_path: Path) -> None:
    def corrections(server: Served, **asked: object) -> int:
        extension = {"sampler": "temperature", "branches": True, **asked}
        answer = server.complete("7*8=56;3*4=12;", n=8, seed=5, max_tokens=200, entropix=extension)
        told = [event for choice in answer["choices"] for event in choice["entropix"].get("events", ())]
        return sum(event.get("event") == "correction" for event in told)

    with serving(write_sums(tmp_path), parallel=8) as started:
        assert corrections(started) == corrections(started, check=False) == 0
        assert corrections(started, check=True) > 0


# --- the rest ---------------------------------------------------------------------------------------


def test_models_tell_how_long_a_conversation_may_be(served: Served) -> None:
    listed = served.http.get("/v1/models").json()
    (card,) = listed["data"]
    assert card == served.http.get("/v1/models/tiny").json()
    assert card["context_length"] == card["max_model_len"] == card["meta"]["n_ctx"] == 256
    assert card["meta"]["n_ctx_train"] == 512
    assert error_of(served.http.get("/v1/models/other"), 404)["code"] == "model_not_found"


def test_tokens_and_back(served: Served) -> None:
    text = "hello <|im_end|> ... é"
    tokens = served.post("/tokenize", content=text).json()["tokens"]
    assert 2 in tokens, "control tokens are read"
    assert 2 not in served.post("/tokenize", content=text, parse_special=False).json()["tokens"]
    assert served.post("/detokenize", tokens=served.post("/tokenize", content="h ... é").json()["tokens"]).json() == {
        "content": "h ... é"
    }
    pieces = served.post("/tokenize", content="é", with_pieces=True).json()["tokens"]
    assert pieces == [{"id": pieces[0]["id"], "piece": [0xC3]}, {"id": pieces[1]["id"], "piece": [0xA9]}]


def test_properties_and_health(served: Served) -> None:
    assert served.http.get("/health").json() == {"status": "ok"}
    props = served.http.get("/props").json()
    assert props["total_slots"] == 4
    assert props["n_ctx"] == 256
    assert props["default_generation_settings"]["preset"]["name"] == "edge"
    assert "/" not in props["model_file"]


def test_the_description_names_every_field_of_a_request(served: Served) -> None:
    described = served.http.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    fields = described["components"]["schemas"]["ChatRequest"]["properties"]
    assert {"messages", "logprobs", "entropix", "chat_template_kwargs", "temperature"} <= set(fields)
    assert json.dumps(described).count("#/components/schemas/") > 10


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/responses", "/v1/files/some", "/v1/audio/speech"])
def test_what_is_not_built_says_so(served: Served, path: str) -> None:
    assert error_of(served.post(path, input="x"), 501)["code"] == "not_implemented"


def test_the_summary_says_how_sure_of_the_reply_one_may_be(tiny_model: Path) -> None:
    write_fits(tiny_model, replace(NUMBERS, answer="exact", intercept=1.0, weights={}, ranges={"length": (1.0, 99.0)}))
    with serving(tiny_model, defaults=lambda load: GenerationConfig(preset=load("edge"), sampler="greedy")) as served:
        said = served.chat(max_tokens=60)["choices"][0]["message"]["content"]
        stop = next(letter for letter in said[3:] if letter.isprintable() and letter != "\ufffd")
        for stream in (False, True):
            if stream:
                chunks = served.stream(max_tokens=60, stop=stop, entropix={})
                choice = next(each["choices"][0] for each in reversed(chunks) if each != "[DONE]" and each["choices"])
            else:
                choice = served.chat(max_tokens=60, stop=stop, entropix={})["choices"][0]
            confidence = choice["entropix"]["summary"]["confidence"]
            assert confidence["kind"] == "probability"
            assert confidence["value"] == pytest.approx(0.731, abs=1e-3)
            assert confidence["meaning"] == "73 % likely to be right"
        cut = served.chat(max_tokens=2, entropix={})["choices"][0]["entropix"]["summary"]
        assert cut["confidence"] is None
