"""Thresholds fitted to a model: the fit, the record of a run under way, the file, and who picks it up."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_gguf
from hypothesis import given
from hypothesis import strategies as st

from entropix_edge import Engine, EngineConfig, EntropixError, GenerationConfig, Strategy, load_preset, strategy
from entropix_edge.cli import run
from entropix_edge.evaluation.calibration import (
    FLOORS,
    TARGETS,
    Observation,
    Questionnaire,
    as_toml,
    deciles,
    fit,
    measure,
    open_record,
    settings,
    shares,
    shipped_prompts,
)
from entropix_edge.storage import config_folder, fingerprint
from entropix_edge.strategy import THRESHOLDS, load_fitted, preset_names, read_fitted, read_preset, thresholds

EDGE = load_preset("edge")
ASKED = Questionnaire(("hello", "why?", "one two three", "a", "write a story"), n_predict=90, sequences=2)
CONFIG = EngineConfig(threads=1, ctx_size=512, exact=True, sequences=2, forks=0)

# --- the fit --------------------------------------------------------------------------------------


def uniform(entropy: float, varentropy: float, count: int = 1001) -> list[Observation]:
    """Evenly spread from 0 to these, each quantity in an order of its own."""
    random = np.random.default_rng(3)
    columns = [random.permutation(np.linspace(0, most, count)) for most in (entropy, varentropy)]
    return [Observation(float(h), float(v)) for h, v in zip(*columns, strict=True)]


def test_a_threshold_is_the_quantile_at_its_target() -> None:
    fitted = thresholds(fit(uniform(10, 20), EDGE))
    for key, value in fitted.items():
        assert value == pytest.approx(TARGETS[key] * (20 if "varentropy" in key else 10), abs=1e-3), key


def test_every_threshold_of_the_table_has_a_target() -> None:
    borders = [
        f"{section}.{item.name}"
        for section in ("argmax", "branch", "pause", "resample", "adaptive")
        for item in dataclasses.fields(getattr(EDGE, section))
        if item.name.endswith(("_above", "_below"))
    ]
    assert sorted(borders) == sorted(THRESHOLDS) == sorted(TARGETS)


def test_the_default_models_distribution_gives_about_what_edge_was_set_to() -> None:
    points = np.linspace(0.001, 0.999, 2000)
    shares = np.linspace(0, 1, 11)  # the deciles that `calibrate -m smollm2-135m` prints
    entropy = np.interp(points, shares, [0, 0.08, 0.35, 0.87, 1.43, 2.03, 2.68, 3.39, 4.34, 5.69, 9])
    varentropy = np.interp(points, shares, [0, 0.71, 1.84, 3.22, 4.56, 5.98, 7.36, 9.06, 10.71, 13.13, 20])
    fitted = thresholds(fit([Observation(*pair) for pair in zip(entropy, varentropy, strict=True)], EDGE))
    for key, value in thresholds(EDGE).items():
        assert fitted[key] == pytest.approx(value, rel=0.06), key


def test_a_model_that_is_always_sure_still_has_sure_tokens() -> None:
    fitted = fit(uniform(0.01, 0.02), EDGE)
    assert {key: thresholds(fitted)[key] for key in FLOORS} == dict(FLOORS)
    assert shares(uniform(0.01, 0.02), fitted)[Strategy.ARGMAX] == 1


def test_the_fit_changes_thresholds_alone_and_knows_no_order() -> None:
    seen = uniform(7, 15)
    fitted = fit(seen, EDGE)
    assert fit(seen[::-1], EDGE) == fitted
    assert thresholds(fitted) != thresholds(EDGE)
    for section in ("sampler", "adaptive", "loop"):
        assert getattr(fitted, section) == getattr(EDGE, section)
    assert dataclasses.replace(fitted.branch, entropy_below=0, varentropy_above=0) == dataclasses.replace(
        EDGE.branch, entropy_below=0, varentropy_above=0
    )
    assert fitted.name == "edge"


@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0, 100)), min_size=200, max_size=220),
    st.floats(1, 10),
)
def test_thresholds_grow_with_the_metrics(pairs: list[tuple[float, float]], factor: float) -> None:
    small = thresholds(fit([Observation(*pair) for pair in pairs], EDGE))
    large = thresholds(fit([Observation(h * factor, v * factor) for h, v in pairs], EDGE))
    assert all(large[key] >= small[key] for key in THRESHOLDS)


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(EntropixError, match="wrote 199 tokens"):
        fit(uniform(1, 1, 199), EDGE)


def test_shares_add_up_and_deciles_leave_out_what_was_not_measured() -> None:
    seen = uniform(10, 20)
    assert sum(shares(seen, EDGE).values()) == pytest.approx(1)
    assert deciles(seen)["entropy"] == pytest.approx([1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert set(deciles(seen)) == {"entropy", "varentropy"}
    assert set(deciles([Observation(1, 2, 3, 4)])) == set(Observation._fields)


def test_the_written_preset_reads_back() -> None:
    seen = [Observation(*one[:2], 1.5, 0.5) for one in uniform(9, 17)]
    fitted = fit(seen, EDGE)
    text = as_toml(fitted, seen, "odd\nname.gguf")
    assert read_fitted(text) == fitted
    assert read_preset(text, "mine").argmax == fitted.argmax
    assert tomllib.loads(text).keys() == {"argmax", "branch", "pause", "resample"}
    assert "odd?name.gguf" in text
    assert "attention varentropy, bits²" in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_shipped_prompts_are_varied_and_short() -> None:
    prompts = shipped_prompts()
    assert 35 <= len(prompts) == len(set(prompts)) <= 48
    assert all((prompt == prompt.strip() and 10 < len(prompt) < 160) or not prompt.isascii() for prompt in prompts)


# --- measuring, and going on ----------------------------------------------------------------------


@pytest.fixture
def engine(tiny_model: Path) -> Iterator[Engine]:
    with Engine.open(tiny_model, CONFIG) as opened:
        yield opened


def measured(engine: Engine, path: Path, **options: Any) -> list[Observation]:
    record = open_record(path, settings(engine, ASKED, "f"), anew=options.pop("anew", False))
    try:
        return list(itertools.chain(*measure(engine, ASKED, record, **options)))
    finally:
        record.close()


def test_every_token_is_observed(engine: Engine, tmp_path: Path) -> None:
    told: list[int] = []
    seen = measured(engine, tmp_path / "record.jsonl", progress=told.append)
    assert 5 <= len(seen) <= ASKED.most_tokens
    assert all(one.attention_entropy is not None for one in seen)
    assert told == sorted(told)
    assert told[-1] == ASKED.most_tokens
    edge = GenerationConfig(preset=EDGE, sampler="temperature", seed=4, n_predict=ASKED.n_predict)
    alone = [event.metrics.entropy for event in engine.generate(ASKED.prompts[4], edge).events if event.metrics]
    assert [one.entropy for one in seen[-len(alone) :]] == pytest.approx(alone)


def test_a_run_in_two_parts_gives_what_an_unbroken_one_does(tiny_model: Path, tmp_path: Path) -> None:
    def whole(path: Path) -> list[Observation]:
        with Engine.open(tiny_model, CONFIG) as engine:
            return measured(engine, path)

    path = tmp_path / "record.jsonl"
    unbroken = whole(path)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + len(ASKED.groups)
    for torn in (lines[0] + lines[1] + lines[2][:-9], lines[0] + lines[1] + b"\xff\n", lines[0][:-4], b""):
        path.write_bytes(torn)
        assert whole(path) == unbroken
        assert path.read_bytes() == b"".join(lines)
        assert fit(whole(path), EDGE) == fit(unbroken, EDGE)


def test_what_is_there_is_not_measured_again_unless_settings_changed(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    measured(engine, path)
    told: list[int] = []
    measured(engine, path, progress=told.append)
    assert told == []
    measured(engine, path, progress=told.append, anew=True)
    assert told
    for changed in ({"version": 0}, {}):
        known = settings(engine, ASKED, "f")
        same = open_record(path, known)
        same.close()
        assert len(same.records) == len(ASKED.groups)
        other = open_record(path, known | changed | {"model": "another"})
        assert other.records == []
        other.close()
        measured(engine, path)


@pytest.mark.parametrize(
    "line",
    [
        '{"replies": []',
        '{"group": 0}',
        '{"group": 0, "replies": [[[1.0, NaN]]]}',
        '{"group": 0, "replies": 3}',
        '{"group": 0, "replies": [[[-1.0, 2.0]]]}',
        '{"group": 0, "replies": [[["a", "b"]]]}',
        '{"group": 0, "replies": [[[1.0]]]}',
        '{"group": 0, "replies": [null]}',
        "[]",
        "7",
    ],
)
def test_a_record_with_a_line_that_is_no_group_begins_anew(tmp_path: Path, line: str) -> None:
    path = tmp_path / "record.jsonl"
    path.write_text(json.dumps({"settings": {}}) + "\n" + line + "\n", "utf-8")
    record = open_record(path, {})
    record.close()
    assert record.records == []
    assert path.read_text("utf-8") == json.dumps({"settings": {}}) + "\n"


def test_a_cancelled_run_keeps_whole_groups(engine: Engine, tmp_path: Path) -> None:
    asked: list[None] = []

    def cancelled() -> bool:
        asked.append(None)
        return len(asked) > 2 * ASKED.n_predict + 20

    path = tmp_path / "record.jsonl"
    partly = measured(engine, path, cancelled=cancelled)
    assert len(path.read_bytes().splitlines()) == 2
    assert measured(engine, path)[: len(partly)] == partly


# --- fingerprints ---------------------------------------------------------------------------------


def test_a_fingerprint_is_of_the_content(tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    shutil.copy(tiny_model, copy)
    assert fingerprint(copy) == fingerprint(tiny_model)
    assert len(fingerprint(copy)) == 16
    with copy.open("ab") as file:
        file.write(b"\0")
    assert fingerprint(copy) != fingerprint(tiny_model)


@pytest.mark.parametrize("place", [0, 65_535, 1_000_000 - 1, 1_000_000 - 65_536, (1_000_000 - 4096) // 13 + 9])
def test_a_fingerprint_sees_each_sampled_byte(tmp_path: Path, place: int) -> None:
    content = bytearray(os.urandom(1_000_000))
    path = tmp_path / "model"
    path.write_bytes(content)
    before = fingerprint(path)
    content[place] ^= 1
    path.write_bytes(content)
    assert fingerprint(path) != before


@pytest.mark.parametrize("size", [0, 1, 4096, 70_000])
def test_a_small_file_has_a_fingerprint(tmp_path: Path, size: int) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"\1" * size)
    assert len(fingerprint(path)) == 16


# --- who picks it up ------------------------------------------------------------------------------


def fitted_file(model: Path) -> Path:
    return config_folder() / "presets" / f"{fingerprint(model)}.toml"


def write_fitted(model: Path) -> None:
    path = fitted_file(model)
    path.parent.mkdir(parents=True)
    seen = uniform(10, 20)
    path.write_text(as_toml(fit(seen, EDGE), seen, "tiny"), "utf-8")


def test_the_engine_takes_what_was_fitted_to_its_model(tiny_model: Path, tmp_path: Path) -> None:
    with Engine.open(tiny_model, CONFIG) as engine:
        assert engine.fitted is None
        assert engine.preset() == EDGE
    write_fitted(tiny_model)
    with Engine.open(tiny_model, CONFIG) as engine:
        assert engine.preset("edge") == engine.preset() == fit(uniform(10, 20), EDGE)
        assert engine.preset("article") == load_preset("article")
        mine = tmp_path / "mine.toml"
        mine.write_text("[argmax]\nentropy_below = 0.25\n", "utf-8")
        assert engine.preset(str(mine)) == load_preset(str(mine))
        by_name, by_value = (
            [
                event.strategy
                for event in engine.generate("hi", GenerationConfig(preset=preset, seed=1, n_predict=20)).events
            ]
            for preset in ("edge", engine.preset())
        )
        assert by_name == by_value
    assert preset_names() == ("article", "edge")


@pytest.mark.parametrize("content", [b"", b"[argmax\n", b"\xff", b"[argmax]\nentropy_below = nan\n", b"[other]\n"])
def test_a_damaged_fitted_preset_warns_and_is_left_out(
    tiny_model: Path, content: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("entropix_edge"), "propagate", True)
    write_fitted(tiny_model)
    fitted_file(tiny_model).write_bytes(content)
    with Engine.open(tiny_model, CONFIG) as engine, caplog.at_level(logging.WARNING, "entropix_edge"):
        assert engine.preset() == EDGE
        assert engine.preset() == EDGE
    (warning,) = caplog.messages
    assert fitted_file(tiny_model).name in warning
    assert "\n" not in warning


def test_a_shipped_fit_comes_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entropix_edge.strategy.presets._SHIPPED", tmp_path)
    for name in ("edge", "article"):
        source = Path(load_preset.__code__.co_filename).parent / "presets" / f"{name}.toml"
        shutil.copy(source, tmp_path)
    (tmp_path / "fitted").mkdir()
    seen = uniform(10, 20)
    (tmp_path / "fitted" / "abc.toml").write_text(as_toml(fit(seen, EDGE), seen, "tiny"), "utf-8")
    own = tmp_path / "own"
    assert load_fitted("abc", own) == fit(seen, EDGE)
    assert load_fitted("abd", own) is None
    own.mkdir()
    seen = uniform(5, 6)
    (own / "abc.toml").write_text(as_toml(fit(seen, EDGE), seen, "tiny"), "utf-8")
    assert load_fitted("abc", own) == fit(seen, EDGE)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Room for the shipped prompts in bytes."""
    shape = tiny_gguf.Shape(n_layer=1, n_ctx=4096)
    return tiny_gguf.write_llama(tmp_path_factory.mktemp("long") / "long.gguf", shape, tiny_gguf.random_weights(shape))


def test_calibrate_writes_what_generate_uses(long_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate = ["generate", "-m", str(long_model), "-t", "1", "-s", "1", "-n", "8", "--stats", "hello"]
    assert run(generate) == 0
    assert "edge (the default model's thresholds)" in capsys.readouterr().err
    assert run(["calibrate", str(long_model), "-t", "1"]) == 0
    shown = capsys.readouterr()
    assert "resample.varentropy_above" in shown.out
    assert "attention entropy" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    assert fitted_file(long_model).name in shown.err
    assert list((config_folder() / "calibration").iterdir()) == []
    assert run(generate) == 0
    assert "edge (fitted to this model)" in capsys.readouterr().err
    with Engine.open(long_model, CONFIG) as engine:
        assert engine.fitted == read_fitted(fitted_file(long_model).read_text("utf-8"))
        assert engine.fits.confidence.rank is not None
        assert engine.fits.confidence.rank.replies == len(shipped_prompts())


def test_single_options_stand_above_what_was_fitted(tiny_model: Path, tmp_path: Path) -> None:
    write_fitted(tiny_model)
    trace = tmp_path / "trace.jsonl"
    options = ["-o", "argmax.entropy_below", "0.123", "--temp", "0.5", "--trace", str(trace)]
    assert run(["generate", "-m", str(tiny_model), "-t", "1", "-c", "256", "-n", "4", "-s", "1", "hi", *options]) == 0
    preset = json.loads(trace.read_text("utf-8").splitlines()[0])["preset"]
    fitted = fit(uniform(10, 20), EDGE)
    assert preset["argmax"] == {
        "entropy_below": 0.123,
        "varentropy_below": fitted.argmax.varentropy_below,
    }
    assert preset["sampler"]["temperature"] == 0.5


def test_an_interrupted_calibration_says_that_it_will_continue(
    long_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = config_folder() / "calibration" / f"{fingerprint(long_model)}.jsonl"

    def interrupted(self: Any) -> bool:
        return record.exists() and len(record.read_bytes().splitlines()) > 2

    with monkeypatch.context() as patch:
        patch.setattr("entropix_edge.cli.interrupt.Interrupt.__call__", interrupted)
        assert run(["calibrate", "-m", str(long_model), "-t", "1"]) == 130
    assert "will continue" in capsys.readouterr().err
    assert not fitted_file(long_model).exists()
    assert run(["calibrate", "-m", str(long_model), "-t", "1"]) == 0
    assert "Continuing" in capsys.readouterr().err
    assert fitted_file(long_model).exists()


def test_two_models_are_a_usage_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["calibrate", "one.gguf", "-m", "two.gguf"]) == 2
    assert "both name a model" in capsys.readouterr().err
    monkeypatch.setenv("ENTROPIX_EDGE_MODEL", "two.gguf")
    assert run(["calibrate", "one.gguf"]) == 1
    assert "one.gguf" in capsys.readouterr().err


OWN = "e6bc65c95c37e6fc"  # the default model's fingerprint


def test_the_fits_that_ship_hold() -> None:
    folder = Path(str(strategy.__file__)).parent / "presets" / "fitted"
    files = sorted(folder.glob("*.toml"))
    assert files
    for file in files:
        fitted = load_fitted(file.stem, folder)
        assert fitted is not None
        assert (fitted == EDGE) == (file.stem == OWN)
        assert fitted.sampler == EDGE.sampler


@pytest.mark.model
def test_the_default_model_has_the_thresholds_that_were_set_on_it(default_model: Path) -> None:
    assert fingerprint(default_model) == OWN


def test_whose_thresholds_are_used_is_said_once(tiny_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = "no thresholds are fitted to tiny.gguf: it uses the default model's until it is calibrated"
    with Engine.open(tiny_model, CONFIG) as engine:
        for changes in ({"sampler": "greedy"}, {"preset": "article"}, {"preset": fit(uniform(10, 20), EDGE)}):
            engine.generate("hi", GenerationConfig(n_predict=1, **changes))
        assert said not in caplog.messages
        for preset in ("edge", EDGE):
            engine.generate("hi", GenerationConfig(n_predict=1, preset=preset))
        assert caplog.messages.count(said) == 1
    write_fitted(tiny_model)
    caplog.clear()
    with Engine.open(tiny_model, CONFIG) as engine:
        engine.generate("hi", GenerationConfig(n_predict=1))
        assert said not in caplog.messages
