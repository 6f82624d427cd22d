"""The clients that people use, unchanged, against the default model: openai, langchain-openai, litellm, llm.

They come with the extra `clients`. Where one is missing its tests are skipped, and fail where `CI` is set.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Served, serving, until

from entropix_edge import EngineConfig

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

ASKED = [{"role": "user", "content": "Why is the sky blue?"}]
LONG = [{"role": "user", "content": "Write a long story about the sea."}]


def client(name: str) -> Any:
    """A client's package; its test is skipped, and fails in CI, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        message = f"{name} is not installed: pip install 'entropix-edge[clients]'"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="module")
def served(default_model: Path) -> Iterator[Served]:
    config = EngineConfig(threads=1)
    with serving(default_model, config, ctx_size=1024, parallel=2, alias="smollm2", api_keys=("sesame",)) as found:
        yield found


@pytest.fixture
def openai(served: Served) -> Any:
    return client("openai").OpenAI(base_url=f"{served.url}/v1", api_key="sesame", max_retries=0)


# --- openai -----------------------------------------------------------------------------------------


def test_openai_creates(openai: Any) -> None:
    (model,) = openai.models.list().data
    asked = {"model": model.id, "messages": ASKED, "max_completion_tokens": 60, "temperature": 0, "stop": ["."]}
    answer = openai.chat.completions.create(**asked)
    assert "sky" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    again = openai.chat.completions.create(**asked)
    assert again.choices[0].message.content == answer.choices[0].message.content
    assert again.usage.prompt_tokens_details.cached_tokens == again.usage.prompt_tokens


def test_openai_streams(openai: Any) -> None:
    usage = {"include_usage": True}
    asked = {"model": "x", "messages": ASKED, "max_tokens": 30, "temperature": 0}
    whole = openai.chat.completions.create(**asked)
    chunks = list(openai.chat.completions.create(**asked, stream=True, stream_options=usage))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_openais_helper_gathers_a_stream(openai: Any) -> None:
    """It adds up what it finds in `delta`, the extension's fields beside it must not disturb that."""
    asked = {"model": "x", "messages": ASKED, "max_tokens": 60, "temperature": 0, "stop": "."}
    asked |= {"logprobs": True, "top_logprobs": 2}
    extension = {"entropix": {"tokens": True, "branches": True}}
    with openai.chat.completions.stream(**asked, extra_body=extension) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done", "logprobs.content.delta"} <= kinds
    whole = openai.chat.completions.create(**asked)
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert len(final.choices[0].logprobs.content) == whole.usage.completion_tokens


def test_openai_reads_logprobs(openai: Any) -> None:
    asked = {"model": "x", "messages": ASKED, "max_tokens": 10, "temperature": 0}
    answer = openai.chat.completions.create(**asked, logprobs=True, top_logprobs=4)
    entries = answer.choices[0].logprobs.content
    assert "".join(entry.token for entry in entries) == answer.choices[0].message.content
    assert all(entry.token == entry.top_logprobs[0].token for entry in entries), "the most probable one was taken"
    assert all(len(entry.top_logprobs) == 4 for entry in entries)
    legacy = openai.completions.create(model="x", prompt="The capital of France is", max_tokens=4, logprobs=3)
    assert len(legacy.choices[0].logprobs.tokens) == 4


def test_openai_names_errors(openai: Any) -> None:
    package = client("openai")
    with pytest.raises(package.BadRequestError, match="maximum context length is 1024 tokens") as failed:
        openai.chat.completions.create(model="x", messages=[{"role": "user", "content": "word " * 2000}])
    assert failed.value.code == "context_length_exceeded"
    with pytest.raises(package.AuthenticationError):
        openai.with_options(api_key="wrong").models.list()
    with pytest.raises(package.BadRequestError, match="response_format"):
        openai.chat.completions.create(model="x", messages=ASKED, response_format={"type": "json_object"})


def test_openai_works_side_by_side(served: Served) -> None:
    package = client("openai")

    async def ask() -> list[str]:
        async with package.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sesame", max_retries=0) as openai:
            asked = {"model": "x", "messages": ASKED, "max_tokens": 20, "temperature": 0}
            answers = await asyncio.gather(*(openai.chat.completions.create(**asked) for _ in range(6)))
            return [answer.choices[0].message.content for answer in answers]

    texts = asyncio.run(ask())
    assert all("sky" in text for text in texts)


def test_openai_cancels(served: Served, openai: Any) -> None:
    stream = openai.chat.completions.create(model="x", messages=LONG, stream=True, max_tokens=900)
    assert next(iter(stream))
    stream.close()
    until(lambda: served.engine.jobs == (0, 0))

    async def give_up() -> None:
        package = client("openai")
        async with package.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sesame", max_retries=0) as other:
            task = asyncio.create_task(other.chat.completions.create(model="x", messages=LONG, max_tokens=900))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(give_up())
    until(lambda: served.engine.jobs == (0, 0))


# --- others -----------------------------------------------------------------------------------------


def test_langchain(served: Served) -> None:
    package = client("langchain_openai")
    chat = package.ChatOpenAI(
        base_url=f"{served.url}/v1", api_key="sesame", model="smollm2", temperature=0, max_tokens=30, max_retries=0
    )
    answer = chat.invoke(ASKED)
    assert "sky" in answer.content
    assert answer.usage_metadata["input_tokens"] > 0
    chunks = list(chat.stream(ASKED, stream_usage=True))
    assert "".join(chunk.content for chunk in chunks) == answer.content
    with_logprobs = chat.bind(logprobs=True, top_logprobs=2).invoke(ASKED)
    assert len(with_logprobs.response_metadata["logprobs"]["content"]) > 3
    assert asyncio.run(chat.ainvoke(ASKED)).content == answer.content
    completion = package.OpenAI(
        base_url=f"{served.url}/v1", api_key="sesame", model="smollm2", temperature=0, max_tokens=5, max_retries=0
    )
    assert completion.invoke("The capital of France is")


def test_litellm(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would ask the network
    package = client("litellm")
    asked: dict[str, Any] = {
        "model": "openai/smollm2",
        "api_base": f"{served.url}/v1",
        "api_key": "sesame",
        "messages": ASKED,
        "max_tokens": 30,
        "temperature": 0,
        "num_retries": 0,
    }
    answer = package.completion(**asked)
    assert "sky" in answer.choices[0].message.content
    assert answer.usage.prompt_tokens > 0
    chunks = list(package.completion(**asked, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == answer.choices[0].message.content
    with pytest.raises(package.ContextWindowExceededError):
        package.completion(**asked | {"messages": [{"role": "user", "content": "word " * 2000}]})


def test_llm(served: Served, tmp_path: Path) -> None:
    client("llm")
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: local\n  model_name: smollm2\n  api_base: {served.url}/v1\n  api_key_name: local\n"
    )
    (tmp_path / "keys.json").write_text('{"local": "sesame"}')
    environment = os.environ | {"LLM_USER_PATH": str(tmp_path)}

    def llm(*arguments: str) -> str:
        command = [sys.executable, "-m", "llm", *arguments]
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    options = ["-m", "local", "-o", "temperature", "0", "-o", "max_tokens", "30"]
    streamed = llm(*options, "Why is the sky blue?")
    assert "sky" in streamed
    assert llm(*options, "--no-stream", "Why is the sky blue?") == streamed
    assert "input_tokens" in llm("logs", "-n", "1", "--json")
    assert llm(*options, "-c", "And of Italy?")
