"""`--abstain-below` and `--escalate`: what waits for the verdict, where the guess goes, and who is asked then."""

from __future__ import annotations

import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import tiny_gguf
from serving import serving
from test_confidence import NUMBERS, write_fits
from test_conversation import ascii_weights

from entropix_edge.addresses import is_loopback
from entropix_edge.cli import remote, run
from entropix_edge.confidence import Fit
from entropix_edge.sessions import SavedConversation
from entropix_edge.text import Message

ANY = replace(NUMBERS, answer="exact", weights={}, ranges={"length": (1.0, 99.0)})
UNSURE, SURE = replace(ANY, intercept=-1.0), replace(ANY, intercept=3.0)  # 27 % and 95 %


class Result(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that writes printable ASCII."""
    return tiny_gguf.write_llama(tmp_path_factory.mktemp("first") / "first.gguf", weights=ascii_weights())


@pytest.fixture
def generate(first: Path, compiled: None, capsys: pytest.CaptureFixture[str]) -> Cli:
    command = ["generate", "-m", str(first), "-c", "256", "-t", "1", "--sampler", "greedy", "-n", "60", "hello"]

    def invoke(*arguments: object, stop: bool = True) -> Result:
        capsys.readouterr()
        stops = [argument for letter in "XYZ&<>" for argument in ("--stop", letter)] if stop else []
        code = run([*command, *stops, *map(str, arguments)])
        return Result(code, *capsys.readouterr())

    return invoke


@pytest.fixture
def said(generate: Cli) -> str:
    """What the model says, whoever judges it."""
    result = generate()
    assert result.code == 0
    assert len(result.out) > 3
    return result.out


def fitted(model: Path, *fits: Fit) -> None:
    write_fits(model, *fits, rank=None)


# --- abstaining -----------------------------------------------------------------------------------


def test_a_guess_goes_to_standard_error(generate: Cli, first: Path, said: str) -> None:
    fitted(first, UNSURE)
    result = generate("--abstain-below", 0.3)
    assert (result.code, result.out) == (3, "")
    assert "I do not know. A guess, 27 % likely to be right, below 30 %:" in result.err
    assert said.strip() in result.err
    again = generate("--abstain-below", 0.2)
    assert (again.code, again.out) == (0, said)
    assert "guess" not in again.err


def test_a_guess_in_json(generate: Cli, first: Path, said: str) -> None:
    fitted(first, UNSURE)
    result = generate("--abstain-below", 0.3, "--json")
    record = json.loads(result.out)
    assert result.code == 3
    assert (record["text"], record["guess"].strip(), record["abstained"]) == (None, said.strip(), True)
    assert record["confidence"]["kind"] == "probability"


def test_without_a_fit_it_is_refused_before_anything_is_decoded(generate: Cli, first: Path) -> None:
    result = generate("--abstain-below", 0.5)
    assert (result.code, result.out) == (2, "")
    assert "how likely first.gguf is right was not fitted to replies by greedy" in result.err
    fitted(first, SURE)
    assert generate("--abstain-below", 0.5).code == 0
    other = generate("--abstain-below", 0.5, "--temp", 0.5, "--sampler", "temperature")
    assert other.code == 2
    assert "(only by greedy)" in other.err
    assert generate("--abstain-below", 0.5, "--deliberate", 2).code == 2


def test_a_reply_without_a_probability_is_given_and_that_is_said(generate: Cli, first: Path, said: str) -> None:
    fitted(first, replace(UNSURE, ranges={"length": (5000.0, 9999.0)}))
    result = generate("--abstain-below", 0.9)
    assert (result.code, result.out) == (0, said)
    assert "How likely this reply is right cannot be said" in result.err
    cut = generate("--abstain-below", 0.9, "-n", 2, stop=False)
    assert cut.code == 0
    assert "(it was cut)" in cut.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--below", "0.5"), "is for --escalate"),
        (("--abstain-below", "0.5", "--escalate", "x.gguf", "--below", "0.5"), "give one of them"),
        (("--abstain-below", "1.5"), "0<=x<=1"),
        (("--escalate", "ftp://host/v1", "--below", "0.5"), "is not the URL of a server"),
        (("--escalate", "https:///v1", "--below", "0.5"), "is not the URL of a server"),
        (("--escalate", "https://[::1/v1", "--below", "0.5"), "is not the URL of a server"),
        (("--escalate", "https://example.org/v1", "--below", "0.5", "--offline"), "which --offline forbids"),
        (("--escalate", "http://127.0.0.1/v1", "--below", "0.5", "--raw"), "it takes messages"),
    ],
)
def test_options_that_do_not_go_together(generate: Cli, arguments: tuple[str, ...], reason: str) -> None:
    result = generate(*arguments)
    assert (result.code, result.out) == (2, "")
    assert reason in result.err


# --- escalating -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = ascii_weights()
    weights["token_embd.weight"] = weights["token_embd.weight"][::-1].copy()
    return tiny_gguf.write_llama(tmp_path_factory.mktemp("second") / "second.gguf", weights=weights)


def test_a_second_model_answers_what_is_doubted(generate: Cli, first: Path, second: Path, said: str) -> None:
    expected = generate("-m", second).out
    assert expected != said
    fitted(first, UNSURE)
    result = generate("--escalate", second, "--below", 0.3)
    assert (result.code, result.out) == (0, expected)
    assert "27 % likely to be right, below 30 %: asking" in result.err
    assert generate("--escalate", second, "--below", 0.2).out == said
    assert generate("--escalate", second).out == expected
    record = json.loads(generate("--escalate", second, "--below", 0.3, "--json").out)
    assert (record["text"].strip(), record["guess"].strip()) == (expected.strip(), said.strip())
    assert record["escalated_to"] == str(second)


def test_where_the_second_fails_the_first_reply_stands(generate: Cli, first: Path, said: str, tmp_path: Path) -> None:
    fitted(first, UNSURE)
    for name in (tmp_path / "missing.gguf", "http://127.0.0.1:9/v1", "http://127.0.0.1:999999/v1"):
        result = generate("--escalate", name, "--below", 0.9)
        assert (result.code, result.out) == (0, said)
        assert "The first reply stands." in result.err
    record = json.loads(generate("--escalate", tmp_path / "missing.gguf", "--below", 0.9, "--json").out)
    assert record["text"].strip() == said.strip()


def test_a_server_of_ours_is_asked(generate: Cli, first: Path, second: Path, said: str) -> None:
    fitted(first, UNSURE)
    with serving(second, alias="strong") as served:
        expected = served.chat(max_tokens=60, temperature=0.0, seed=1)
        result = generate("--escalate", f"{served.url}/v1", "--below", 0.3, "--offline")
        assert result.code == 0
        assert result.out not in ("", said)
        assert len(result.out) > 5
        assert expected["model"] == "strong"
        wrong = generate("--escalate", f"{served.url}/nowhere", "--below", 0.3)
        assert wrong.out == said
        assert "answered 404" in wrong.err


# --- the server's side ----------------------------------------------------------------------------


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers what the test says, and keeps what it was asked."""

    status = 200
    body: ClassVar[bytes] = b""
    seen: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []

    def _answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length", 0)))
        type(self).seen.append((self.path, dict(self.headers), sent))
        self.send_response(type(self).status)
        self.send_header("content-length", str(len(type(self).body)))
        self.end_headers()
        self.wfile.write(type(self).body)

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def scripted() -> Iterator[str]:
    Scripted.status, Scripted.seen = 200, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_the_key_and_the_name_are_sent(scripted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    Scripted.body = json.dumps({"choices": [{"message": {"content": "four"}}]}).encode()
    messages: list[Message] = [{"role": "user", "content": "2 + 2?"}]
    assert remote.complete(f"{scripted}#big", messages, max_tokens=9) == "four"
    ((path, headers, sent),) = Scripted.seen
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert json.loads(sent) == {"model": "big", "messages": messages, "max_tokens": 9}


def test_without_a_name_the_server_s_first_model_is_meant(scripted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    Scripted.body = json.dumps({"data": [{"id": "m"}], "choices": [{"message": {"content": "x"}}]}).encode()
    assert remote.complete(scripted, []) == "x"
    assert [path for path, _headers, _sent in Scripted.seen] == ["/v1/models", "/v1/chat/completions"]
    assert json.loads(Scripted.seen[1][2])["model"] == "m"
    assert "Authorization" not in Scripted.seen[0][1]


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"hello", "something else than a JSON object"),
        (200, b"[]", "something else than a JSON object"),
        (200, b"{}", "without a text"),
        (200, b'{"choices": [{"message": {"content": null}}]}', "without a text"),
        (200, b'{"choices": 3}', "without a text"),
        (429, b'{"error": {"message": "too\\nmany"}}', "429 Too Many Requests: too many"),
        (500, b"oh", "answered 500"),
        (302, b"", "answered 302"),
    ],
)
def test_an_answer_that_is_none(scripted: str, status: int, body: bytes, reason: str) -> None:
    Scripted.status, Scripted.body = status, body
    with pytest.raises(remote.RemoteError, match=reason):
        remote.complete(f"{scripted}#m", [])


def test_a_server_that_lists_no_model(scripted: str) -> None:
    Scripted.body = b'{"data": []}'
    with pytest.raises(remote.RemoteError, match="lists no model"):
        remote.complete(scripted, [])


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("192.168.0.1", False), ("localhost.example.org", False)],
)
def test_which_hosts_are_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


# --- chat -----------------------------------------------------------------------------------------


@pytest.fixture
def chat(first: Path, compiled: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    stops = [argument for letter in "XYZ&<>" for argument in ("--stop", letter)]
    command = ["chat", str(first), "-c", "512", "-t", "1", "--sampler", "greedy", "-n", "60", *stops]

    def invoke(said: str, *arguments: object) -> Result:
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(said.encode())))
        code = run([*command, *map(str, arguments)])
        return Result(code, *capsys.readouterr())

    return invoke


def test_a_conversation_says_that_it_does_not_know(chat: Cli, first: Path) -> None:
    said = chat("hello\n").out
    assert len(said) > 3
    fitted(first, UNSURE)
    result = chat("hello\n", "--abstain-below", 0.5)
    assert (result.code, result.out) == (0, "")
    assert "I do not know." in result.err
    assert said.strip() in result.err
    assert chat("hello\n", "--abstain-below", 0.1).out == said


def test_a_conversation_without_a_fit_is_refused(chat: Cli) -> None:
    assert chat("hello\n", "--abstain-below", 0.5).code == 2


def test_a_conversation_goes_on_from_the_second_model_s_answer(
    chat: Cli, first: Path, second: Path, tmp_path: Path
) -> None:
    said = chat("hello\n").out
    fitted(first, UNSURE)
    result = chat("hello\nWhy?\n", "--escalate", second, "--below", 0.5)
    assert result.code == 0
    assert said not in result.out
    assert result.err.count("asking") == 2
    kept = max((tmp_path / "home" / "conversations").glob("*"), key=lambda path: path.stat().st_mtime_ns)
    turns = SavedConversation.read(kept).turns
    assert [turn.question for turn in turns] == ["hello", "Why?"]
    assert [turn.text.strip() for turn in turns] == result.out.split()
    assert all(turn.reply_ids == () for turn in turns)


def test_alternatives_that_only_name_unsure_tokens_are_not_in_the_trace(
    generate: Cli, first: Path, tmp_path: Path
) -> None:
    fitted(first, SURE)
    for asked in (0, 2):
        path = tmp_path / f"{asked}.jsonl"
        generate("--trace", path, "--alternatives", asked)
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()[1:]]
        tokens = [line for line in lines if "origin" in line]
        assert {len(line.get("alternatives", ())) for line in tokens} == {asked}
        (confidence,) = [line for line in lines if line.get("event") == "confidence"]
        assert confidence["kind"] == "probability"
        assert lines.index(confidence) == len(lines) - 2
