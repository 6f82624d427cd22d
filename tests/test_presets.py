"""Presets: what ships, what a user writes, and what is refused with which words."""

import dataclasses
import re
from pathlib import Path

import pytest

from entropix_edge.errors import ConfigError
from entropix_edge.strategy import load_preset, options_help, override, preset_names, read_preset

ARTICLE = load_preset("article")

PARTIAL = """
[sampler]
temperature = 0.8

[pause]
texts = ["Wait,", " Hmm"]
"""


def test_a_shipped_preset_is_read_once() -> None:
    assert all(load_preset(name) is load_preset(name) for name in preset_names())


def refusal(text: str) -> str:
    """What is said of a preset's text; always one line."""
    with pytest.raises(ConfigError) as caught:
        read_preset(text, "mine")
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def option_refusal(key: str, value: object) -> str:
    """What is said of one option; always one line."""
    with pytest.raises(ConfigError) as caught:
        override(ARTICLE, {key: value})
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- what ships ---------------------------------------------------------------------------------


def test_the_article_ships() -> None:
    assert "article" in preset_names()


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_loads_under_its_name(name: str) -> None:
    assert load_preset(name).name == name


PUBLISHED: dict[str, dict[str, object]] = {
    "sampler": {"temperature": 0.666, "top_k": 27, "top_p": 0.90, "min_p": 0.03},
    "argmax": {"entropy_below": 0.1, "varentropy_below": 0.1},
    "branch": {
        "entropy_below": 5.0,
        "varentropy_above": 5.0,
        "temperature_scale": 1.2,
        "temperature_interaction": 0.3,
        "temperature_max": 1.5,
        "top_k_agreement": 0.5,
        "top_k_min": 5,
    },
    "pause": {
        "entropy_above": 3.0,
        "varentropy_below": 0.1,
        "texts": (" ...",),
        "temperature_scale": 1.3,
        "temperature_attention_entropy": 0.2,
        "temperature_max": 1.5,
    },
    "resample": {
        "entropy_above": 5.0,
        "varentropy_above": 5.0,
        "temperature_scale": 2.0,
        "temperature_attention_varentropy": 0.5,
        "temperature_min": 2.0,
        "top_p_attention_entropy": 0.2,
        "top_p_min": 0.5,
    },
    "adaptive": {
        "draws": 5,
        "temperature_uncertainty": 0.3,
        "temperature_attention": 0.2,
        "temperature_agreement": 0.2,
        "top_p_attention_varentropy": 0.1,
        "top_p_min": 0.1,
        "top_p_max": 1.0,
        "top_k_interaction": 0.3,
        "top_k_agreement": 0.2,
        "top_k_min": 1,
        "top_k_max": 100,
        "min_p_uncertainty": 0.5,
        "min_p_min": 0.01,
        "min_p_max": 0.5,
    },
}


def test_the_article_holds_the_published_numbers() -> None:
    for section, numbers in PUBLISHED.items():
        held = dataclasses.asdict(getattr(ARTICLE, section))
        assert {key: held[key] for key in numbers} == numbers


def test_every_number_of_the_table_can_be_overridden() -> None:
    options = dict(options_help(ARTICLE))
    assert options["sampler.temperature"] == 0.666
    assert options["pause.texts"] == (" ...",)
    for key, value in options.items():
        assert override(ARTICLE, {key: value}) == ARTICLE


# --- a user's own -------------------------------------------------------------------------------


def test_what_a_user_leaves_out_is_the_article_s(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(PARTIAL, "utf-8")
    mine = load_preset(str(path))
    assert mine.name == "mine"
    assert mine.sampler == dataclasses.replace(ARTICLE.sampler, temperature=0.8)
    assert mine.pause == dataclasses.replace(ARTICLE.pause, texts=("Wait,", " Hmm"))
    assert mine.branch == ARTICLE.branch


def test_an_empty_file_is_the_article() -> None:
    assert dataclasses.replace(read_preset("", "mine"), name="article") == ARTICLE


def test_a_user_s_file_may_be_called_article_too(tmp_path: Path) -> None:
    path = tmp_path / "article.toml"
    path.write_text(PARTIAL, "utf-8")
    assert load_preset(str(path)).sampler.temperature == 0.8
    assert load_preset("article") == ARTICLE


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.toml").write_text(PARTIAL, "utf-8")
    assert load_preset("~/mine.toml").name == "mine"


def test_a_whole_number_may_stand_for_a_number() -> None:
    assert read_preset("[sampler]\ntemperature = 1", "mine").sampler.temperature == 1


# --- what a file may not say --------------------------------------------------------------------


def test_an_unknown_section_is_refused_by_name() -> None:
    assert refusal("[brunch]\ndraws = 1").startswith(
        "section 'brunch' is not known: it must be one of sampler, argmax,"
    )


def test_an_unknown_key_is_refused_with_a_suggestion() -> None:
    message = refusal("[sampler]\ntemperatur = 1")
    assert message.startswith("option 'sampler.temperatur' is not known: did you mean sampler.temperature")


def test_a_section_that_is_no_table_is_refused() -> None:
    assert refusal("sampler = 5") == "sampler is 5: it must be a table, [sampler]"


@pytest.mark.parametrize(
    "text", ["hello, world", "[sampler", "a = ", "x = 1\nx = 2", "\x00", "x = " + "[" * 5000, "x = " + "9" * 5000]
)
def test_text_that_is_not_toml_is_refused(text: str) -> None:
    assert refusal(text).startswith("not TOML: ")


@pytest.mark.parametrize(
    ("section", "line", "complaint"),
    [
        ("sampler", "temperature = true", "sampler.temperature is True: it must be a number from 0 to 100"),
        ("sampler", 'temperature = "hot"', "sampler.temperature is 'hot': it must be a number from 0 to 100"),
        ("sampler", "temperature = [1]", "sampler.temperature is [1]: it must be a number from 0 to 100"),
        ("sampler", "temperature = -0.1", "sampler.temperature is -0.1: it must be a number from 0 to 100"),
        ("sampler", "temperature = nan", "sampler.temperature is nan: it must be a number from 0 to 100"),
        ("sampler", "temperature = inf", "sampler.temperature is inf: it must be a number from 0 to 100"),
        ("sampler", "top_p = 1.01", "sampler.top_p is 1.01: it must be a number from 0 to 1"),
        ("sampler", "min_p = -1", "sampler.min_p is -1: it must be a number from 0 to 1"),
        ("sampler", "top_k = 1.5", "sampler.top_k is 1.5: it must be a whole number from 0"),
        ("sampler", "top_k = true", "sampler.top_k is True: it must be a whole number from 0"),
        ("branch", "top_k_min = 0", "branch.top_k_min is 0: it must be a whole number from 1"),
        ("argmax", "entropy_below = -1", "argmax.entropy_below is -1: it must be a finite number ≥ 0"),
        ("argmax", "entropy_below = inf", "argmax.entropy_below is inf: it must be a finite number ≥ 0"),
        ("resample", "entropy_above = nan", "resample.entropy_above is nan: it must be a finite number ≥ 0"),
        ("adaptive", "draws = 0", "adaptive.draws is 0: it must be a whole number from 1 to 1000"),
        ("adaptive", "top_k_min = 200", "adaptive.top_k_min is 200: it must not be above top_k_max, 100"),
        ("adaptive", "min_p_max = 0.001", "adaptive.min_p_min is 0.01: it must not be above min_p_max, 0.001"),
        ("pause", 'texts = " ..."', "pause.texts is ' ...': it must be a list of at least one non-empty text"),
        ("pause", "texts = []", "pause.texts is (): it must be a list of at least one non-empty text"),
        ("pause", 'texts = [""]', "pause.texts is ('',): it must be a list of at least one non-empty text"),
        ("pause", "texts = [1]", "pause.texts is (1,): it must be a list of at least one non-empty text"),
        ("pause", "texts = 5", "pause.texts is 5: it must be a list of at least one non-empty text"),
        ("pause", "texts = true", "pause.texts is True: it must be a list of at least one non-empty text"),
    ],
)
def test_a_wrong_value_is_refused_with_key_value_and_range(section: str, line: str, complaint: str) -> None:
    assert refusal(f"[{section}]\n{line}").startswith(complaint)


# --- which file ---------------------------------------------------------------------------------


def load_refusal(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_preset(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    message = load_refusal("articel")
    assert message.startswith("preset 'articel' is not known: it must be one of article")
    assert message.endswith(", or the path of a TOML file")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert load_refusal(str(path)) == f"preset file {path} cannot be read: No such file or directory"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert load_refusal(str(tmp_path)) == f"preset file {tmp_path} cannot be read: Is a directory"


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF\x03\x00\xff\xfe\x80")
    assert load_refusal(str(path)) == f"preset file {path} is binary: 2 of its first 9 bytes are control characters"


def test_a_complaint_about_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[sampler]\ntop_p = 2", "utf-8")
    assert load_refusal(str(path)) == f"preset file {path}: sampler.top_p is 2: it must be a number from 0 to 1"


# --- single options, as `-o KEY VALUE` gives them -------------------------------------------------


def test_options_are_read_from_text() -> None:
    changed = override(ARTICLE, {"sampler.temperature": "0.5", "sampler.top_k": "40", "branch.entropy_below": "1e1"})
    assert changed.sampler.temperature == 0.5
    assert changed.sampler.top_k == 40
    assert isinstance(changed.sampler.top_k, int)
    assert changed.branch.entropy_below == 10
    assert changed.pause == ARTICLE.pause


def test_overriding_leaves_the_preset_as_it_was() -> None:
    override(ARTICLE, {"sampler.temperature": 0.5})
    assert ARTICLE.sampler.temperature == 0.666


def test_a_pause_text_is_taken_letter_by_letter_with_its_space() -> None:
    assert override(ARTICLE, {"pause.texts": " Wait, what?"}).pause.texts == (" Wait, what?",)
    assert override(ARTICLE, {"pause.texts": "5"}).pause.texts == ("5",)


def test_an_empty_pause_text_is_refused() -> None:
    assert option_refusal("pause.texts", "").startswith("pause.texts is ('',): it must be a list")


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("sampler.temp", "did you mean sampler.temperature"),
        ("argmax.entropy", "did you mean argmax.entropy_below"),
        ("temperature", "did you mean sampler.temperature"),
        ("sampler", "did you mean sampler."),
        ("???", "it must be one of sampler.temperature, sampler.top_k,"),
        ("", "it must be one of sampler.temperature"),
    ],
)
def test_an_unknown_option_is_refused_with_a_suggestion(key: str, suggestion: str) -> None:
    message = option_refusal(key, "1")
    assert message.startswith(f"option {key!r} is not known: ")
    assert suggestion in message


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("sampler.temperature", "hot", "sampler.temperature is 'hot': it must be a number"),
        ("sampler.temperature", "", "sampler.temperature is '': it must be a number"),
        ("sampler.temperature", "0,5", "sampler.temperature is '0,5': it must be a number"),
        ("sampler.temperature", "nan", "sampler.temperature is nan: it must be a number from 0 to 100"),
        ("sampler.temperature", "-1", "sampler.temperature is -1.0: it must be a number from 0 to 100"),
        ("argmax.entropy_below", "inf", "argmax.entropy_below is inf: it must be a finite number ≥ 0"),
        ("argmax.entropy_below", "1e999", "argmax.entropy_below is inf: it must be a finite number ≥ 0"),
        ("sampler.top_k", "2.5", "sampler.top_k is '2.5': it must be a whole number"),
        ("sampler.top_k", "-1", "sampler.top_k is -1: it must be a whole number from 0"),
        ("sampler.top_k", True, "sampler.top_k is True: it must be a whole number from 0"),
        ("sampler.top_k", None, "sampler.top_k is None: it must be a whole number from 0"),
        ("adaptive.draws", "0", "adaptive.draws is 0: it must be a whole number from 1 to 1000"),
    ],
)
def test_a_wrong_option_is_refused_with_key_value_and_range(key: str, value: object, complaint: str) -> None:
    assert option_refusal(key, value).startswith(complaint)


def test_two_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape("adaptive.top_p_min is 0.9: it must not be above top_p_max, 0.5")):
        override(ARTICLE, {"adaptive.top_p_max": "0.5", "adaptive.top_p_min": "0.9"})


def test_two_options_that_only_hold_together_are_taken_in_either_order() -> None:
    wide: dict[str, object] = {"adaptive.top_k_min": "200", "adaptive.top_k_max": "300"}
    backwards = dict(reversed(wide.items()))
    assert override(ARTICLE, wide) == override(ARTICLE, backwards)
