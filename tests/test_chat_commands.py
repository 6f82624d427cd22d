"""What can be typed in a conversation beside questions, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import tiny_gguf
from test_confidence import NUMBERS, write_fits
from test_conversation import ascii_weights

from entropix_edge import ConfigError, Conversation, Engine, EngineConfig, EntropixError, PromptError, TokenEvent
from entropix_edge.cli import chat
from entropix_edge.cli.conversations import Keeper, newest
from entropix_edge.cli.interrupt import Interrupt
from entropix_edge.cli.shell import Ask, Choose, Leave, Reopen, Shell
from entropix_edge.cli.slash import BY_NAME, run
from entropix_edge.cli.talk import Options, Talk
from entropix_edge.sessions import SavedConversation, as_texts

Do = Callable[[str], tuple[object, str]]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = tiny_gguf.write_llama(tmp_path_factory.mktemp("commands") / "tiny.gguf", weights=ascii_weights())
    with Engine.open(path, EngineConfig(threads=1, ctx_size=256, exact=True)) as opened:
        yield opened


@pytest.fixture
def shell(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Shell:
    made: list[Options] = []
    monkeypatch.setattr(chat, "_chat", lambda _session, opening, *_rest: made.append(opening.options))
    monkeypatch.setattr(chat, "fetch", lambda *_name, **_options: Path())
    given = ["-n", "12", "-s", "1", "--sampler", "temperature"]
    with chat.command.make_context("chat", given) as context:
        chat.command.invoke(context)
    talk = Talk(engine, made[0], Interrupt(), startup_seconds=0.1)
    talk.begin(Conversation(engine), Keeper())
    return Shell(talk, chat.command)


@pytest.fixture
def do(shell: Shell, capsys: pytest.CaptureFixture[str]) -> Do:
    """Do a line; what comes of it, and what was said on both streams."""

    def line(text: str) -> tuple[object, str]:
        outcome = run(shell, text)
        said = capsys.readouterr()
        return outcome, said.out + said.err

    return line


def questions(shell: Shell) -> list[str]:
    return [turn.question for turn in shell.talk.conversation.turns]


def test_a_line_is_a_question(do: Do, shell: Shell) -> None:
    outcome, said = do("hello")
    assert outcome is None
    assert shell.talk.conversation.turns[-1].text in said
    assert "(cut after 12 tokens; /more goes on)" in said
    do('  """one\ntwo"""')
    do(' "quoted" ')
    do(" /not a command")
    do("   ")
    assert questions(shell) == ["hello", "one\ntwo", '"quoted"', "/not a command"]


@pytest.mark.parametrize("word", ["exit", "quit", "Bye", "help"])
def test_a_command_without_its_slash_is_not_sent(do: Do, shell: Shell, word: str) -> None:
    _outcome, said = do(word)
    assert f"/{word.lower()} is the command; a space before the word makes it a question." in said
    assert questions(shell) == []


@pytest.mark.parametrize("line", ["/exit", "/bye", "/quit"])
def test_leaving(do: Do, line: str) -> None:
    assert do(line)[0] == Leave()


def test_help_names_every_command(do: Do) -> None:
    for line in ("/help", "/?"):
        _outcome, said = do(line)
        assert all(f"/{name}" in said for name in BY_NAME)
        assert '"""' in said
    assert "Answer the last question again." in do("/help regen")[1]
    assert "/set" not in do("/? /regen")[1]
    assert "Ctrl-R" in do("/? shortcuts")[1]
    assert "temperature" in do("/help set")[1]


def test_what_is_no_command_is_refused(do: Do, shell: Shell) -> None:
    with pytest.raises(ConfigError, match=r"/branchs is not a command: did you mean /branches\? \(a space before"):
        do("/branchs")
    with pytest.raises(ConfigError, match=r"/etc/Nothing is not a command: /help lists them"):
        do("/etc/Nothing says what?")
    assert questions(shell) == []
    do("/Help")
    do("// a comment\nint x;")
    assert questions(shell) == ["// a comment\nint x;"]


@pytest.mark.parametrize("form", ["{}", "'{}'", "{} what's in it?"])
def test_a_line_that_begins_with_a_files_path_offers_to_read_it(
    do: Do, shell: Shell, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("some notes\n")
    line = form.format(path)
    outcome, said = do(line)
    assert outcome == Ask(f"/read {line}")
    assert "notes.txt is a file: Enter puts it before the question." in said.replace("\n", " ")
    assert questions(shell) == []
    do(f"/read {line}")
    assert questions(shell) == (["some notes\n\nwhat's in it?"] if "?" in line else [])
    shell.attached.clear()
    do(f" {line}")
    assert questions(shell)[-1] == line


@pytest.mark.parametrize("line", ["/regen", "/edit", "/edit x", "/more", "/why", "/branches", "/json", "/drop"])
def test_what_needs_a_reply_says_so(do: Do, line: str) -> None:
    with pytest.raises(PromptError, match=r"nothing was said yet|must be from 1 to 0"):
        do(line)


def test_a_reply_can_be_made_again_and_gone_back_to(do: Do, shell: Shell) -> None:
    do("hello")
    first = shell.talk.conversation.turns[-1]
    do("/regen")
    second = shell.talk.conversation.turns[-1]
    assert second.seed == first.seed + 1
    assert second.text != first.text
    do("/regen")
    assert shell.talk.conversation.turns[-1].seed == first.seed + 2
    do("/undo")
    assert shell.talk.conversation.turns == (second,)
    assert first.text in do("/undo")[1]
    do("/undo")
    with pytest.raises(PromptError, match="no step to undo"):
        do("/undo")


def test_a_question_can_be_edited(do: Do, shell: Shell) -> None:
    do("hello")
    assert do("/edit")[0] == Ask("hello", revises=True)
    assert shell.revising
    do("hello you")
    assert questions(shell) == ["hello you"]
    assert not shell.revising
    do("and so")
    do("/edit and now")
    assert questions(shell) == ["hello you", "and now"]
    do("/edit")
    do("/show")  # anything else leaves the last question alone
    do("more")
    assert questions(shell) == ["hello you", "and now", "more"]


def test_a_cut_reply_goes_on(do: Do, shell: Shell) -> None:
    do("hello")
    first = shell.talk.conversation.turns[-1]
    do("/more")
    longer = shell.talk.conversation.turns[-1]
    assert longer.reply_ids[:12] == first.reply_ids
    assert len(longer.reply_ids) == 24
    assert longer.text.startswith(first.text)
    assert [event.index for event in longer.events if isinstance(event, TokenEvent)] == list(range(24))


def test_clearing_begins_another_conversation(do: Do, shell: Shell) -> None:
    do("hello")
    before = newest()
    do("/clear")
    assert questions(shell) == []
    do("Why?")
    assert newest() != before
    assert before
    assert len(SavedConversation.read(before).turns) == 1
    do("/undo")
    do("/undo")
    assert questions(shell) == ["hello"]


def test_a_file_is_read(do: Do, shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "my notes.txt"
    path.write_text("some notes\n")
    assert "my notes.txt, 10 characters" in do(f'/read "{path}"')[1]
    do("hm?")
    do(f"/read '{path}' what is in it")
    assert questions(shell) == ["some notes\n\nhm?", "some notes\n\nwhat is in it"]
    assert shell.attached == []
    path.write_bytes(b"\x00\xff" * 100)
    with pytest.raises(EntropixError, match=r"notes\.txt"):
        do(f'/read "{path}"')
    with pytest.raises(FileNotFoundError):
        do(f"/read {tmp_path / 'none'}")
    with pytest.raises(PromptError, match="cannot be read: No closing quotation"):
        do("/read 'x")


def test_a_full_context_says_what_can_be_done(do: Do, shell: Shell) -> None:
    do("hello")
    outcome, said = do("x" * 300)
    assert outcome == Ask("x" * 300)
    assert "and the context 256" in said
    assert "/drop leaves out the oldest turn of 1" in said
    assert "/set ctx_size 512 opens the model with a larger context" in said
    assert "/clear begins anew" in said
    assert questions(shell) == ["hello"]
    do("/set n_predict -1")
    assert "The context of 256 tokens is full: the reply ends here." in do("/regen")[1]
    do("/set n_predict 12")
    assert isinstance(do("Why?")[0], Ask)
    assert "Turns left: 0" in do("/drop")[1]
    assert do("Why?")[0] is None
    with pytest.raises(PromptError, match="2 turns cannot be dropped: it must be from 1 to 1"):
        do("/drop 2")


def test_an_attached_file_that_does_not_fit_is_kept(do: Do, shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("x" * 300)
    do(f"/read {path}")
    assert do("hm?")[0] == Ask("hm?")
    assert [name for name, _content in shell.attached] == ["long.txt"]


# --- what the model knew ------------------------------------------------------------------------------


def test_why(do: Do, shell: Shell) -> None:
    do("hello")
    text = shell.talk.conversation.turns[-1].text
    assert "12 tokens: " in do("/why")[1]
    assert len(do("/why all")[1].splitlines()) >= 13
    assert f"   3  {text[:3]}[{text[3]}]" in do("/why 3")[1]
    assert f"[{text[5]}]" in do(f"/why {text[5]}")[1]
    with pytest.raises(PromptError, match="'nothing' is not in the reply: give a word of it, or a number from 0 to 11"):
        do("/why nothing")
    with pytest.raises(PromptError, match="is not in the reply"):
        do("/why 1234567")


def test_another_way_is_gone(do: Do, shell: Shell) -> None:
    do("hello")
    first = shell.talk.conversation.turns[-1]
    outcome, said = do("/branches")
    assert isinstance(outcome, Choose)
    assert len([line for line in said.splitlines() if "instead of" in line]) == outcome.ways
    do(f"/branches {outcome.ways}")
    other = shell.talk.conversation.turns[-1]
    assert other.reply_ids != first.reply_ids
    assert other.reply is not None
    assert other.reply.cached_tokens >= len(other.prompt_ids) - 1, "the prompt is not decoded again"
    assert "chosen by you" in do("/why all")[1]
    with pytest.raises(PromptError, match="there is no way 99: it must be from 1 to"):
        do("/branches 99")
    do("/undo")
    assert shell.talk.conversation.turns == (first,)


def test_json_is_what_generate_prints(do: Do, shell: Shell) -> None:
    do("hello")
    record = json.loads(do("/json")[1])
    turn = shell.talk.conversation.turns[-1]
    assert set(record) == {"model", "text", "finish_reason", "seed", "confidence", "stats", "tokens"}
    assert record["text"] == turn.text
    assert [token["token_id"] for token in record["tokens"]] == list(turn.reply_ids)
    assert all(len(token["alternatives"]) == 5 for token in record["tokens"])


# --- files --------------------------------------------------------------------------------------------


def test_a_conversation_is_saved_with_its_cache(do: Do, shell: Shell, engine: Engine) -> None:
    do("/load")
    do("hello")
    do("Why?")
    assert "turns: 2, tokens in the KV cache: " in do("/save talk")[1]
    before = shell.talk.conversation.turns
    do("/clear")
    engine.forget()
    assert "Saved: talk" in do("/load")[1]
    assert before[-1].text in do("/load talk")[1]
    assert [turn.reply_ids for turn in shell.talk.conversation.turns] == [turn.reply_ids for turn in before]
    with pytest.raises(PromptError, match="was not generated here, so there is no record of it: /regen makes another"):
        do("/json")
    do("and so")
    reply = shell.talk.conversation.turns[-1].reply
    assert reply is not None
    assert reply.cached_tokens >= len(before[-1].prompt_ids), "it was read from the file"


def test_why_measures_a_reply_from_a_file_again(do: Do, shell: Shell, engine: Engine) -> None:
    do("hello")
    do("Why?")
    told, ways = do("/why all")[1], do("/branches")[1]
    do("/save talk")
    engine.forget()
    do("/load talk")
    assert "Measured again, since a file keeps no probabilities" in do("/why")[1].replace("\n", " ")
    assert do("/why all")[1] == told, "nothing but draws was done, and the rows are the same"
    assert do("/branches")[1] == ways
    do("/branches 1")
    assert "chosen by you" in do("/why all")[1]
    do("/undo")
    with pytest.raises(PromptError, match="no step to undo"):
        do("/undo")


def test_measuring_again_can_be_stopped(do: Do, shell: Shell) -> None:
    do("hello")
    do("/save talk")
    do("/load talk")
    shell.talk.interrupt.requested = True
    assert do("/why") == (None, "(stopped)\n")
    assert shell.talk.stopped
    shell.talk.interrupt.requested = False
    assert "12 tokens: " in do("/why")[1]


def test_what_another_model_said_cannot_be_measured(do: Do, shell: Shell) -> None:
    do("hello")
    shell.talk.conversation.turns = as_texts(shell.talk.conversation.turns)
    for line in ("/why", "/branches"):
        with pytest.raises(PromptError, match="is another model's, so this one cannot measure it"):
            do(line)


def test_nothing_saved_is_replaced_unasked(do: Do, shell: Shell) -> None:
    do("hello")
    do("/save talk")
    do("Why?")
    do("/save talk")  # it is this conversation's own
    do("/load talk")
    assert len(shell.talk.conversation.turns) == 2
    shell.saved_as = None
    with pytest.raises(PromptError, match="talk is there already: /save -f talk replaces it"):
        do("/save talk")
    do("/save -f talk")
    with pytest.raises(PromptError, match="/save needs one name"):
        do("/save")
    with pytest.raises(PromptError, match=r"no conversation is saved as 'tlak' \(saved: talk\); /model opens a model"):
        do("/load tlak")


def test_a_damaged_cache_costs_nothing_else(do: Do, shell: Shell, tmp_path: Path) -> None:
    do("hello")
    do("/save talk")
    cache = tmp_path / "home" / "saved" / "talk.cache"
    cache.write_bytes(cache.read_bytes()[:-8])
    said = do("/load talk")[1]
    assert "Its KV cache is not used, so what was said is read again" in said
    assert questions(shell) == ["hello"]


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("/set temperature 0.2", "temperature", 0.2),
        ("/set parameter temperature 0.2", "temperature", 0.2),
        ("/set --top-k 5", "top_k", 5),
        ("/set num_predict 7", "n_predict", 7),
        ("/set seed -1", "seed", None),
        ('/set stop "User:" X', "stop", ("User:", "X")),
        ("/set sampler greedy", "sampler", "greedy"),
        ("/set check true", "check", True),
        ("/set check no", "check", False),
        ("/set check default", "check", None),
        ("/set n_predict default", "n_predict", -1),
        ("/set seed default", "seed", None),
        ("/set top_k default", "top_k", None),
        ("/set stop default", "stop", ()),
    ],
)
def test_options_are_set(do: Do, shell: Shell, line: str, field: str, value: object) -> None:
    assert do(line)[0] is None
    assert getattr(shell.talk.options.sampling, field) == value


def test_a_coefficient_is_set(do: Do, shell: Shell) -> None:
    do("/set pause.entropy_above 2.5")
    preset = shell.talk.config().preset
    assert not isinstance(preset, str)
    assert preset.pause.entropy_above == 2.5
    assert "pause.entropy_above 2.5" in do("/show parameters")[1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/set temperature", "temperature needs a value: /set temperature VALUE"),
        ("/set temperature hot", "temperature is 'hot'"),
        ("/set temperature 200", "temperature is '200'"),
        ("/set pause.nothing 1", "pause.nothing"),
        ("/set nothing 1", "'nothing' cannot be set: it must be one of"),
        ("/set format json", "format cannot be set: "),
        ("/set rpc 127.0.0.1:50052", "rpc cannot be set: start `chat` with --rpc"),
        ("/set lora gone.gguf:much", "lora is 'gone.gguf:much'"),
        ("/set cache_type_k q9", "cache_type_k is 'q9'"),
        ("/set preset nothing", "nothing"),
        ("/set answer choice", "give --deliberate N too"),
        ("/set below 0.5", "is for --escalate"),
        ("/set abstain_below 0.5", "was not fitted to replies by"),
        ("/set abstain_below 50", "0<=x<=1"),
        ("/set thoughts away", "thoughts is 'away': it must be one of show, fold"),
        ("/set nothink", "this model's chat template cannot switch its thoughts: /set thoughts fold folds them"),
        ("/show nothing", "it must be one of info, parameters"),
        ("/show modelfile", "there is no Modelfile: /show info"),
    ],
)
def test_what_cannot_be_set_is_refused_and_nothing_changes(do: Do, shell: Shell, line: str, said: str) -> None:
    before = shell.talk.options
    with pytest.raises(EntropixError) as error:
        do(line)
    assert said in str(error.value)
    assert shell.talk.options == before


def test_what_needs_the_model_opened_anew(do: Do, shell: Shell, engine: Engine) -> None:
    outcome, _said = do("/set num_ctx 512")
    assert isinstance(outcome, Reopen)
    assert outcome.path == engine.model.path
    assert outcome.options.engine.ctx_size == 512
    outcome, _said = do("/set deliberate 4")
    assert isinstance(outcome, Reopen)
    assert outcome.options.engine_config().sequences == 2


def test_the_system_message(do: Do, shell: Shell) -> None:
    assert "There is no system message" in do("/system")[1]
    do("/system be short")
    assert shell.talk.conversation.system == "be short"
    do('/set system "be kind"')
    assert "be kind" in do("/show system")[1]
    do("/system none")
    assert shell.talk.conversation.system is None


def test_what_is_so_is_shown(do: Do, shell: Shell) -> None:
    do("hello")
    said = do("/show")[1]
    assert "tiny.gguf" in said
    assert f"{shell.talk.conversation.tokens} of 256 tokens used, turns: 1" in said
    assert "architecture   llama" in do("/show info")[1]
    assert "(see /show template)" in do("/show info")[1]
    assert "im_start" in do("/show template")[1]
    assert ">>> hello" in do("/show history")[1]
    assert "n_predict" in do("/set")[1]
    assert "This is tiny.gguf." in do("/model")[1]


def test_statistics_follow_where_they_are_wanted(do: Do) -> None:
    do("/set verbose")
    assert "first token after" in do("hello")[1]
    do("/set quiet")
    assert "first token after" not in do("/regen")[1]


def test_options_that_can_be_set_are_the_commands_own(shell: Shell) -> None:
    names = {parameter.name for parameter in chat.command.params if isinstance(parameter, click.Option)}
    flags = {"verbose", "quiet", "nowordwrap", "think", "nothink", "thoughts"}
    assert set(shell.settings.names(shell.talk.options)) - flags <= names


def test_a_template_is_told_whether_to_think(shell: Shell, tmp_path: Path) -> None:
    template = tiny_gguf.CHATML + "{% if enable_thinking is false %}<think></think>{% endif %}"
    path = tiny_gguf.write_llama(tmp_path / "thinker.gguf", weights=ascii_weights(), template=template)
    with Engine.open(path, EngineConfig(threads=1, ctx_size=256)) as thinker:
        shell.talk.engine = thinker
        shell.talk.begin(Conversation(thinker), Keeper())
        lengths = []
        for line in ("/set think", "/set nothink"):
            run(shell, line)
            run(shell, "hello")
            lengths.append(len(shell.talk.conversation.turns[-1].prompt_ids))
            run(shell, "/clear")
    assert lengths[1] - lengths[0] == len("<think></think>")


def test_a_threshold_is_set_where_there_is_a_fit(do: Do, shell: Shell, engine: Engine) -> None:
    write_fits(engine.model.path, NUMBERS)
    do("/set sampler greedy")
    assert do("/set abstain_below 0.5")[0] is None
    assert shell.talk.options.verdict.threshold == 0.5
    assert "abstain_below" in do("/show parameters")[1]
    do("/set abstain_below default")
    assert shell.talk.options.verdict.threshold is None
