"""What `bench` says: every setting measured, ratios of like with like, each format with the same numbers."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from terminals import Terminal

from entropix_edge.bench.contexts import Contexts
from entropix_edge.bench.kernels import Kernels, time_kernels
from entropix_edge.bench.process import Start, Starts, describe_throttling, starts
from entropix_edge.bench.repeating import Load, Moment, repeat
from entropix_edge.bench.report import Beside, Columns, Facts, conclusions, record
from entropix_edge.bench.results import Case, Forks, Repetitions, Sample, Speed, Spread, Variant
from entropix_edge.bench.speed import LOOPS, Speeds, room
from entropix_edge.cli import run
from entropix_edge.config import EngineConfig, GenerationConfig, Preset
from entropix_edge.llama import Model, RawLoop, can_repack
from entropix_edge.strategy import load_preset, override

FACTS = Facts(
    cpu_info="a processor",
    gpu_info="",
    backends="CPU",
    model_filename="tiny.gguf",
    model_type="llama 1M F32",
    model_size=2**20,
    model_n_params=1_500_000,
    n_gpu_layers=0,
    llama_cpp_python="0.3.36",
)
CASE = Case(n_prompt=0, n_gen=8, depth=0, threads=2, n_batch=512)
BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EDGE = Speed(
    test=CASE,
    variant=Variant("edge", "last", "auto"),
    began=BEGAN,
    seconds=(0.08, 0.1),
    of_raw=Spread(0.95, 0.01),
    of_raw_fa_on=Spread(0.9, 0.02),
    beside=158e-6,
    forks=Forks(0.06, 0.09),
    disturbed=1,
    repeated=2,
)
GREEDY = replace(EDGE, variant=Variant("greedy", (0, 5), "off"), forks=None, disturbed=0, repeated=0)
RAW = Speed(test=CASE, variant=Variant("raw", "off", "on"), began=BEGAN, seconds=(0.08,), beside=46e-6)


@pytest.fixture
def contexts(tiny_model: Path) -> Iterator[Callable[[int], Contexts]]:
    """Contexts on the tiny model, of some depth."""
    opened = []
    with Model(tiny_model) as model:

        def open_at(depth: int) -> Contexts:
            config = EngineConfig(threads=1, ctx_size=room(depth, [12], [4], model.n_ctx_train))
            opened.append(Contexts(model, config, depth, lambda: False))
            return opened[-1]

        yield open_at
        for one in opened:
            with one:
                pass


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_every_variant_stands_beside_raw(contexts: Callable[[int], Contexts], depth: int) -> None:
    variants = [Variant("edge", "last", "auto"), Variant("greedy", "off", "on"), Variant("article", (0, 1), "off")]
    speeds = Speeds(contexts(depth), 2, (True, False))
    engines = [variant._replace(loop="engine") for variant in variants]
    rows = [*speeds.prompt(12, engines), *speeds.generation(4, variants)]
    at = f" @ d{depth}" if depth else ""
    assert [str(row.test) for row in rows] == [f"pp12{at}"] * 5 + [f"tg4{at}"] * 5
    raws = [Variant("raw", "off", "on"), Variant("raw", "off", "off")]
    assert [row.variant for row in rows] == [*engines, *raws, *variants, *raws]
    for row in rows:
        assert row.rate.mean > 0
        assert (row.of_raw is None) == (row.of_raw_fa_on is None) == (row.variant.loop == "raw")
        if row.of_raw and row.variant.flash != "off":
            assert row.of_raw == row.of_raw_fa_on
    assert all(row.beside and row.beside > 0 for row in rows[5:9])


def test_a_deep_cache_is_decoded_once_and_kept(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entropix_edge.bench.contexts._DEEP", 100)
    decoded: list[int] = []
    start = RawLoop.start

    def counted(raw: RawLoop, prompt: Sequence[int]) -> None:
        decoded.append(len(prompt))
        start(raw, prompt)

    monkeypatch.setattr(RawLoop, "start", counted)
    variants = [Variant("greedy", "off", "on"), Variant("greedy", "last", "auto")]
    config = EngineConfig(ctx_size=400)
    for run_number in range(2):
        with Model(tiny_model) as model, Contexts(model, config, 300, lambda: False, tmp_path / "cells") as contexts:
            for variant in variants:
                assert contexts.engine(variant).context.used(0) == 300
            assert decoded == ([300] if run_number == 0 else []), "another run loads it"
            rows = list(Speeds(contexts, 1).generation(4, variants))
            assert [row.test.depth for row in rows] == [300] * 3
            with contexts.engine(variants[0]).stream_tokens(contexts.prompt(), GenerationConfig(n_predict=1)) as stream:
                stream.reply()
                assert stream.cached_tokens >= 299
        decoded.clear()


def test_a_reply_that_ends_early_is_followed_by_one_to_nearly_the_same_prompt(
    contexts: Callable[[int], Contexts],
) -> None:
    prompts = [contexts(6).prompt(attempt) for attempt in range(4)]
    assert {len(prompt) for prompt in prompts} == {6}
    assert len(set(map(tuple, prompts))) == 4
    assert all(prompt[:3] == prompts[0][:3] for prompt in prompts)


def test_kernels_are_timed_on_real_rows(contexts: Callable[[int], Contexts]) -> None:
    opened = contexts(0)
    kernels = time_kernels(opened)
    assert kernels.n_vocab == opened.model.n_vocab
    assert min(kernels.maximum, kernels.metrics, kernels.draw) > 0


def test_rounds_with_branches_stand_apart(contexts: Callable[[int], Contexts], monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset that forks wherever it can, and draws in between."""
    always: dict[str, object] = {"branch.entropy_below": 1e9, "branch.varentropy_above": 0.0, "branch.budget": 9.0}
    preset = override(load_preset("edge"), always)

    def forks(preset: Preset) -> Forks | None:
        monkeypatch.setitem(LOOPS, "edge", GenerationConfig(preset=preset))
        return next(Speeds(contexts(8), 2).generation(40, [Variant("edge", "last", "auto")])).forks

    assert forks(preset) == Forks(1.0, None), "against rounds without branches nothing can be told"
    seldom: dict[str, object] = {"branch.budget": 0.3, "branch.credit": 14, "branch.horizon": 4, "branch.children": 2}
    some = forks(override(preset, seldom))
    assert some
    assert 0 < some.rounds < 1
    assert some.cost is not None


# --- repetitions ------------------------------------------------------------------------------------


def paced(*paces: float | None) -> Callable[[int], Sample]:
    """A repetition for each pace of raw; None: Ctrl-C. The last one goes on for ever."""

    def once(number: int) -> Sample:
        pace = paces[min(number, len(paces) - 1)]
        if pace is None:
            raise KeyboardInterrupt
        return Sample(seconds=8 * pace, step=pace, raw={True: pace})

    return once


@pytest.fixture
def alone(tmp_path: Path) -> Load:
    """Nobody says what others do."""
    return Load(1, 1, tmp_path)


@pytest.mark.parametrize(
    ("paces", "kept", "repeated", "disturbed"),
    [
        ([9, 1, 1, 1.05], [1, 1, 1.05], 0, 0),
        ([9, 1, 2, 1, 1], [1, 1, 1], 1, 0),
        ([9, 1, 2, 1, 3, 4, 5], [1, 1, 5], 3, 1),
    ],
    ids=["quiet", "one is done again", "no more than as many again"],
)
def test_a_repetition_in_which_raw_went_at_another_pace_is_done_again(
    alone: Load, paces: list[float], kept: list[float], repeated: int, disturbed: int
) -> None:
    found = repeat(paced(*paces), 3, alone)
    assert sorted(sample.pace for sample in found.samples) == kept
    assert (found.repeated, found.disturbed, found.interrupted) == (repeated, disturbed, False)


def test_what_others_take_of_our_processors(tmp_path: Path) -> None:
    """Seconds of the clock, of this process, of all processes."""
    before, after = Moment(0.0, 0.0, 100.0), Moment(10.0, 15.0, 119.0)
    assert Load(2, 2, tmp_path).share(before, after) == pytest.approx(0.2), "4 s of 20"
    assert Load(2, 3, tmp_path).share(before, after) == 0, "they have a processor of their own"
    assert Load(2, 2, tmp_path).share(before, after._replace(every=None)) == 0
    assert Load(2, 2, tmp_path).share(before, Moment(0.1, 0.0, 120.0)) == 0, "too short to be told"


def test_what_all_processes_took_is_read_from_the_system(tmp_path: Path) -> None:
    assert Load(1, 1, tmp_path).now().every is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  100 20 30 9999 9999 5 6 7 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")
    assert Load(1, 1, tmp_path).now().every == pytest.approx(1.68), "not idle, not waiting for a disk; stolen is"


def test_a_busy_machine_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load(1, 1, tmp_path)
    monkeypatch.setattr(load, "share", lambda _before, _after: 0.5)
    found = repeat(paced(1), 2, load)
    assert (found.disturbed, found.repeated, len(found.samples)) == (2, 2, 2)
    row = found.speed(CASE, EDGE.variant, BEGAN)
    assert Columns().cells(row)[-1] == "2 of 2, 2 repeated"


def test_an_interrupt_keeps_the_repetitions_before(alone: Load) -> None:
    found = repeat(paced(1, 1, 1, None), 5, alone)
    assert found.interrupted
    assert len(found.samples) == 2
    with pytest.raises(KeyboardInterrupt):
        repeat(paced(1, None), 5, alone)


def test_branches_are_no_loss_of_the_loop() -> None:
    """Ten rounds of 2 s without branches and five of 6 s with them wrote sixteen tokens; raw took 1.9 s a step."""
    sample = Sample(seconds=50 * 8 / 16, step=2.0, raw={True: 1.9}, beside=0.1, raw_beside=0.05, rounds=15, forked=5)
    row = Repetitions([sample, sample]).speed(CASE, EDGE.variant, BEGAN)
    assert row.of_raw_fa_on
    assert row.of_raw_fa_on.mean == pytest.approx(0.95)
    assert row.rate.mean == pytest.approx(16 / 50)
    assert row.forks
    assert tuple(row.forks) == pytest.approx((1 / 3, 50 / 16 / 2 - 1))
    everywhere = replace(sample, step=None, forked=15)
    row = Repetitions([everywhere]).speed(CASE, EDGE.variant, BEGAN)
    assert row.of_raw is None
    assert str(row.forks) == "100 %"


# --- the report -----------------------------------------------------------------------------------


def test_a_row_has_a_cell_a_column() -> None:
    columns = Columns(without_flash=True, threads=True, batches=True)
    assert dict(zip(columns.headings, columns.cells(EDGE), strict=True)) == {
        "test": "tg8",
        "loop": "edge",
        "attention": "last",
        "fa": "auto",
        "tokens/s": "90.0 ± 14.1",
        "threads": "2",
        "n_batch": "512",
        "of raw": "0.950 ± 0.010",
        "of raw, fa on": "0.900 ± 0.020",
        "beside llama.cpp": "158 µs",
        "forks": "6 %, +9 %",
        "disturbed": "1 of 2, 2 repeated",
    }
    assert len(Columns().headings) == len(Columns().cells(RAW)) == 9


def test_of_one_repetition_no_spread_is_said() -> None:
    assert Columns().cells(RAW)[4] == "100.0"
    assert record(FACTS, RAW)["stddev_ts"] is None


def test_a_record_has_llama_benchs_fields() -> None:
    found = record(FACTS, EDGE)
    assert (
        found
        | {
            "model_type": "llama 1M F32",
            "n_threads": 2,
            "flash_attn": -1,
            "n_prompt": 0,
            "n_gen": 8,
            "n_depth": 0,
            "test_time": "2026-01-02T03:04:05Z",
            "avg_ns": 90_000_000.0,
            "samples_ns": [80_000_000, 100_000_000],
            "samples_ts": [pytest.approx(100.0), pytest.approx(80.0)],
            "avg_ts": pytest.approx(90.0),
            "loop": "edge",
            "attention": "last",
            "of_raw_fa_on": 0.9,
            "of_raw_fa_on_stddev": 0.02,
            "beside_ns": 158_000,
            "fork_rounds": 0.06,
            "disturbed": 1,
        }
        == found
    )
    assert record(FACTS, GREEDY)["attention"] == "0,5"


def test_the_last_lines_say_in_words_what_the_loop_costs() -> None:
    assert list(conclusions([EDGE, GREEDY, RAW])) == [
        "tg8: the default loop runs at 90.0 ± 2.0 % of raw llama.cpp with flash attention on; Python and kernels take "
        "158 µs of a token, raw's argmax 46 µs; forks, 6 % of the rounds, make a token 9 % longer",
        "tg8: greedy, attention 0,5, fa off 90.0 ± 2.0 %",
    ]
    assert next(conclusions([GREEDY])).startswith("tg8: the loop greedy, attention 0,5, fa off runs at 90.0 ± 2.0 %")
    assert list(conclusions([RAW])) == []


def test_beside_the_table_stands_what_a_token_and_a_start_cost() -> None:
    mib = 2**20
    beside = Beside(
        kernels=Kernels(n_vocab=1000, maximum=1e-6, metrics=9e-6, draw=4e-6),
        starts=Starts(
            Start(0.5, 200 * mib, 50 * mib), Start(0.8, 300 * mib, 90 * mib), Start(3.0, 300 * mib, 90 * mib)
        ),
        completion={"flash attention on": Spread(1.2, 0.01)},
    )
    said = "\n".join(beside.lines())
    assert "metrics 9 µs (9.0 times numpy.max), filters and draw 4 µs (0.44 times the metrics)" in said
    assert "0.80 s, a raw script 0.50 s (+0.30 s); the very first run 3.00 s (+2.20 s)" in said
    assert "(+100 and +40 MiB)" in said
    assert "create_completion, flash attention on: 1.200 ± 0.010" in said
    assert "throttling" not in said
    assert "throttling: none" in "\n".join(replace(beside, throttling="none").lines())
    assert json.loads(json.dumps(beside.as_record()))["starts"]["warm"]["seconds"] == 0.8


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x0, "none"),
        (0x5, "under-voltage now, throttled now"),
        (0x50000, "under-voltage since boot, throttled since boot"),
        (0x80008, "soft temperature limit now"),
        (0xE0002, "frequency capped now, throttled since boot, soft temperature limit since boot"),
    ],
)
def test_a_raspberry_pis_bits_in_words(bits: int, words: str) -> None:
    assert describe_throttling(bits) == words


# --- the command ----------------------------------------------------------------------------------

SHORT = ["-p", "8", "-n", "3", "-d", "2", "-r", "1", "-t", "1", "--loop", "greedy", "--attention", "off", "--no-start"]


def bench(model: Path, *arguments: str) -> list[str]:
    return ["bench", "-m", str(model), *SHORT, *arguments]


@pytest.mark.parametrize("option", ["--format", "-o", "--output"])
@pytest.mark.parametrize("form", ["table", "md", "csv", "json", "jsonl"])
def test_the_command_prints_each_format(
    form: str, option: str, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(bench(tiny_model, option, form))
    out, _ = capsys.readouterr()
    assert code == 0
    rows: list[dict[str, Any]] = []
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(out)))
    elif form == "jsonl":
        rows = [json.loads(line) for line in out.splitlines()]
    elif form == "json":
        rows = json.loads(out)["tests"]
    else:
        named = [line.strip("| ").split()[0] for line in out.splitlines() if re.search(r" @ d2 +(\| )?[a-z]", line)]
        assert named == ["pp8", "pp8", "tg3", "tg3"]
    if rows:
        assert [row["loop"] for row in rows] == ["engine", "raw", "greedy", "raw"]
        assert [int(row["n_prompt"]) for row in rows] == [8, 8, 0, 0]
        assert all(float(row["avg_ts"]) > 0 for row in rows)
    assert "±" not in out
    if form in ("table", "md", "json"):
        assert "the loop greedy, attention off runs at" in out


def test_lists_are_llama_benchs(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lists and repeated options; 0 leaves a kind out; the default comes first."""
    sizes = ["-p", "0", "-n", "2,3", "-n", "4", "-d", "0,5", "-t", "1,2", "-b", "64,128", "-r", "1", "--no-start"]
    chosen = ["--loop", "edge", "--attention", "last", "--attention", "0,1", "-o", "jsonl"]
    assert run(["bench", "-m", str(tiny_model), *sizes, *chosen]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(row["n_threads"], row["n_batch"], row["n_depth"], row["n_gen"]) for row in rows} == {
        (threads, batch, depth, count)
        for threads in (1, 2)
        for batch in (64, 128)
        for depth in (0, 5)
        for count in (2, 3, 4)
    }
    assert [row["attention"] for row in rows[:3]] == ["last", "0,1", "off"]
    assert not any(row["n_prompt"] for row in rows)
    assert run(["bench", "-m", str(tiny_model), "-p", "4,6", "-n", "0", "-r", "1", "--no-start", "-o", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["n_prompt"], row["n_depth"], row["attention"]) for row in rows[:3]] == [
        (4, 0, "last"),
        (4, 0, "off"),
        (4, 0, "off"),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-n", "4,x"], "'4,x' must be a whole number of at least 0, or several like 16,32."),
        (["-t", "0"], "'0' must be a whole number of at least 1"),
        (["--attention", "7"], "attention layer 7 does not exist"),
        (["-p", "0", "-n", "0"], "-p 0 and -n 0 leave nothing to measure"),
    ],
)
def test_what_cannot_be_measured_is_said(
    arguments: list[str], words: str, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "-m", str(tiny_model), "--no-start", *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def command(model: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "entropix_edge", *bench(model, *arguments)]


@pytest.mark.parametrize(
    ("form", "row"), [("md", "| raw |"), ("jsonl", '"raw"'), ("table", "raw, fa on"), ("json", "raw, fa on")]
)
def test_ctrl_c_keeps_what_was_measured(form: str, row: str, tiny_model: Path, compiled: None) -> None:
    """Pressed when the prompts are measured, and of some seconds' generation a part."""
    process = subprocess.Popen(
        command(tiny_model, "-n", "60", "-r", "1000", "-o", form),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    lines = iter((process.stdout if form in ("md", "jsonl") else process.stderr).readline, "")
    assert any(row in line for line in lines)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    if form == "json":
        loops = [row["loop"] for row in json.loads(out)["tests"]]
        assert loops[:3] == ["engine", "raw", "greedy"], "the repetitions that had ended are rows"
    else:
        assert "greedy" in out, "the repetitions that had ended are a row"
    assert "Traceback" not in err


def test_on_a_terminal_the_table_grows(tiny_model: Path, compiled: None) -> None:
    with Terminal(command(tiny_model)) as terminal:
        terminal.see("pp8 @ d2  engine")
        terminal.see("Measuring: tg3 @ d2 greedy, attention off")
        terminal.see("the loop greedy, attention off runs at")


@pytest.mark.model
def test_processes_are_started_raw_and_ours(default_model: Path) -> None:
    found = starts(default_model, 2, 1)
    assert all(start.seconds > 0 for start in found)
    assert found.warm.resident is None or found.warm.resident > 90 * 2**20


@pytest.mark.model
def test_create_completion_is_compared_with(default_model: Path) -> None:
    config = EngineConfig(threads=2, ctx_size=256)
    with Model(default_model) as model, Contexts(model, config, 8, lambda: False) as contexts:
        assert 0 < Speeds(contexts, 1).completion(6, flash=True).mean < 100


# --- builds that cannot lay weights out anew --------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "can"),
    [
        ("CPU : AVX512 = 1 | AMX_INT8 = 1 | REPACK = 1", False),
        ("CPU : AVX512 = 1 | REPACK = 1", True),
        ("CPU : NEON = 1 | DOTPROD = 1 | REPACK = 1", True),
    ],
)
def test_weights_are_left_as_they_are_where_amx_would_take_them(
    monkeypatch: pytest.MonkeyPatch, build: str, can: bool
) -> None:
    module = sys.modules[can_repack.__module__]  # its name is that of a function too
    monkeypatch.setattr(module, "system_info", lambda: build)
    assert can_repack() is can
