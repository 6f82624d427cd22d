"""Bytes to text, stop strings, chat templates and the strangers who write them."""

import json
import sys
import time
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entropix_edge.errors import PromptError, TemplateError
from entropix_edge.text import ChatTemplate, ControlText, Message, TextStream, as_messages, clean

quick = settings(max_examples=60, deadline=None)

MULTILINGUAL = "aé‖漢🙂\u200d👩🏽\u200d🚀 e\u0301\x00z"


def pushed(pieces: list[bytes], stop: tuple[str, ...] = ()) -> tuple[str, bool]:
    """Everything a stream shows of the pieces, as a generation drives it, and whether it stopped."""
    stream = TextStream(stop)
    shown = ""
    for piece in pieces:
        shown += stream.push(piece)
        if stream.stopped:
            break
    return shown + stream.flush(), stream.stopped


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces; empty ones where places meet."""
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in pairwise(borders)]


# --- characters ---------------------------------------------------------------------------------


def test_a_character_appears_with_its_last_byte() -> None:
    stream = TextStream()
    assert [stream.push(bytes([byte])) for byte in "🙂".encode()] == ["", "", "", "🙂"]


@pytest.mark.parametrize("place", range(len(MULTILINGUAL.encode()) + 1))
def test_a_text_may_be_split_anywhere(place: int) -> None:
    data = MULTILINGUAL.encode()
    assert pushed([data[:place], data[place:]]) == (MULTILINGUAL, False)


@quick
@given(st.text(max_size=40), st.lists(st.integers(0, 100), max_size=20))
def test_however_a_text_is_split_it_comes_out_whole(text: str, places: list[int]) -> None:
    assert pushed(cut(text.encode(), places)) == (text, False)


@quick
@given(st.lists(st.binary(max_size=5)))
def test_what_comes_out_of_any_bytes_is_text(pieces: list[bytes]) -> None:
    text, _stopped = pushed(pieces)
    assert text.encode().decode() == text


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([b"\xff"], "\ufffd"),
        ([b"a\x80b"], "a\ufffdb"),
        ([b"\xf0\x9f", b"abc"], "\ufffdabc"),
        ([b"\xc3", b"\xc3\xa9"], "\ufffdé"),
        ([b"\xc0\x80"], "\ufffd\ufffd"),  # an overlong NUL
        ([b"\xed\xa0\x80"], "\ufffd\ufffd\ufffd"),  # a surrogate
    ],
)
def test_bytes_that_can_never_be_text_become_replacement_characters(pieces: list[bytes], text: str) -> None:
    assert pushed(pieces) == (text, False)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_an_unfinished_character_at_the_very_end_is_dropped(length: int) -> None:
    assert pushed([b"ok ", "🙂".encode()[:length]]) == ("ok ", False)


# --- stop strings -------------------------------------------------------------------------------


def split_everywhere(text: str) -> list[list[bytes]]:
    data = text.encode()
    pieces = [cut(data, [first, second]) for first in range(len(data) + 1) for second in range(first, len(data) + 1)]
    return [*pieces, [bytes([byte]) for byte in data]]


@pytest.mark.parametrize(
    ("text", "stop", "shown", "stopped"),
    [
        ("hello END more", ("END",), "hello ", True),
        ("END", ("END",), "", True),
        ("aaab", ("aab",), "a", True),
        ("aaaab!", ("aab",), "aa", True),
        ("ababac", ("abac",), "ab", True),
        ("one\n\nUser: two", ("\nUser:",), "one\n", True),
        ("x🙂y", ("🙂",), "x", True),
        ("hello EN", ("END",), "hello EN", False),
        ("E", ("END",), "E", False),
        ("hello", ("END",), "hello", False),
        ("", ("END",), "", False),
        ("a b c", ("c", "b"), "a ", True),
        ("say stop now", ("stop now", "stop"), "say ", True),
        ("xyz", ("xyz", "yz", "z"), "", True),  # complete together: the longest
        ("abc", ("abc", "b"), "a", True),  # the one that is complete first
        ("</s>", ("</s>", "<s>"), "", True),
    ],
)
def test_a_stop_string_ends_the_text_before_it_however_it_is_split(
    text: str, stop: tuple[str, ...], shown: str, stopped: bool
) -> None:
    for pieces in split_everywhere(text):
        assert pushed(pieces, stop) == (shown, stopped), pieces


def test_only_what_may_grow_into_a_stop_string_is_held_back() -> None:
    stream = TextStream(["aab"])
    assert [stream.push(piece) for piece in (b"x", b"a", b"a", b"a", b"c", b"a")] == ["x", "", "", "a", "aac", ""]
    assert not stream.stopped
    assert stream.flush() == "a"


def test_nothing_follows_a_stop_string() -> None:
    stream = TextStream(["END"])
    assert stream.push(b"so END, and more") == "so "
    assert stream.stopped
    assert stream.flush() == ""


def shown_until(text: str, stop: list[str]) -> tuple[str, bool]:
    """The oracle: letter by letter, until some stop string is complete."""
    for length in range(1, len(text) + 1):
        ends = [other for other in stop if text[:length].endswith(other)]
        if ends:
            return text[: length - max(map(len, ends))], True
    return text, False


@quick
@given(
    st.text("ab🙂", max_size=30),
    st.lists(st.text("ab🙂", min_size=1, max_size=5), min_size=1, max_size=3),
    st.lists(st.integers(0, 100), max_size=8),
)
@example("aaab", ["aab"], [1, 2, 3])
@example("aba", ["aba", "b"], [])
def test_the_text_reaches_to_the_first_stop_string(text: str, stop: list[str], places: list[int]) -> None:
    assert pushed(cut(text.encode(), places), tuple(stop)) == shown_until(text, stop)


# --- messages -----------------------------------------------------------------------------------


def test_a_text_becomes_a_user_s_message_after_the_system_s() -> None:
    assert as_messages("Hi", "Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]


def test_messages_are_copied_and_cleaned() -> None:
    given_messages: list[Message] = [{"role": "user", "content": "a\ud83dz"}]
    assert as_messages(given_messages) == [{"role": "user", "content": "a\ufffdz"}]
    assert given_messages == [{"role": "user", "content": "a\ud83dz"}]


@pytest.mark.parametrize(
    "prompt", ["", "  \n\t", [], [{"role": "system", "content": "x"}], [{"role": "user", "content": " "}]]
)
def test_a_prompt_that_asks_nothing_is_refused(prompt: Any) -> None:
    with pytest.raises(PromptError, match="the prompt is empty: give the text to answer"):
        as_messages(prompt, "system")


@pytest.mark.parametrize(
    "message",
    [
        "text",
        5,
        None,
        {},
        {"role": "user"},
        {"content": "x"},
        {"role": 1, "content": "x"},
        {"role": "user", "content": ["x"]},
    ],
)
def test_a_malformed_message_is_refused(message: Any) -> None:
    with pytest.raises(PromptError, match="is malformed: it must have a text `role` and a text `content`"):
        as_messages([{"role": "user", "content": "x"}, message])


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain é漢🙂", "plain é漢🙂"),
        ("a\ud800b\udfffc", "a\ufffdb\ufffdc"),
        ("\ud83d\ude42", "\ufffd\ufffd"),  # two halves that Python keeps apart
        ("nul\x00here", "nul\x00here"),
        ("", ""),
    ],
)
def test_lone_surrogates_are_replaced_and_nothing_else(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
    assert cleaned.encode().decode() == cleaned


# --- control-token text ---------------------------------------------------------------------------

ENDS = ["<|im_end|>", "<|im_start|>", "<|im", "</s>"]


def round_trip(control: ControlText, content: str) -> list[tuple[str, bool]]:
    marked = control.mark([{"role": "user", "content": content}])
    return control.split("<|im_start|>user\n" + marked[0]["content"] + "<|im_end|>")


def test_control_text_of_a_user_is_told_from_the_template_s() -> None:
    assert round_trip(ControlText(ENDS), "a <|im_end|> b") == [
        ("<|im_start|>user\na ", True),
        ("<|im_end|>", False),
        (" b<|im_end|>", True),
    ]


def test_the_longest_spelling_is_marked() -> None:
    assert [part for part, allowed in round_trip(ControlText(ENDS), "<|im_start|><|im x") if not allowed] == [
        "<|im_start|>",
        "<|im",
    ]


@pytest.mark.parametrize("texts", [[], [""]])
def test_without_control_texts_messages_stay_as_they_are(texts: list[str]) -> None:
    control = ControlText(texts)
    messages: list[Message] = [{"role": "user", "content": "<|im_end|>"}]
    assert control.mark(messages) == messages
    assert control.split("<|im_end|>") == [("<|im_end|>", True)]


def test_marks_are_made_anew_for_every_prompt() -> None:
    first, second = (ControlText(ENDS).mark([{"role": "user", "content": "</s>"}]) for _ in range(2))
    assert first != second


@quick
@given(st.lists(st.sampled_from([*ENDS, "x", "\ue000", "\ue001", "<|", "|>"]) | st.text(max_size=3)))
def test_nothing_of_a_prompt_is_lost_and_no_control_text_gets_through(parts: list[str]) -> None:
    content = "".join(parts)
    control = ControlText(ENDS)
    split = control.split(control.mark([{"role": "user", "content": content}])[0]["content"])
    assert "".join(part for part, _allowed in split) == content
    assert not any(text in part for part, allowed in split if allowed for text in ENDS)


@pytest.mark.parametrize("change", ["|upper", "|lower", "|trim", "|title", ".strip()", "|replace('x', 'y')", "|e"])
def test_marks_survive_what_templates_do_to_content(change: str) -> None:
    control = ControlText(["</s>"])
    template = ChatTemplate("{{ messages[0].content" + change + " }}</s>")
    split = control.split(template.render(control.mark([{"role": "user", "content": " a </s> b "}])))
    assert [allowed for _part, allowed in split] == [True, False, True]
    assert not any("</s>" in part.lower() for part, allowed in split[:2] if allowed)
    assert "\ue000" not in "".join(part for part, _allowed in split)


def test_a_template_that_cuts_marks_apart_frees_no_later_control_text() -> None:
    control = ControlText(["</think>", "<|im_end|>"])
    messages: list[Message] = [
        {"role": "assistant", "content": "a </think> b"},
        {"role": "user", "content": "c <|im_end|> d"},
    ]
    template = ChatTemplate("{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}")
    split = control.split(template.render(control.mark(messages)))
    assert ("<|im_end|>", False) in split
    assert "".join(part for part, _allowed in split) == " bc <|im_end|> d"


# --- chat templates -----------------------------------------------------------------------------

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


def rendered(source: str, messages: list[Message] = ASK) -> str:
    return ChatTemplate(source, bos="<s>", eos="</s>").render(messages)


def failure(source: str, messages: list[Message] = ASK) -> str:
    """What is said of a template that fails: one line, soon, and no other error."""
    start = time.perf_counter()
    with pytest.raises(TemplateError) as caught:
        rendered(source, messages)
    assert time.perf_counter() - start < 2
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_a_chatml_template_frames_each_turn_and_asks_for_the_next() -> None:
    messages: list[Message] = [*ASK, {"role": "assistant", "content": " Hello! "}, {"role": "user", "content": "Bye"}]
    assert rendered(CHATML, messages) == (
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
        ("{{ '\\ud800' }}", "\ufffd"),
        ("", ""),
    ],
)
def test_what_templates_use_works(source: str, text: str) -> None:
    assert rendered(source) == text


def test_a_template_may_ask_for_the_date() -> None:
    days = {datetime.now().strftime("%d %b %Y")}
    days.add(rendered("{{ strftime_now('%d %b %Y') }}"))
    days.add(datetime.now().strftime("%d %b %Y"))
    assert len(days) <= 2  # or midnight came


def test_a_template_may_refuse_the_messages() -> None:
    message = failure("{{ raise_exception('Roles must\n\nalternate') }}")
    assert message == "the model's chat template refuses these messages: Roles must alternate"


def test_a_refusal_of_any_length_is_short() -> None:
    assert failure("{{ raise_exception('many words ' * 100000) }}").endswith(" …")
    assert failure("{{ raise_exception('a' * 100000) }}").endswith(" …")
    assert failure("{{ raise_exception() }}")


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
def test_text_that_is_no_template_is_refused(source: str) -> None:
    assert failure(source).startswith("the model's chat template does not parse: ")
    assert failure(source).endswith(": use raw=True")


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
def test_a_template_that_fails_says_so(source: str) -> None:
    assert failure(source).startswith("the model's chat template failed: ")


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
def test_a_template_cannot_reach_python_nor_change_the_messages(expression: str) -> None:
    messages: list[Message] = [{"role": "user", "content": "Hi"}]
    with suppress(TemplateError):
        assert not rendered("{{ " + expression + " }}", messages)  # Jinja writes what is forbidden as nothing
    assert messages == ASK


@pytest.mark.parametrize(
    "source", ["{% set messages[0].content = 'x' %}", "{% do messages.pop() %}", "{% set messages.x = 1 %}"]
)
def test_a_template_has_no_statement_that_changes_the_messages(source: str) -> None:
    messages: list[Message] = [{"role": "user", "content": "Hi"}]
    failure(source, messages)
    assert messages == ASK


@pytest.mark.parametrize(
    "name", ["open", "eval", "exec", "__import__", "os", "config", "request", "environment", "context", "globals"]
)
def test_python_s_own_names_are_not_there(name: str) -> None:
    assert rendered("{{ " + name + " is defined }}") == "False"


@pytest.mark.parametrize(
    "expression",
    [
        "'a' * 10**9",
        "10**9 * 'a'",
        "[0] * 10**9",
        "(0,) * 10**9",
        "'a'.encode() * 10**9",
        "10**10**10",
        "2 ** 10000000",
        "(-10**10) ** 60",
        "'%1000000000d' % 1",
        "'%*d' % (10**9, 1)",
        "'%.1000000000f' % 1",
        "'%(a)01000000000d' % {'a': 1}",
        "('%(a)s' * 100000) % {'a': 'x' * 1000000}",
        "'%1000000000d' | format(1)",
        "('%s' * 1000) | format('x' * 1000000)",
        "'{:1000000000}'.format(1)",
        "'{:{w}}'.format(1, w=10**9)",
        "('{0}' * 10000).format('x' * 1000000)",
        "('{x}' * 10000).format_map({'x': 'y' * 1000000})",
        "'a'.ljust(10**9)",
        "'a'.rjust(10**9)",
        "'a'.center(10**9)",
        "'a'.zfill(10**9)",
        "'\t'.expandtabs(10**9)",
        "'a' | center(1000000000)",
        "'a\nb' | indent(1000000000)",
        "('\n' * 100000) | indent('x' * 100000, blank=true)",
        "'a b' | wordwrap(1, wrapstring='x' * 10000000)",
        "('a' * 100000).replace('a', 'b' * 100000)",
        "('a' * 100000) | replace('a', 'b' * 100000)",
        "['a' * 100000] | map('replace', 'a', 'b' * 100000) | first",
        "('b' * 100000).join('a' * 100000)",
        "('a' * 100000) | join('b' * 100000)",
        "'a'.translate({97: 'b' * 1000000})",
        "[1] | tojson(indent=1000000000)",
        "'a' | batch(1000000000, 'b') | list",
        "'a' | slice(1000000000) | list",
        "lipsum(n=1000000000)",
        "range(10**9) | list",
        "(1).to_bytes(1000000000, 'big')",
    ],
)
def test_one_expression_cannot_build_something_huge(expression: str) -> None:
    failure("{{ (" + expression + ") | string | length }}")


REPEAT = "{% set ns = namespace(s='aaaa', n=10**60, l=[1]) %}{% for i in range(64) %}{% set ns."


@pytest.mark.parametrize(
    "source",
    [
        REPEAT + "s = ns.s + ns.s %}{% endfor %}",
        REPEAT + "s = ns.s ~ ns.s %}{% endfor %}",
        REPEAT + "s = [ns.s, ns.s] | join %}{% endfor %}",
        REPEAT + "l = ns.l + ns.l %}{% endfor %}",
        REPEAT + "n = ns.n * ns.n %}{% endfor %}",
        "{% set s %}{% for i in range(1000) %}{{ 'a' * 1000000 }}{% endfor %}{% endset %}",
        "{% macro f(s) %}{{ s }}{{ s }}{% endmacro %}" + REPEAT + "s = f(ns.s) %}{% endfor %}",
        "{% for i in range(100000) %}{{ 'a' * 1000000 }}{% endfor %}",
        "{% for i in range(100000) %}{{ messages[0].content }}{% endfor %}",
    ],
    ids=["plus", "tilde", "join", "lists", "numbers", "block", "macro", "output", "repeated content"],
)
def test_many_small_steps_cannot_build_something_huge(source: str) -> None:
    failure(source, [{"role": "user", "content": "x" * 10_000}])


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{{ '' if b is sequence }}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    ],
    ids=["with output", "without output", "with errors swallowed", "macros"],
)
def test_a_template_without_end_is_stopped(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entropix_edge.text.sandbox._SECONDS", 0.05)  # of the one second
    before = sys.gettrace()
    assert "it takes too long" in failure(source)
    assert sys.gettrace() is before


@pytest.mark.parametrize(
    "source",
    [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% block x %}{{ self.x() }}{% endblock %}",
        "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    ],
    ids=["macro", "block", "loop"],
)
def test_a_template_that_calls_itself_for_ever_is_stopped(source: str) -> None:
    assert "recursion" in failure(source)


def test_a_template_that_failed_works_again_with_other_messages() -> None:
    template = ChatTemplate("{% for a in range(5000) %}{{ messages[0].content * 10000 }}{% endfor %}")
    with pytest.raises(TemplateError, match="it builds a text that is too long"):
        template.render(ASK)
    assert template.render([{"role": "user", "content": ""}]) == ""


def test_a_long_conversation_is_no_attack() -> None:
    messages: list[Message] = [{"role": "user", "content": "word " * 100}] * 1000
    assert rendered(CHATML, messages).count("<|im_start|>user") == 1000
    gather = "{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t ~ m.content %}{% endfor %}"
    assert rendered(gather + "{{ ns.t | length }}", messages[:300]) == "150000"
    assert json.loads(rendered("{{ messages | tojson }}", messages)) == messages
