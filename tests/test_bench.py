"""What `bench` says: every setting measured, ratios of like with like, each format with the same numbers."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from entropix_edge.bench.process import Start, Starts, describe_throttling, starts
from entropix_edge.bench.report import COLUMNS, Facts, Report, as_csv, as_jsonl, cells, markdown
from entropix_edge.bench.speed import Bench, Kernels, Speed, Spread, Variant
from entropix_edge.cli import run
from entropix_edge.config import EngineConfig
from entropix_edge.llama import can_repack

FACTS = Facts(
    model="tiny.gguf",
    size=2**20,
    parameters=1_500_000,
    backend="CPU",
    threads=2,
    gpu_layers=0,
    llama_cpp="0.3.36",
    throttling=None,
)
RAW = Speed(test="tg8", loop="raw", attention="off", flash=True, rate=Spread(100.0, 2.0))
EDGE = Speed(
    test="tg8",
    loop="edge",
    attention="last",
    flash=False,
    rate=Spread(90.0, 1.0),
    ratio=Spread(0.95, 0.01),
    flash_ratio=Spread(0.9, 0.02),
    decode_share=0.98,
)
REPORT = Report(
    facts=FACTS,
    speeds=(RAW, EDGE),
    kernels=Kernels(n_vocab=1000, maximum=1e-6, metrics=9e-6, draw=4e-6, python=50e-6, raw=30e-6),
    starts=Starts(
        Start(0.5, 200 * 2**20, 50 * 2**20), Start(0.8, 300 * 2**20, 90 * 2**20), Start(3.0, 300 * 2**20, 90 * 2**20)
    ),
    completion={"flash attention on": Spread(1.2, 0.01)},
)


@pytest.fixture
def bench(tiny_model: Path) -> Bench:
    return Bench(tiny_model, EngineConfig(threads=1), n_prompt=12, n_gen=4, depth=4, repetitions=2)


def test_every_variant_stands_beside_raw(bench: Bench) -> None:
    variants = [Variant("greedy", "off", True), Variant("edge", "last", False), Variant("article", "all", False)]
    with bench:
        speeds = [*bench.prompt(), *bench.generation(variants)]
    assert [speed.test for speed in speeds] == ["pp12"] * 4 + ["tg4 @ d4"] * 5
    for speed in speeds:
        assert speed.rate.mean > 0
        assert (speed.ratio is None) == (speed.flash_ratio is None) == (speed.loop == "raw")
        if speed.decode_share is not None:
            assert 0 < speed.decode_share < 1
    assert [(speed.loop, speed.attention, speed.flash) for speed in speeds[4:]] == [
        ("greedy", "off", True),
        ("edge", "last", False),
        ("article", "all", False),
        ("raw", "off", True),
        ("raw", "off", False),
    ]


def test_with_flash_attention_on_both_ratios_are_the_same(bench: Bench) -> None:
    with bench:
        found = next(iter(bench.generation([Variant("greedy", "off", True)])))
    assert found.ratio == found.flash_ratio


def test_kernels_are_timed_on_real_rows(bench: Bench) -> None:
    with bench:
        kernels = bench.kernels()
        assert kernels.n_vocab == bench.model.n_vocab
    assert min(kernels.maximum, kernels.metrics, kernels.draw, kernels.raw) > 0


def test_an_interrupt_ends_it(tiny_model: Path) -> None:
    with (
        Bench(
            tiny_model,
            EngineConfig(threads=1),
            n_prompt=12,
            n_gen=4,
            depth=4,
            repetitions=2,
            cancelled=lambda: True,
        ) as bench,
        pytest.raises(KeyboardInterrupt),
    ):
        list(bench.prompt())


# --- the report -----------------------------------------------------------------------------------


def test_a_row_has_a_cell_a_column() -> None:
    assert dict(zip(COLUMNS, cells(EDGE), strict=True)) == {
        "test": "tg8",
        "loop": "edge",
        "attention": "last",
        "fa": "off",
        "tokens/s": "90.0 ± 1.0",
        "of raw": "0.950 ± 0.010",
        "of raw, fa on": "0.900 ± 0.020",
        "in llama.cpp": "98.0 %",
    }


def test_each_format_has_the_same_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(REPORT))))
    records = [json.loads(line) for line in as_jsonl(REPORT).splitlines()]
    whole = json.loads(json.dumps(REPORT.as_record()))["speeds"]
    assert [float(row["rate"]) for row in rows] == [100.0, 90.0]
    assert [record["rate"] for record in records] == [100.0, 90.0]
    assert [speed["rate"]["mean"] for speed in whole] == [100.0, 90.0]
    assert [row["ratio"] for row in rows] == ["", "0.95"]
    assert whole[0]["ratio"] is None
    assert "| tg8 | edge | last | off | 90.0 ± 1.0 |" in markdown(REPORT)


def test_beside_the_table_stands_what_a_token_and_a_start_cost() -> None:
    said = "\n".join(REPORT.lines())
    assert "metrics 9 µs (9.0 times numpy.max), filters and draw 4 µs (0.44 times the metrics), Python 50 µs" in said
    assert "0.80 s, a raw script 0.50 s (+0.30 s); the very first run 3.00 s (+2.20 s)" in said
    assert "(+100 and +40 MiB)" in said
    assert "create_completion, flash attention on: 1.200 ± 0.010" in said
    assert "throttling" not in said
    assert "throttling: none" in "\n".join(replace(REPORT, facts=replace(FACTS, throttling="none")).lines())


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


@pytest.mark.parametrize("form", ["table", "md", "csv", "json", "jsonl"])
def test_the_command_prints_each_format(form: str, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["-p", "8", "-n", "3", "-d", "2", "-r", "1", "-t", "1"]
    choice = ["--loop", "greedy", "--attention", "off", "--no-start", "--output", form]
    code = run(["bench", "-m", str(tiny_model), *sizes, *choice])
    out, _ = capsys.readouterr()
    assert code == 0
    assert "greedy" in out
    if form == "json":
        assert json.loads(out)["facts"]["parameters"] > 0


@pytest.mark.model
def test_processes_are_started_raw_and_ours(default_model: Path) -> None:
    found = starts(default_model, 2, 1)
    assert all(start.seconds > 0 for start in found)
    assert found.warm.resident is None or found.warm.resident > 90 * 2**20


@pytest.mark.model
def test_create_completion_is_compared_with(default_model: Path) -> None:
    with Bench(default_model, EngineConfig(threads=2), n_prompt=12, n_gen=6, depth=8, repetitions=1) as bench:
        assert 0 < bench.completion(flash=True).mean < 100


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
