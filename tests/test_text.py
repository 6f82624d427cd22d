"""Bytes to text, stop strings, chat templates and the strangers who write them."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entropix_edge.errors import PromptError
from entropix_edge.text import ControlText, Message, TextStream, as_messages, clean

quick = settings(max_examples=60)

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
