"""`entropix-edge chat` in a terminal: what is typed, what is seen, and how it is left."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_gguf
from terminals import Terminal
from test_confidence import NUMBERS, write_fits
from test_conversation import ascii_weights

from entropix_edge.render import visible
from entropix_edge.sessions import SavedConversation
from entropix_edge.types import FinishReason

COMMAND = [sys.executable, "-m", "entropix_edge"]
READY = "for help)"  # of what stands where something may be typed
SOME = re.compile(r"\n\S{40}")  # of a reply that takes long


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write_llama(tmp_path_factory.mktemp("terminal") / "tiny.gguf", weights=ascii_weights())


@pytest.fixture
def command(model: Path, compiled: None) -> list[str]:
    return [*COMMAND, "chat", str(model), "-t", "1", "-s", "1", "-n", "12", "--sampler", "temperature"]


@pytest.fixture
def endless(command: list[str]) -> list[str]:
    """The same with replies that take long."""
    return [*command, "-n", "-1", "-c", "65536", "-o", "loop.span", "0"]


def turns(tmp_path: Path) -> list[str]:
    """What was asked in the conversation that was kept last."""
    return [turn.question for turn in last(tmp_path).turns]


def last(tmp_path: Path) -> SavedConversation:
    files = (tmp_path / "home" / "conversations").glob("*.json")
    return SavedConversation.read(max(files, key=lambda path: path.stat().st_mtime_ns))


def test_a_conversation(command: list[str], tmp_path: Path) -> None:
    with Terminal(command) as terminal:
        assert "tiny.gguf, 512 tokens of context" in terminal.see(READY)
        terminal.type("hello\r")
        reply = terminal.see("(cut after 12 tokens; /more goes on)")
        (turn,) = last(tmp_path).turns
        assert turn.text in reply
        assert "tokens/s" in terminal.see("context")
        terminal.type("/why\r")
        seen = terminal.see("/branches goes another way.")
        assert "12 tokens: " in seen
        assert "The least sure places first:" in seen
        assert "entropy" in seen
        terminal.type("/branches\r")
        seen = terminal.see("any other key: none)")
        assert "instead of" in seen
        terminal.type("1")
        terminal.see("tokens; /more goes on)")
        (other,) = last(tmp_path).turns
        pairs = zip(turn.reply_ids, other.reply_ids, strict=False)
        parts = next(at for at, (one, two) in enumerate(pairs) if one != two)
        assert f"[{other.text[parts]}] instead of `{turn.text[parts]}`" in seen
        terminal.see(READY)
        terminal.type("/undo\r")
        terminal.see("One turn:")
        assert last(tmp_path).turns == (turn,)
        terminal.see(READY)
        terminal.type("/json\r")
        record = terminal.see("}\n")
        assert json.loads(record[record.index("{") :])["text"] == turn.text
        terminal.type("/bye\r")
        assert terminal.code() == 0


def test_without_a_command_it_is_a_conversation_with_the_default_model(model: Path, compiled: None) -> None:
    with Terminal(COMMAND, {"ENTROPIX_EDGE_MODEL": str(model)}) as terminal:
        terminal.see("tiny.gguf, 512 tokens of context")
        terminal.see(READY)
        terminal.type("\x04")
        assert terminal.code() == 0
    result = subprocess.run(COMMAND, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert "Usage: entropix-edge" in result.stdout + result.stderr


def test_several_lines_are_one_question(command: list[str], tmp_path: Path) -> None:
    with Terminal(command) as terminal:
        terminal.see(READY)
        terminal.type('"""one\rtwo\rthree"""\r')
        terminal.see("/more goes on")
        terminal.see(READY)
        terminal.type("\x1b[200~four\nfive\x1b[201~")
        terminal.see("five")
        terminal.type("\r")
        terminal.see("/more goes on")
        terminal.see(READY)
        terminal.type("\x04")
        assert terminal.code() == 0
    assert turns(tmp_path) == ["one\ntwo\nthree", "four\nfive"]


def test_what_was_typed_comes_back_in_the_next_conversation(command: list[str], tmp_path: Path) -> None:
    for typed in ("hello\r", "\x1b[A\r"):
        with Terminal(command) as terminal:
            terminal.see(READY)
            terminal.type(typed)
            terminal.see("/more goes on")
            terminal.see(READY)
            terminal.type("\x04")
            assert terminal.code() == 0
        assert turns(tmp_path) == ["hello"]
    history = tmp_path / "home" / "chat-history"
    assert oct(history.stat().st_mode & 0o777) == "0o600"


def test_commands_and_file_names_are_completed(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("what is in the notes")
    with Terminal(command) as terminal:
        terminal.see(READY)
        terminal.type(f"/rea\t {tmp_path}/no\t\r")
        terminal.see("notes.txt, 20 characters, goes before the next question.")
        terminal.see("with notes.txt")
        terminal.type("hm?\r")
        terminal.see("/more goes on")
        terminal.see(READY)
        terminal.type("/exit\r")
        assert terminal.code() == 0
    assert turns(tmp_path) == ["what is in the notes\n\nhm?"]


def test_what_may_follow_is_listed_above_the_line(command: list[str]) -> None:
    with Terminal(command, columns=80) as terminal:
        assert "corrected\n" in terminal.see(READY), "the colours are told in one line"
        terminal.type("/set thr\t")
        terminal.see("threads")
        terminal.type("\t")
        terminal.see("threads_batch")
        since = terminal.raw.rindex("context", 0, terminal.raw.rindex("threads_batch"))
        erased = r"\x1b\[\d+A.*\x1b\[J"  # up to the line that is typed, and all below it
        assert re.search(erased, terminal.raw[since:]), "the status line is not left above the list"
        terminal.type("_b\t 2\r")
        terminal.see("tiny.gguf, 512 tokens of context")


def test_lines_break_between_words_where_that_is_wanted(command: list[str], tmp_path: Path) -> None:
    weights = tiny_gguf.random_weights(tiny_gguf.Shape(), sharpness=2.0)
    letters = {tiny_gguf.TOKENS.index(letter) for letter in "abcdeĠ"}
    weights["output.weight"][[token for token in range(tiny_gguf.N_VOCAB) if token not in letters]] = 0
    command[command.index("chat") + 1] = str(tiny_gguf.write_llama(tmp_path / "wordy.gguf", weights=weights))
    with Terminal([*command, "-n", "200", "--color", "never"], columns=40) as terminal:
        terminal.see(READY)
        for setting in ("/set wordwrap", "/set nowordwrap"):
            terminal.type(f"{setting}\r")
            terminal.see("lines")
            terminal.see(READY)
            terminal.type("hello\r")
            terminal.see("hello\n")
            shown = terminal.see("tokens/s")
            text = visible(last(tmp_path).turns[-1].text)
            assert (text in shown) == (setting == "/set nowordwrap")
            assert text.replace("\n", " ") in shown.replace("\n", " ")


def test_an_interrupt_stops_the_reply_and_a_second_leaves(endless: list[str], tmp_path: Path) -> None:
    with Terminal(endless) as terminal:
        terminal.see(READY)
        terminal.type("hello\r")
        terminal.see(SOME)
        terminal.type("\x03")
        terminal.see("(stopped; /more goes on)")
        terminal.see(READY)
        (turn,) = last(tmp_path).turns
        assert turn.finish_reason is FinishReason.CANCELLED
        terminal.type("\x03")
        assert terminal.code() == 130


def test_an_interrupt_stops_candidates_too(endless: list[str], tmp_path: Path) -> None:
    with Terminal([*endless, "--deliberate", "2"]) as terminal:
        terminal.see(READY)
        terminal.type("hello\r")
        terminal.see("Generating up to 2 candidates")
        terminal.type("\x03")
        terminal.see("(stopped")
        terminal.see(READY)
        terminal.type("\x04")
        assert terminal.code() == 0


def test_an_interrupt_at_the_prompt_says_how_to_leave(command: list[str]) -> None:
    with Terminal(command) as terminal:
        terminal.see(READY)
        terminal.type("not what I wanted\x03")
        terminal.see(READY)  # the line is gone, and nothing else
        terminal.type("\x03")
        terminal.see("Ctrl-C once more leaves; so do Ctrl-D and /exit.")
        terminal.see(READY)
        terminal.type("\x03")
        assert terminal.code() == 130


def test_a_kill_in_a_reply_leaves_what_was_said_before(command: list[str], endless: list[str], tmp_path: Path) -> None:
    with Terminal(command) as terminal:
        terminal.see(READY)
        terminal.type("hello\r")
        terminal.see("/more goes on")
        terminal.see(READY)
        terminal.type("\x04")
        assert terminal.code() == 0
    with Terminal([*endless, "--continue"]) as terminal:
        terminal.see(">>> hello")
        terminal.see(READY)
        terminal.type("Why?\r")
        terminal.see(SOME)
        terminal.process.send_signal(signal.SIGKILL)
        assert terminal.code() == -signal.SIGKILL
    assert turns(tmp_path) == ["hello"]
    with Terminal([*command, "--continue"]) as terminal:
        terminal.see(last(tmp_path).turns[0].text)
        terminal.see(READY)
        terminal.type("and so\r")
        terminal.see("/more goes on")
    assert turns(tmp_path) == ["hello", "and so"]


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "vt100"}])
def test_terminals_that_can_do_little(command: list[str], variables: dict[str, str], tmp_path: Path) -> None:
    with Terminal(command, variables) as terminal:
        terminal.see(">>> ")
        terminal.type("hello\r")
        terminal.see("/more goes on")
        terminal.see(">>> ")
        terminal.type('"""one\r')
        terminal.see("...")
        terminal.type('two"""\r')
        terminal.see("/more goes on")
        terminal.see(">>> ")
        terminal.type("/branches\r")
        terminal.see("instead of")
        terminal.type("\r/why\r")
        terminal.see("The least sure places first:")
        if variables["TERM"] == "dumb":
            assert "\x1b" not in terminal.raw
        assert not any(f"\x1b[{colour}m" in terminal.raw for colour in range(31, 38)) or "NO_COLOR" not in variables
        terminal.see(">>> ")
        terminal.type("\x04")
        assert terminal.code() == 0
    assert turns(tmp_path) == ["hello", "one\ntwo"]


def test_another_model_or_a_larger_context_goes_on_with_what_was_said(
    command: list[str], model: Path, tmp_path: Path
) -> None:
    other = tiny_gguf.write_llama(tmp_path / "other.gguf", weights=tiny_gguf.random_weights(tiny_gguf.Shape(), seed=1))
    with Terminal([*command, "-c", "256"]) as terminal:
        terminal.see(READY)
        terminal.type("hello\r")
        terminal.see("/more goes on")
        terminal.see(READY)
        terminal.type("/set ctx_size 384\r")
        terminal.see("tiny.gguf, 384 tokens of context")
        terminal.type(f"/model {tmp_path / 'no.gguf'}\r")
        terminal.see("no.gguf")
        terminal.see(READY)
        terminal.type(f"/model {other}\r")
        terminal.see("other.gguf, 384 tokens of context")
        terminal.see(READY)
        terminal.type("Why?\r")
        terminal.see("/more goes on")
        terminal.see(READY)
        terminal.type("\x04")
        assert terminal.code() == 0
    saved = last(tmp_path)
    assert saved.model == other
    assert [turn.question for turn in saved.turns] == ["hello", "Why?"]
    assert saved.turns[0].reply_ids == ()


def test_a_model_that_cannot_be_opened_leaves_the_one_before(command: list[str], tmp_path: Path) -> None:
    bare = tiny_gguf.write_llama(tmp_path / "bare.gguf", template=None)
    with Terminal(command) as terminal:
        terminal.see(READY)
        terminal.type("hello\r")
        terminal.see("/more goes on")
        terminal.type(f"/model {bare}\r")
        terminal.see("bare.gguf has no chat template, so it cannot hold a conversation")
        terminal.see("tiny.gguf, 512 tokens of context")
        terminal.see(READY)
        terminal.type("/regen\r")
        terminal.see("/more goes on")
        terminal.see(READY)
        terminal.type("\x04")
        assert terminal.code() == 0
    assert turns(tmp_path) == ["hello"]


def test_other_commands_do_not_load_what_reads_lines() -> None:
    code = (
        "import sys\n"
        "from entropix_edge.cli import run\n"
        "run(['generate', '--help'])\n"
        "run(['chat', '--help'])\n"
        "sys.exit('prompt_toolkit' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_status_line_and_why_say_how_sure_of_the_reply_one_may_be(command: list[str], model: Path) -> None:
    write_fits(model, replace(NUMBERS, answer="exact", intercept=1.0, weights={}, ranges={"length": (1.0, 99.0)}))
    stops = [argument for letter in "XYZ&<>" for argument in ("--stop", letter)]
    with Terminal([*command, "-n", "60", "--sampler", "greedy", *stops]) as terminal:
        terminal.see(READY)
        terminal.type("hello\r")
        terminal.see("73 % likely right")
        terminal.type("/why\r")
        assert "73 % likely to be right: " in terminal.see("tokens: ")
        terminal.type("/bye\r")
        assert terminal.code() == 0
