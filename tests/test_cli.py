"""The command line, in this process: what goes to standard output, what to standard error, and the exit code."""

from __future__ import annotations

import io
import json
import logging
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import click
import damaged
import pytest
import tiny_gguf

from entropix_edge.cli import run
from entropix_edge.cli.console import set_up_logging
from entropix_edge.cli.options import takes
from entropix_edge.render import read_trace


class Result(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(compiled: None, capsys: pytest.CaptureFixture[str]) -> Cli:
    def invoke(*arguments: object) -> Result:
        code = run([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return invoke


@pytest.fixture
def generate(cli: Cli, tiny_model: Path) -> Cli:
    def invoke(*arguments: object, model: Path = tiny_model) -> Result:
        return cli("generate", "-m", model, "-c", 256, "-t", 1, "-s", 1, "-n", 12, *arguments)

    return invoke


def one_line(error: str) -> str:
    """The error's last line; nothing that looks like a traceback above it."""
    assert "Traceback" not in error
    return error.strip().splitlines()[-1]


# --- output ---------------------------------------------------------------------------------------


def test_standard_output_is_the_text_and_nothing_else(generate: Cli) -> None:
    sampler = ("--sampler", "temperature")  # that of the table says whose thresholds it uses
    first, second = generate("hello", *sampler), generate("hello", *sampler)
    assert first == second
    assert first.code == 0
    assert first.err == ""
    assert first.out.endswith("\n")
    as_json = json.loads(generate("hello", *sampler, "--json").out)
    assert first.out.rstrip("\n") == as_json["text"].rstrip("\n")


def test_json_is_one_object_with_statistics(generate: Cli) -> None:
    record = json.loads(generate("hello", "--json").out)
    assert set(record) == {"model", "text", "finish_reason", "seed", "confidence", "stats"}
    assert record["seed"] == 1
    assert record["finish_reason"] in ("length", "stop")
    assert record["stats"]["tokens"] <= 12
    assert sum(record["stats"]["strategies"].values()) == pytest.approx(1)


def test_colour_is_there_when_asked_and_only_then(generate: Cli) -> None:
    plain, coloured = generate("hello"), generate("hello", "--color", "always")
    assert "\x1b[" not in plain.out
    assert "\x1b[" in coloured.out
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured.out) == plain.out


def test_statistics_go_to_standard_error(generate: Cli) -> None:
    result = generate("hello", "--stats")
    assert result.out == generate("hello").out
    for word in ("tokens/s", "first token after", "entropy", "attention", "MiB", "seed"):
        assert word in result.err


def test_a_trace_has_one_object_a_token(generate: Cli, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    result = generate("hello", "--trace", trace)
    header, *lines = map(json.loads, trace.read_text("utf-8").splitlines())
    assert header["seed"] == 1
    assert header["preset"]["name"] == "edge"
    assert header["attention_layers"] == [2]
    assert "origin" not in header
    assert "".join(line["text"] for line in lines) == result.out.removesuffix("\n")
    for index, line in enumerate(lines):
        assert line["index"] == index
        assert line["origin"] in ("sampled", "forced", "branch")
        assert line["strategy"] in ("argmax", "branch", "pause", "resample", "adaptive")
        numbers = [line["logprob"], line["metrics"]["entropy"], line["metrics"]["varentropy"]]
        numbers += line["metrics"]["attention"].values()
        assert len(numbers) == 7
        assert all(map(math.isfinite, numbers))
        attended = header["prompt_tokens"] + index
        assert 0 <= line["metrics"]["attention"]["entropy"] <= math.log2(attended)
    assert lines[-1]["finish_reason"] is not None
    assert not any(line["finish_reason"] for line in lines[:-1])


def test_alternatives_are_in_the_trace_and_in_json(generate: Cli, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    plain = json.loads(generate("hello", "--json").out)
    record = json.loads(generate("hello", "--json", "--alternatives", 3, "--trace", trace).out)
    assert record["text"] == plain["text"]
    assert "tokens" not in plain
    lines = [json.loads(line) for line in trace.read_text("utf-8").splitlines()[1:]]
    assert [line["alternatives"] for line in lines] == [token["alternatives"] for token in record["tokens"]]
    for token in record["tokens"]:
        logprobs = [each["logprob"] for each in token["alternatives"]]
        assert len(logprobs) == 3
        assert logprobs == sorted(logprobs, reverse=True)
        same = [each["logprob"] for each in token["alternatives"] if each["token_id"] == token["token_id"]]
        assert same in ([], [token["logprob"]])
    assert "alternatives" not in json.loads(plain_trace(generate, tmp_path))


def plain_trace(generate: Cli, tmp_path: Path) -> str:
    """The first token's line of a trace without alternatives."""
    generate("hello", "--trace", tmp_path / "plain.jsonl")
    return (tmp_path / "plain.jsonl").read_text("utf-8").splitlines()[1]


def test_variables_reach_the_chat_template(cli: Cli, tmp_path: Path) -> None:
    template = "{% for message in messages %}{{ message.content }}{% endfor %}{% if shout %}!{% endif %}"
    model = tiny_gguf.write_llama(tmp_path / "shouting.gguf", template=template)
    given = ("generate", "-m", model, "-c", 256, "-t", 1, "-s", 1, "-n", 12)
    plain, quiet, loud = (
        cli(*given, "hello", *variables)
        for variables in ((), ("--chat-template-kwargs", "{}"), ("--chat-template-kwargs", '{"shout": true}'))
    )
    assert plain == quiet
    assert loud.code == 0
    assert loud.out == cli(*given, "hello!").out != plain.out
    candidates = ("--deliberate", 2, "--json")
    assert (
        json.loads(cli(*given, *candidates, "hello", "--chat-template-kwargs", '{"shout": true}').out)["candidates"]
        == json.loads(cli(*given, *candidates, "hello!").out)["candidates"]
    )


def test_terminal_control_characters_are_shown_not_sent() -> None:
    from entropix_edge.render import TextPrinter
    from entropix_edge.types import TokenEvent

    shown = io.StringIO()
    TextPrinter(shown, colour=False, terminal=True).write(TokenEvent(0, 1, "a\x1b]0;title\x07b\n\tc\x9b2J"))
    assert shown.getvalue() == "a␛]0;title␇b\n\tc\ufffd2J"


def test_a_trace_is_not_written_over_something_else(generate: Cli, tiny_model: Path, tmp_path: Path) -> None:
    held = tiny_model.read_bytes()
    copy, notes, trace = tmp_path / "copy.gguf", tmp_path / "notes.txt", tmp_path / "trace.jsonl"
    copy.write_bytes(held)
    notes.write_bytes(b"mine")
    for file in (copy, notes):
        result = generate("--trace", file, "-f", notes, model=copy)
        assert (result.code, result.out) == (2, "")
        assert one_line(result.err).endswith("is not a trace: give an earlier one, an empty file, or a new path")
    assert (copy.read_bytes(), notes.read_bytes()) == (held, b"mine")
    trace.touch()
    assert [generate("--trace", trace, "hello").code for _ in range(2)] == [0, 0]
    assert len(read_trace(trace).tokens) == 12


def test_a_stranger_s_control_characters_are_shown_not_sent(cli: Cli, tmp_path: Path) -> None:
    evil = "\x1b]0;title\x07\x1b[2J"
    path = tiny_gguf.write_llama(
        tmp_path / "evil.gguf", template="{{ raise_exception('" + evil + "') }}", name=f"tiny{evil}\nfile /etc/passwd"
    )
    info, refused = cli("info", path), cli("generate", "-m", path, "hello")
    assert "\x1b" not in info.out + refused.err
    assert "tiny␛]0;title␇␛[2J file /etc/passwd" in info.out
    assert "␛]0;title␇␛[2J" in one_line(refused.err)
    assert json.loads(cli("info", path, "--json").out)["name"] == f"tiny{evil}\nfile /etc/passwd"


# --- input ----------------------------------------------------------------------------------------


def test_the_prompt_may_come_from_anywhere(generate: Cli, tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"hello")
    outputs = {generate("hello").out, generate("-p", "hello").out, generate("-f", file).out}
    assert len(outputs) == 1
    assert generate("-f", file, "world").out == generate("hello\nworld").out


@pytest.mark.parametrize("option", [("-p",), ("-sys",), ("--stop",), ()])
def test_texts_on_the_command_line_are_utf_8_or_refused(generate: Cli, option: tuple[str, ...]) -> None:
    prompt = ("hello",) if option in [("-sys",), ("--stop",)] else ()

    def outcome(data: bytes, encoding: str = "ascii") -> Result:
        # bytes that the locale's encoding does not have come as surrogates
        return generate("--json", *prompt, *option, data.decode(encoding, "surrogateescape"))

    def timeless(result: Result) -> tuple[int, str]:
        return result.code, re.sub(r'"stats".*', "", result.out)

    cafe = "café"
    asked = outcome(cafe.encode(), "utf-8")
    assert timeless(outcome(cafe.encode())) == timeless(asked)
    assert asked.code == 0
    refused = outcome(cafe.encode("latin-1"))
    assert (refused.code, refused.out) == (2, "")
    assert "'caf\\xe9' is not UTF-8 text: byte 3 is 0xE9" in one_line(refused.err)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_end_of_the_last_line_is_no_part_of_a_prompt(generate: Cli, tmp_path: Path, ending: str) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes(f"hello{ending}".encode())
    assert generate("--raw", "-f", file).out == generate("--raw", "hello").out
    file.write_bytes(f"hello{ending}{ending}".encode())  # an empty line is meant
    assert generate("--raw", "-f", file).out == generate("--raw", f"hello{ending}").out


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_prompt_file_in_a_known_encoding_is_read(generate: Cli, tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("hello é", encoding)
    assert generate("-f", file).out == generate("hello é").out


def test_a_prompt_file_in_an_unknown_encoding_is_refused(generate: Cli, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("Grüße", "latin-1")
    result = generate("-f", file)
    assert (result.code, result.out) == (1, "")
    assert one_line(result.err).startswith(f"Error: {file} is not UTF-8 text: byte 2 is 0xFC; if it is Latin-1")


def test_options_reach_the_table(generate: Cli) -> None:
    assert (
        generate("hello", "--sampler", "greedy").out == generate("hello", "--temp", 0, "--sampler", "temperature").out
    )
    lost = {"pause.entropy_above": 0, "pause.varentropy_below": 1e9, "pause.cooldown": 0, "branch.entropy_below": 0}
    options = [part for key, value in (lost | {"argmax.entropy_below": 0}).items() for part in ("-o", key, value)]
    assert " ..." in generate("hello", *options).out


def test_a_system_message_and_raw_change_the_prompt(generate: Cli) -> None:
    texts = {generate("hello").out, generate("hello", "-sys", "be brief").out, generate("hello", "--raw").out}
    assert len(texts) == 3


def test_a_users_own_preset_is_a_file(generate: Cli, tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text("[sampler]\ntemperature = 0.0\n[adaptive]\ntemperature_uncertainty = 0.0\n")
    assert generate("hello", "--preset", preset).code == 0


# --- usage errors: exit code 2, one line --------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "the prompt is empty"),
        (("",), "the prompt is empty"),
        (("  ",), "the prompt is empty"),
        (("hi", "-n", "0"), "0 must be at least 1, or -1"),
        (("hi", "-n", "-7"), "-7 must be at least 1, or -1"),
        (("hi", "-n", "many"), "'many' is not a whole number"),
        (("hi", "--temp", "hot"), "'hot' is not a valid float"),
        (("hi", "--temp", "-1"), "-1"),
        (("hi", "--temp", "nan"), "sampler.temperature is nan"),
        (("hi", "--top-p", "1.5"), "1.5"),
        (("hi", "--min-p", "-0.1"), "-0.1"),
        (("hi", "--top-k", "-3"), "-3"),
        (("hi", "-s", "-2"), "-2 must be from 0"),
        (("hi", "-c", "-5"), "-5"),
        (("hi", "-t", "0"), "0"),
        (("hi", "-ngl", "some"), "'some' must be auto, all, or a number of layers"),
        (("hi", "--attention", "first"), "'first' must be last, all, off, or layer numbers"),
        (("hi", "--attention", "99"), "attention layer 99 does not exist: this model has 0 to 2"),
        (("hi", "--sampler", "magic"), "'magic'"),
        (("hi", "--preset", "magic"), "preset 'magic' is not known"),
        (("hi", "-o", "pause.entropy", "1"), "option 'pause.entropy' is not known: did you mean pause.entropy_above"),
        (("hi", "-o", "branch.top_k_min", "2.5"), "branch.top_k_min is '2.5'"),
        (("hi", "-o", "adaptive.draws", "0"), "adaptive.draws is 0: it must be a whole number from 1 to 1000"),
        (("hi", "-o", "pause.entropy_above"), "requires 2 arguments"),
        (("hi", "-hf", "user/repo"), "both name a model"),
        (("hi", "--stop", ""), "each stop text must be non-empty"),
        (("hi", "--nonsense"), "No such option"),
        (("hi", "--json", "--alternatives", "21"), "0<=x<=20"),
        (("hi", "--alternatives", "2"), "are written to --trace and --json"),
        (("hi", "--chat-template-kwargs", "no"), "'no' must be a JSON object"),
        (("hi", "--chat-template-kwargs", "[1]"), "'[1]' must be a JSON object"),
        (("hi", "--raw", "--chat-template-kwargs", '{"a": 1}'), "do not go together"),
        (("hi", "--chat-template-kwargs", '{"messages": 1}'), "chat_template_kwargs names 'messages'"),
        (("hi", "-f", "/no/such/file"), "/no/such/file"),
    ],
)
def test_wrong_usage_is_refused(generate: Cli, arguments: Sequence[str], complaint: str) -> None:
    result = generate(*arguments)
    assert result.code == (1 if "/no/such" in str(arguments) else 2)
    assert result.out == ""
    assert complaint in one_line(result.err)


# --- bad files: exit code 1, one line -------------------------------------------------------------


@pytest.fixture(scope="session")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bad")
    return damaged.damaged_files(folder, damaged.write_good(folder / "good.gguf"))


def test_damaged_files_are_refused(cli: Cli, bad_files: dict[str, Path]) -> None:
    for name, path in bad_files.items():
        result = cli("generate", "-m", path, "hi")
        assert result.code == 1, name
        assert result.out == "", name
        assert result.err.count("\n") == 1, (name, result.err)
        assert path.name in result.err, name


@pytest.mark.parametrize("command", ["generate", "info"])
def test_what_is_no_model_is_refused(cli: Cli, command: str, tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("not a model")
    for name, complaint in (
        (tmp_path / "none.gguf", "none.gguf"),
        (tmp_path, "directory"),
        (tmp_path / "text.gguf", "text.gguf"),
    ):
        arguments = (command, "-m", name, "hi") if command == "generate" else (command, name)
        result = cli(*arguments)
        assert result.code == 1
        assert complaint in one_line(result.err)


def test_an_embedding_model_cannot_generate(cli: Cli, tmp_path: Path) -> None:
    path = tiny_gguf.write_llama(tmp_path / "embedder.gguf", architecture="bert")
    result = cli("generate", "-m", path, "hi")
    assert result.code == 1
    assert "embedder.gguf" in one_line(result.err)


def test_a_context_larger_than_memory_is_refused(generate: Cli) -> None:
    result = generate("hi", "-c", 2_000_000_000)
    assert result.code == 1
    assert "GiB" in one_line(result.err)


def test_a_prompt_longer_than_the_context_is_refused(generate: Cli) -> None:
    result = generate("word " * 300)
    assert result.code == 1
    assert "the context 256" in one_line(result.err)


@pytest.mark.parametrize("place", ["/no/such/folder/trace", "/"])
def test_a_trace_that_cannot_be_opened_is_refused(generate: Cli, place: str) -> None:
    result = generate("hi", "--trace", place)
    assert result.code in (1, 2)
    assert result.out == ""
    assert place in one_line(result.err)


def test_a_full_disk_ends_the_trace_and_not_the_reply(generate: Cli) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    result = generate("hello", "--trace", "/dev/full")
    assert result.out == generate("hello").out
    assert "the trace ends here: /dev/full: No space left on device" in result.err
    assert result.code == 1


# --- the other commands ---------------------------------------------------------------------------


def test_info_describes_a_model(cli: Cli, tiny_model: Path) -> None:
    result = cli("info", tiny_model)
    assert result.code == 0
    facts = {line[:14].strip(): line[15:] for line in result.out.splitlines()}
    assert facts["architecture"] == "llama"
    assert facts["layers"] == "3"
    assert facts["context"] == "512 tokens"
    assert facts["quantisation"] == "F32"
    assert "' ...'" in facts["pause"]
    assert "CPU" in facts["device"]
    record = json.loads(cli("info", tiny_model, "--json").out)
    assert record["n_layers"] == 3
    assert record["pause"] == [[tiny_gguf.TOKENS.index("Ġ..."), " ..."]]
    assert cli("info", tiny_model, "--template").out.strip() == tiny_gguf.CHATML.strip()


def test_info_reads_a_vocabulary_alone(cli: Cli, tmp_path: Path) -> None:
    path = tiny_gguf.write_vocabulary(tmp_path / "vocabulary.gguf")
    result = cli("info", path)
    assert result.code == 0
    assert "vocabulary only" in result.out
    assert "' ...'" in result.out


def test_ls_and_rm_know_what_is_not_there(cli: Cli) -> None:
    assert cli("ls", "--json").code == 0
    result = cli("rm", "user/nothing")
    assert result.code == 1
    assert "user/nothing" in one_line(result.err)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("generate", "--help"), ("info", "-h")])
def test_help_is_given(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli(*arguments).code == 0


def test_an_unknown_command_is_a_usage_error(cli: Cli) -> None:
    assert cli("gnerate").code == 2


def test_a_warning_is_said_once_and_goes_to_who_has_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """rich takes standard error's place while it draws, so that lines come above what it draws."""
    set_up_logging(verbose=True)
    logger = logging.getLogger("entropix_edge")
    drawing = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", drawing)
        logger.warning("the model is %s", "odd")
    logger.warning("the model is odd")
    logger.debug("a step")
    logger.debug("a step")
    assert drawing.getvalue() == "Warning: the model is odd\n"
    assert capsys.readouterr().err == "a step\na step\n"


def test_groups_of_options_fill_from_the_command_line() -> None:
    seen: list[object] = []

    class Group(NamedTuple):
        number: Annotated[int, click.option("--number", type=int, default=3)]
        names: Annotated[tuple[str, ...], click.argument("names", nargs=-1)]

        @property
        def total(self) -> int:
            return self.number * len(self.names)

    @click.command()
    @takes(group=Group)
    @click.option("--other", default="x")
    def command(group: Group, other: str) -> None:
        seen.extend((group, group.total, other))

    command.main(["a", "b", "--number", "5"], standalone_mode=False)
    assert seen == [Group(5, ("a", "b")), 10, "x"]
