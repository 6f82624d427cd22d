"""`entropix-edge chat` without a terminal: each line is a turn, and what is kept of the conversation."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny_gguf
from test_conversation import THINKING, ascii_weights

from entropix_edge.sessions import SavedConversation
from entropix_edge.types import FinishReason

COMMAND = [sys.executable, "-m", "entropix_edge"]
QUESTIONS = ["hello", "Why?", "and so", "the quick brown fox", "good night"]

Chat = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that writes printable ASCII."""
    return tiny_gguf.write_llama(tmp_path_factory.mktemp("plain") / "tiny.gguf", weights=ascii_weights())


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, whose template leaves out what was said before the last v."""
    path = tmp_path_factory.mktemp("thinking") / "tiny.gguf"
    return tiny_gguf.write_llama(path, weights=ascii_weights(), template=THINKING)


@pytest.fixture
def arguments(model: Path, compiled: None) -> list[str]:
    return [*COMMAND, "chat", str(model), "-t", "1", "-s", "1", "-n", "12", "--sampler", "temperature"]


@pytest.fixture
def chat(arguments: list[str]) -> Chat:
    def run(said: str, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*arguments, *more], input=said, capture_output=True, text=True, timeout=60)

    return run


def kept(tmp_path: Path) -> list[Path]:
    """The files of conversations, the oldest first."""
    return sorted((tmp_path / "home" / "conversations").glob("*"), key=lambda path: path.stat().st_mtime_ns)


def test_each_line_is_a_turn(chat: Chat, tmp_path: Path) -> None:
    result = chat("hello\n\n/clear\nWhy?")
    assert (result.returncode, result.stderr) == (0, "")
    (path,) = kept(tmp_path)
    turns = SavedConversation.read(path).turns
    assert [turn.question for turn in turns] == ["hello", "/clear", "Why?"]
    assert result.stdout == "".join(f"{turn.text}\n" for turn in turns)
    assert oct(path.parent.stat().st_mode & 0o777) == "0o700"


def own_tokens(question: str) -> int:
    """What the template puts around a question, and the question: this vocabulary writes a token for each byte."""
    return len(f"\nuser\n{question}\nassistant\n") + 3


@pytest.mark.parametrize("thinks", [False, True])
def test_a_turn_decodes_only_what_is_new(
    chat: Chat, arguments: list[str], thinker: Path, thinks: bool, tmp_path: Path
) -> None:
    if thinks:
        arguments[len(COMMAND) + 1] = str(thinker)
    result = chat("\n".join(QUESTIONS), "--stats")
    found = re.findall(r"prompt +(\d+) tokens(?: \((\d+) cached\))?", result.stderr)
    decoded = [int(prompt) - int(cached or 0) for prompt, cached in found]
    turns = SavedConversation.read(kept(tmp_path)[0]).turns
    assert len(decoded) == len(turns) == 5
    left_out = 0
    for earlier, later, count in zip(turns, turns[1:], decoded[1:], strict=False):
        assert earlier.finish_reason is FinishReason.LENGTH
        ending = 1  # <|im_end|>, which the reply did not come to
        if thinks and "v" in earlier.text:
            left_out += 1
            assert count <= len(earlier.text.split("v")[-1]) + ending + own_tokens(later.question)
        else:
            assert count == 1 + ending + own_tokens(later.question)  # a reply's last token is not decoded
    assert (left_out > 0) == thinks


def test_the_last_conversation_is_gone_on_with(chat: Chat, tmp_path: Path) -> None:
    chat("hello\nWhy?", "-sys", "be short")
    time.sleep(0.01)
    assert chat("and so", "--continue").returncode == 0
    (path,) = kept(tmp_path)
    saved = SavedConversation.read(path)
    assert [turn.question for turn in saved.turns] == ["hello", "Why?", "and so"]
    assert saved.system == "be short"
    chat("another")
    assert len(kept(tmp_path)) == 2


def test_the_last_conversations_model_is_opened(chat: Chat, model: Path, tmp_path: Path) -> None:
    chat("hello")
    command = [*COMMAND, "chat", "--continue", "-t", "1", "-n", "4"]
    assert subprocess.run(command, input="Why?", capture_output=True, text=True, timeout=60).returncode == 0
    assert len(SavedConversation.read(kept(tmp_path)[0]).turns) == 2
    other = tiny_gguf.write_llama(tmp_path / "other.gguf", weights=tiny_gguf.random_weights(tiny_gguf.Shape(), seed=1))
    command += ["-m", str(other)]
    refused = subprocess.run(command, input="Why?", capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert "is a conversation with tiny.gguf, and this model is other.gguf: open that model" in refused.stderr


def test_there_may_be_nothing_to_go_on_with(chat: Chat) -> None:
    result = chat("hello", "--continue")
    assert result.returncode == 2
    assert "there is no conversation to go on with" in result.stderr


def test_nothing_is_kept_where_that_is_not_wanted(chat: Chat, tmp_path: Path) -> None:
    assert chat("hello", "--no-save").returncode == 0
    assert kept(tmp_path) == []


def test_a_conversation_that_cannot_be_kept_goes_on(chat: Chat, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    result = chat("hello\nWhy?")
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr.count("the conversation is not kept") == 1


def test_a_full_context_is_said_and_loses_nothing(chat: Chat, tmp_path: Path) -> None:
    result = chat("hello\n" + "x" * 600, "-c", "256")
    assert result.returncode == 1
    assert "the context 256: shorten it or raise --ctx-size" in result.stderr
    assert [turn.question for turn in SavedConversation.read(kept(tmp_path)[0]).turns] == ["hello"]
    cut = chat("hello", "-c", "256", "-n", "-1")
    assert "the context is full: the reply ends at its 256 tokens" in cut.stderr


def test_a_model_without_a_template_holds_no_conversation(compiled: None, tmp_path: Path) -> None:
    bare = tiny_gguf.write_llama(tmp_path / "bare.gguf", template=None)
    result = subprocess.run([*COMMAND, "chat", str(bare)], input="hello", capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "bare.gguf has no chat template, so it cannot hold a conversation" in result.stderr


def test_candidates_vote_in_a_conversation(chat: Chat, tmp_path: Path) -> None:
    result = chat("hello\nWhy?", "--deliberate", "2")
    assert result.returncode == 0
    assert len(SavedConversation.read(kept(tmp_path)[0]).turns) == 2


def test_wide_text_is_read(arguments: list[str], tmp_path: Path) -> None:
    result = subprocess.run(arguments, input="hello\nWhy?\n".encode("utf-16"), capture_output=True, timeout=60)
    assert result.returncode == 0
    assert [turn.question for turn in SavedConversation.read(kept(tmp_path)[0]).turns] == ["hello", "Why?"]
    result = subprocess.run(arguments, input=b"hello\n\xff\xfe\xfa\n", capture_output=True, timeout=60)
    assert result.returncode == 1
    assert b"line 2 of standard input is not UTF-8" in result.stderr


@pytest.fixture
def talking(arguments: list[str], chat: Chat) -> Iterator[subprocess.Popen[bytes]]:
    """A conversation in which one turn was said, and another reply is under way that takes long."""
    chat("hello")
    endless = [*arguments, "--continue", "-n", "-1", "-c", "65536", "-o", "loop.span", "0"]
    with subprocess.Popen(
        endless, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"Why?\n")
        assert process.stdout.read(1)
        yield process
        process.kill()


def test_a_kill_leaves_the_conversation_up_to_the_last_turn(
    talking: subprocess.Popen[bytes], chat: Chat, tmp_path: Path
) -> None:
    talking.kill()
    assert talking.wait(timeout=60) == -signal.SIGKILL
    (path,) = kept(tmp_path)
    assert [turn.question for turn in SavedConversation.read(path).turns] == ["hello"]
    assert chat("and so", "--continue").returncode == 0
    assert [turn.question for turn in SavedConversation.read(path).turns] == ["hello", "and so"]


def test_an_interrupt_keeps_the_reply_as_far_as_it_went(talking: subprocess.Popen[bytes], tmp_path: Path) -> None:
    talking.send_signal(signal.SIGINT)
    said, _errors = talking.communicate(timeout=60)
    assert talking.returncode == 130
    turn = SavedConversation.read(kept(tmp_path)[0]).turns[-1]
    assert turn.question == "Why?"
    assert turn.finish_reason is FinishReason.CANCELLED
    assert turn.text[1:] == said.decode().removesuffix("\n")


def test_an_interrupt_while_nothing_is_asked_ends_it(arguments: list[str], tmp_path: Path) -> None:
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _said, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == b""
