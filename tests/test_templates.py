"""Chat templates: what they use works, what strangers write does no harm, and nobody's words are lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from entropix_edge.errors import TemplateError
from entropix_edge.text import ChatTemplate, ControlText, Message, Renderer


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with Renderer(seconds=0.5) as renderer:
        yield renderer


ASK: list[Message] = [{"role": "user", "content": "Hi"}]

CHATML = """{% for message in messages %}
    {% if loop.first and message.role != 'system' %}
{{ bos_token }}<|im_start|>system
You help.<|im_end|>
    {% endif %}
<|im_start|>{{ message['role'] }}
{{ message.content | trim }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""


def rendered(renderer: Renderer, source: str, messages: list[Message] = ASK) -> str:
    """What the source makes of messages, lost words and all."""
    given = {"messages": messages, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
    return renderer.render(source, given)


def failure(renderer: Renderer, source: str, messages: list[Message] = ASK) -> str:
    """What is said of a template that fails: one line, soon, and no other error."""
    start = time.perf_counter()
    with pytest.raises(TemplateError) as caught:
        rendered(renderer, source, messages)
    assert time.perf_counter() - start < 5
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


# --- control text ---------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["|upper", "|lower", "|trim", "|title", ".strip()", "|replace('x', 'y')", "|e"])
def test_marks_survive_what_templates_do_to_content(renderer: Renderer, change: str) -> None:
    control = ControlText(["</s>"])
    source = "{{ messages[0].content" + change + " }}</s>"
    split = control.split(rendered(renderer, source, control.mark([{"role": "user", "content": " a </s> b "}])))
    assert [allowed for _part, allowed in split] == [True, False, True]
    assert not any("</s>" in part.lower() for part, allowed in split[:2] if allowed)
    assert "\ue000" not in "".join(part for part, _allowed in split)


def test_a_template_that_cuts_marks_apart_frees_no_later_control_text(renderer: Renderer) -> None:
    control = ControlText(["</think>", "<|im_end|>"])
    messages: list[Message] = [
        {"role": "assistant", "content": "a </think> b"},
        {"role": "user", "content": "c <|im_end|> d"},
    ]
    source = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}"
    split = control.split(rendered(renderer, source, control.mark(messages)))
    assert ("<|im_end|>", False) in split
    assert "".join(part for part, _allowed in split) == " bc <|im_end|> d"


# --- what templates use ---------------------------------------------------------------------------


def test_a_chatml_template_frames_each_turn_and_asks_for_the_next(renderer: Renderer) -> None:
    messages: list[Message] = [*ASK, {"role": "assistant", "content": " Hello! "}, {"role": "user", "content": "Bye"}]
    assert rendered(renderer, CHATML, messages) == (
        "<s><|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}|{{ eos_token }}|{{ add_generation_prompt }}", "<s>|</s>|True"),
        ("{% if tools %}tools{% endif %}{{ nothing }}.", "."),
        ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),  # trim_blocks and lstrip_blocks
        ("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
        ("{% for i in range(4) %}{% if i is odd %}{% continue %}{% endif %}{{ i }}{% endfor %}", "02"),
        ("{{ messages | tojson }}", '[{"role": "user", "content": "Hi"}]'),
        ("{{ {'a': '<é&>'} | tojson }}", '{"a": "<é&>"}'),
        ("{{ {'b': 1, 'a': 2} | tojson(indent=2, sort_keys=true) }}", '{\n  "a": 2,\n  "b": 1\n}'),
        ("{{ {'a': 1} | tojson(separators=(',', ':')) }}", '{"a":1}'),
        ("{% set ns = namespace(n=0) %}{% for i in range(5) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "10"),
        ("{% macro turn(m) %}[{{ m.content }}]{% endmacro %}{{ turn(messages[0]) }}", "[Hi]"),
        (
            "{{ 'a' ~ 1 ~ none }}{{ 'a' + 'b' }}{{ 3 * 'ab' }}{{ 2 ** 10 }}{{ '%s-%03d' % ('x', 7) }}",
            "a1Noneabababab1024x-007",
        ),
        ("{{ '%s and %s' | format(1, 2) }}{{ '{} {x:>3}'.format(1, x=2) }}", "1 and 21   2"),
        (
            "{{ ['a', 'b'] | join(', ') }}{{ '-'.join(['c', 'd']) }}{{ messages | join(attribute='role') }}",
            "a, bc-duser",
        ),
        ("{{ 'aXa'.replace('a', 'bb') }}{{ 'aXa' | replace('a', 'c', 1) }}", "bbXbbcXa"),
        ("{{ 'a\nb' | indent(2) }}{{ [1, 2] | sum }}{{ messages[0].content.split('i')[0].upper() }}", "a\n  b3H"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list | length }}", "1"),
        ("{{ messages[::-1][0]['content'] }}{{ messages[-1].content[:1] }}", "HiH"),
        ("", ""),
    ],
)
def test_what_templates_use_works(renderer: Renderer, source: str, text: str) -> None:
    assert rendered(renderer, source) == text


def test_a_template_may_ask_for_the_date(renderer: Renderer) -> None:
    days = {datetime.now().strftime("%d %b %Y")}
    days.add(rendered(renderer, "{{ strftime_now('%d %b %Y') }}"))
    days.add(datetime.now().strftime("%d %b %Y"))
    assert len(days) <= 2  # or midnight came


def test_a_template_may_refuse_the_messages(renderer: Renderer) -> None:
    message = failure(renderer, "{{ raise_exception('Roles must\n\nalternate') }}")
    assert message == "the model's chat template refuses these messages: Roles must alternate"


def test_a_refusal_of_any_length_is_short(renderer: Renderer) -> None:
    assert failure(renderer, "{{ raise_exception('many words ' * 100000) }}").endswith(" …")
    assert failure(renderer, "{{ raise_exception('a' * 100000) }}").endswith(" …")
    assert failure(renderer, "{{ raise_exception() }}")


@pytest.mark.parametrize(
    "source",
    [
        "{% if %}",
        "{{ 'unfinished",
        "{% for x in y %}",
        "{{ 1 | nofilter }}",
        "{% include 'other' %}{% nothing %}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ " + "9" * 5000 + " }}",
        "{{ " + "not " * 5000 + "1 }}",
        "{{ " + "+".join("1" * 5000) + " }}",
        "".join(f"{{% for i{depth} in [1] %}}" for depth in range(30)) + "{% endfor %}" * 30,
    ],
    ids=[
        "no condition",
        "open string",
        "open loop",
        "unknown filter",
        "unknown statement",
        "parentheses",
        "digits",
        "negations",
        "a long sum",
        "deep loops",
    ],
)
def test_text_that_is_no_template_is_refused(renderer: Renderer, source: str) -> None:
    assert failure(renderer, source).startswith("the model's chat template does not parse: ")
    assert failure(renderer, source).endswith(": use raw=True")


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1 / 0 }}",
        "{{ nothing.at.all }}",
        "{{ messages[9].content }}",
        "{{ 1 + 'a' }}",
        "{{ 5() }}",
        "{% include 'x' %}",
        "{{ messages | map('nofilter') | list }}",
    ],
)
def test_a_template_that_fails_says_so(renderer: Renderer, source: str) -> None:
    assert failure(renderer, source).startswith("the model's chat template failed: ")


# --- hostile templates ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        "''.__class__.__mro__[1].__subclasses__()",
        "''['__class__'].__mro__",
        "().__class__.__base__.__subclasses__()",
        "messages.__class__.__init__.__globals__",
        "cycler.__init__.__globals__.os.popen('id').read()",
        "joiner.__init__.__globals__",
        "namespace.__init__.__globals__",
        "lipsum.__globals__['os'].popen('id').read()",
        "range.__class__.__base__",
        "dict.__base__.__subclasses__()",
        "raise_exception.__globals__.sys",
        "strftime_now.__globals__",
        "strftime_now.__code__.co_consts",
        "self._TemplateReference__context.environment.globals",
        "self.__init__.__globals__",
        "loop_missing.__class__.__init__.__globals__",
        "''|attr('__class__')|attr('__mro__')",
        "(''|attr('__cla' ~ 'ss__')).__mro__",
        "('' | attr('\\x5f\\x5fclass\\x5f\\x5f')).__mro__",
        "[''] | map(attribute='__class__') | map(attribute='__mro__') | list | first | first | attr('x')",
        "messages | map('attr', '__class__') | first | attr('__mro__') | list | first",
        "(messages | groupby('__class__'))[0].grouper.__mro__",
        "'{0.__class__}'.format(messages)",
        "'{0.__class__.__init__.__globals__}'.format(raise_exception)",
        "'{x.__class__}'.format_map({'x': messages})",
        "('{0.__class__}' | attr('format'))(messages)",
        "''.join.__self__.__class__.__mro__",
        "'%s' | format(messages.__class__)",
        "messages.append({'role': 'user', 'content': 'x'})",
        "messages.clear()",
        "messages.pop()",
        "messages.sort()",
        "messages[0].update(content='x')",
        "messages[0].pop('content')",
        "messages[0].setdefault('x', 1)",
        "messages[0].__setitem__('content', 'x')",
        "messages | map('pop', 'content') | list",
    ],
)
def test_a_template_cannot_reach_python_nor_change_the_messages(renderer: Renderer, expression: str) -> None:
    with suppress(TemplateError):  # Jinja writes what is forbidden as nothing
        assert not rendered(renderer, "{{ " + expression + " }}")
    with suppress(TemplateError):
        assert rendered(renderer, "{% set x = " + expression + " %}{{ messages | tojson }}") == json.dumps(ASK)


@pytest.mark.parametrize(
    "source", ["{% set messages[0].content = 'x' %}", "{% do messages.pop() %}", "{% set messages.x = 1 %}"]
)
def test_a_template_has_no_statement_that_changes_the_messages(renderer: Renderer, source: str) -> None:
    failure(renderer, source)


@pytest.mark.parametrize(
    "name", ["open", "eval", "exec", "__import__", "os", "config", "request", "environment", "context", "globals"]
)
def test_python_s_own_names_are_not_there(renderer: Renderer, name: str) -> None:
    assert rendered(renderer, "{{ " + name + " is defined }}") == "False"


LOOPS = "{% for a in range(100000) %}{% for b in range(100000) %}"


@pytest.mark.parametrize(
    "source",
    [
        LOOPS + "x{% endfor %}{% endfor %}",
        LOOPS + "{% endfor %}{% endfor %}",
        LOOPS + "{{ '' if b is sequence }}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{{ 10 ** (10 ** 10) }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(64) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    ],
    ids=["output", "no output", "swallowed errors", "macros", "one call into C", "shared parts"],
)
def test_a_template_without_end_is_ended(renderer: Renderer, source: str) -> None:
    message = failure(renderer, source)
    assert "it takes too long" in message or "too much memory" in message
    assert rendered(renderer, "{{ messages[0].content }}") == "Hi"


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10**10 }}",
        "{{ ([0] * 10**10) | length }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ 'a'.ljust(10**10) }}",
        "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
        "{{ 'a b' | center(10000000000) }}",
        "{% set ns = namespace(s='aaaa') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{% for i in range(100000) %}{{ 'a' * 1000000 }}{% endfor %}",
        "{{ 'a' * 100000000 }}",
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="macOS keeps no limit on memory: there the deadline ends them")
def test_a_template_cannot_build_something_huge(renderer: Renderer, source: str) -> None:
    failure(renderer, source)
    assert rendered(renderer, "{{ messages[0].content }}") == "Hi"


@pytest.mark.parametrize(
    "source",
    [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% block x %}{{ self.x() }}{% endblock %}",
        "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    ],
    ids=["macro", "block", "loop"],
)
def test_a_template_that_calls_itself_for_ever_is_stopped(renderer: Renderer, source: str) -> None:
    assert "recursion" in failure(renderer, source)


def test_a_long_conversation_is_no_attack(renderer: Renderer) -> None:
    messages: list[Message] = [{"role": "user", "content": "word " * 100}] * 1000
    assert rendered(renderer, CHATML, messages).count("<|im_start|>user") == 1000
    gather = "{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t ~ m.content %}{% endfor %}"
    assert rendered(renderer, gather + "{{ ns.t | length }}", messages[:300]) == "150000"
    assert json.loads(rendered(renderer, "{{ messages | tojson }}", messages)) == messages


# --- the process ----------------------------------------------------------------------------------


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pid_of(renderer: Renderer) -> int:
    assert renderer.pid is not None
    return renderer.pid


def test_one_process_renders_again_and_again_until_it_is_closed() -> None:
    with Renderer() as renderer:
        assert renderer.pid is None
        renderer.start()
        pid = pid_of(renderer)
        assert [renderer.render("{{ a }}", {"a": number}) for number in range(3)] == ["0", "1", "2"]
        assert pid_of(renderer) == pid
    assert not is_there(pid)
    renderer.close()
    assert renderer.render("again", {}) == "again"
    renderer.close()


def test_a_process_that_was_killed_is_started_again() -> None:
    with Renderer() as renderer:
        renderer.start()
        pid = pid_of(renderer)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert renderer.render("x", {}) == "x"
        assert pid_of(renderer) != pid


def test_a_renderer_that_nobody_holds_ends_its_process() -> None:
    renderer = Renderer()
    renderer.start()
    pid = pid_of(renderer)
    del renderer
    assert not is_there(pid)


def test_an_interrupt_ends_a_rendering() -> None:
    with Renderer(seconds=30) as renderer:
        renderer.start()
        pid = pid_of(renderer)
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        start = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            renderer.render(LOOPS + "{% endfor %}{% endfor %}", {})
        timer.join()
        assert time.perf_counter() - start < 5
        assert not is_there(pid)
        assert renderer.render("{{ 'next' }}", {}) == "next"


FORK = """
import os, sys
from entropix_edge.text import Renderer
renderer = Renderer()
renderer.start()
child = os.fork()
if child == 0:
    assert renderer.render("{{ 'child' }}", {}) == "child"
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
pid = renderer.pid
assert renderer.render("{{ 'parent' }}", {}) == "parent" and renderer.pid == pid
print(pid)
"""


def test_the_child_of_a_fork_has_a_process_of_its_own_and_the_end_of_python_ends_both() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", FORK], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not is_there(int(done.stdout))


def test_a_process_whose_parent_was_killed_ends() -> None:
    code = "from entropix_edge.text import Renderer as R; r = R(); r.start(); print(r.pid, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    end = time.monotonic() + 10
    while is_there(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_there(pid)


def test_the_process_reads_nothing_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jinja2.py").write_text("raise SystemExit(1)")
    (tmp_path / "json.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Renderer() as renderer:
        assert renderer.render("{{ [1] | tojson }}", {}) == "[1]"


def test_without_a_python_a_template_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(TemplateError, match="Python \\(/nowhere/python\\) does not start: No such file"):
        Renderer().render("x", {})


# --- nobody's words are lost ------------------------------------------------------------------------

PARTS = """{% for m in messages %}<{{ m.role }}>{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}
{%- endif %}{% endfor %}</{{ m.role }}>{% endfor %}"""
NO_SYSTEM = "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}"
TALK: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "Two?"},
]


def chat(renderer: Renderer, source: str, messages: list[Message] = ASK, **variables: object) -> str:
    return ChatTemplate(source, renderer, bos="<s>", eos="</s>").render(messages, variables)


def test_a_template_is_given_what_others_give_it(renderer: Renderer) -> None:
    source = (
        "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ add_generation_prompt }}{{ tools }}{{ documents }}"
    )
    assert chat(renderer, source) == "<s>Hi</s>TrueNoneNone"


def test_half_a_character_is_replaced(renderer: Renderer) -> None:
    assert chat(renderer, "{{ messages[0].content }}{{ '\\ud800' }}") == "Hi\ufffd"


def test_variables_reach_the_template(renderer: Renderer) -> None:
    source = (
        "{{ messages[0].content }}{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    )
    assert chat(renderer, source) == "Hi"
    assert chat(renderer, source, enable_thinking=False) == "Hi<think></think>"


def test_a_template_that_takes_parts_is_given_parts(renderer: Renderer) -> None:
    assert chat(renderer, PARTS, TALK) == (
        "<system>Be brief.</system><user>One?</user><assistant>1</assistant><user>Two?</user>"
    )


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_one_role_may_take_parts_and_the_others_texts(renderer: Renderer, role: str) -> None:
    source = (
        "{% for m in messages %}{% if m.role == '" + role + "' %}[{{ m.content[0]['text'] + '' }}]"
        "{% elif m.content is string %}({{ m.content }}){% endif %}{% endfor %}"
    )
    expected = "".join(f"[{m['content']}]" if m["role"] == role else f"({m['content']})" for m in TALK)
    assert chat(renderer, source, TALK) == expected


def test_a_template_that_takes_both_is_given_texts(renderer: Renderer) -> None:
    source = "{% for m in messages %}{{ m.content if m.content is string else m.content[0].text ~ '!' }}{% endfor %}"
    assert chat(renderer, source, TALK) == "Be brief.One?1Two?"


def test_a_system_message_without_a_place_goes_before_the_first_user_s_and_one_warning_says_so(
    renderer: Renderer, caplog: pytest.LogCaptureFixture
) -> None:
    template = ChatTemplate(NO_SYSTEM, renderer)
    for _ in range(2):
        assert template.render(TALK) == "<user>Be brief.\n\nOne?<assistant>1<user>Two?"
    assert caplog.messages == [
        "the model's chat template has no place for a system message: put before the first user message"
    ]


def test_several_system_messages_without_a_place_keep_their_order(renderer: Renderer) -> None:
    later: list[Message] = [*TALK, {"role": "system", "content": "In French."}]
    assert chat(renderer, NO_SYSTEM, later).startswith("<user>Be brief.\n\nIn French.\n\nOne?")


def test_only_what_has_no_place_is_moved(renderer: Renderer) -> None:
    first_only = (
        "{% for m in messages %}{% if loop.first or m.role != 'system' %}<{{ m.role }}>{{ m.content }}"
        "{% endif %}{% endfor %}"
    )
    later: list[Message] = [*TALK, {"role": "system", "content": "In French."}]
    assert chat(renderer, first_only, later) == "<system>Be brief.<user>In French.\n\nOne?<assistant>1<user>Two?"


def test_a_system_message_is_moved_in_a_template_of_parts_too(renderer: Renderer) -> None:
    source = PARTS.replace("in messages", "in messages if m.role != 'system'")
    assert chat(renderer, source, TALK[:2]) == "<user>Be brief.\n\nOne?</user>"


@pytest.mark.parametrize(
    ("source", "number", "role"),
    [
        ("nothing", 2, "user"),
        ("{{ messages[-1].content }}", 2, "user"),
        ("{{ messages[0].content }}{{ messages[1].content }}{{ messages[3].content }}", 3, "assistant"),
        ("{% for m in messages if m.role != 'user' %}{{ m.content }}{% endfor %}", 2, "user"),
        ("{% for m in messages %}{{ m.text }}{% endfor %}", 2, "user"),
    ],
)
def test_a_template_that_leaves_out_a_message_is_refused(
    renderer: Renderer, source: str, number: int, role: str
) -> None:
    with pytest.raises(TemplateError, match=f"leaves out message {number}, the {role}'s") as caught:
        chat(renderer, source, TALK)
    assert "\n" not in str(caught.value)


def test_an_unknown_role_is_not_lost(renderer: Renderer) -> None:
    source = "{% for m in messages if m.role in ('user', 'assistant') %}{{ m.content }}{% endfor %}"
    with pytest.raises(TemplateError, match="leaves out message 2, the tool's"):
        chat(renderer, source, [*ASK, {"role": "tool", "content": "42"}])
    assert chat(renderer, source, [{"role": "developer", "content": "Be brief."}, *ASK]) == "Be brief.\n\nHi"


def test_words_that_happen_to_be_in_the_template_are_no_proof(renderer: Renderer) -> None:
    with pytest.raises(TemplateError, match="leaves out message 1, the user's"):
        chat(renderer, "<|user|>{{ messages[0].text }}<|assistant|>", [{"role": "user", "content": "user"}])


def test_a_template_that_keeps_a_part_is_warned_of(renderer: Renderer, caplog: pytest.LogCaptureFixture) -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content.split('###')[0] }};{% endfor %}", renderer)
    assert template.render([{"role": "user", "content": " spaced\n\nout "}]) == " spaced\n\nout ;"
    assert not caplog.messages
    for _ in range(2):
        assert template.render([{"role": "user", "content": "one ### two"}]) == "one ;"
    assert caplog.messages == ["the model's chat template changes or leaves out a part of message 1, the user's"]


def test_trimmed_texts_and_past_thoughts_are_not_worth_a_warning(
    renderer: Renderer, caplog: pytest.LogCaptureFixture
) -> None:
    source = "{% for m in messages %}{{ m.content.split('</think>')[-1] | trim }};{% endfor %}"
    past: list[Message] = [
        {"role": "user", "content": "  Hi\n"},
        {"role": "assistant", "content": "<think>A greeting.</think>\n\nHello."},
        {"role": "user", "content": "Bye"},
    ]
    assert chat(renderer, source, past) == "Hi;Hello.;Bye;"
    assert not caplog.messages


def test_a_template_s_own_refusal_is_passed_on(renderer: Renderer) -> None:
    source = "{% if messages[0].role == 'system' %}{{ raise_exception('No system role') }}{% endif %}" + NO_SYSTEM
    with pytest.raises(TemplateError, match=r"^the model's chat template refuses these messages: No system role$"):
        chat(renderer, source, TALK)
