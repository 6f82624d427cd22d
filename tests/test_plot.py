"""`entropix-edge plot`: every kind of file, in every form it has."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from entropix_edge.cli import run
from entropix_edge.render.plots_data import Judged, reliability, risk_coverage

CHECKOUT = Path(__file__).parents[1]
RESULTS = CHECKOUT / "docs" / "results" / "gsm8k-qwen2.5-coder-0.5b.jsonl"
FITTED = CHECKOUT / "entropix_edge" / "strategy" / "presets" / "fitted" / "00a6fbf709d757d5.toml"
HOSTILE = "</script><img src=x onerror=alert(1)>$x^$\x1b[31m"
BEGINNINGS = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}


def trace(path: Path, text: str = " word", tokens: int = 40) -> Path:
    """A trace with a fork, whose words are given."""
    from dataclasses import asdict

    from entropix_edge.strategy import load_preset

    head = {"format": "entropix-edge trace 1", "model": text, "seed": 1, "preset": asdict(load_preset("edge"))}
    lines = [head]
    for index in range(tokens):
        if index == 7:
            branch = {"event": "branch", "index": 7, "token_ids": [1, 2], "text": text, "score": -0.5, "kept": True}
            lines += [branch, branch | {"kept": False, "score": -1.5}]
        metrics = {"entropy": index / 8, "varentropy": index / 3, "attention": None}
        strategy = ["argmax", "adaptive", "branch", "pause", "resample"][index % 5]
        token = {"index": index, "token_id": 1, "text": text, "logprob": -1.0, "metrics": metrics, "strategy": strategy}
        lines.append(token | {"origin": "sampled", "finish_reason": None})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def plot(*arguments: str | Path) -> int:
    return run(["plot", *map(str, arguments)])


def test_a_trace_is_drawn_in_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "31")
    assert plot(trace(tmp_path / "t.jsonl")) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 31 for line in out.splitlines()[:-2])
    assert "   0 H " in out
    assert "  24 H " in out
    assert "40 tokens" in out
    assert "·-Y…?" in out
    assert "torn 20 %" in out


def test_a_terminal_obeys_no_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plot(trace(tmp_path / "t.jsonl", HOSTILE)) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("form", BEGINNINGS)
def test_every_kind_of_file_is_drawn(tmp_path: Path, form: str) -> None:
    for source in (trace(tmp_path / "t.jsonl", HOSTILE), RESULTS, FITTED):
        out = tmp_path / f"{source.stem}.{form}"
        assert plot(source, "--out", out) == 0
        assert out.read_bytes().startswith(BEGINNINGS[form])


@pytest.mark.parametrize("chart", ["timeline", "plane", "tree"])
def test_a_picture_is_the_same_each_time(tmp_path: Path, chart: str) -> None:
    pictures = []
    for name in ("one.svg", "other.svg"):
        assert plot(trace(tmp_path / "t.jsonl"), "--chart", chart, "--out", tmp_path / name) == 0
        pictures.append((tmp_path / name).read_bytes())
    assert pictures[0] == pictures[1]


def test_several_traces_share_a_plane(tmp_path: Path) -> None:
    files = [trace(tmp_path / "a.jsonl"), trace(tmp_path / "b.jsonl")]
    assert plot(*files, "--out", tmp_path / "both.svg") == 0
    assert plot(*files, "--out", tmp_path / "both.html") == 0
    page = (tmp_path / "both.html").read_text("utf-8")
    assert "a.jsonl" in page
    assert "b.jsonl" in page


def test_recordings_are_drawn_as_reliability_and_risk(tmp_path: Path) -> None:
    head = {"settings": {"summary_of": [{"model": "m"}], "features": ["mean_entropy"]}}
    lines = [head] + [
        {"source": 0, "problem": str(n), "policy": "edge", "seed": 0, "number": 0, "answer": "1", "right": n % 3 > 0}
        | {"finish": "stop", "written_tokens": 5, "decoded_tokens": 5, "seconds": 1.0, "features": [n / 20]}
        for n in range(40)
    ]
    source = tmp_path / "summary.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    for chart in ("reliability", "risk"):
        assert plot(source, "--chart", chart, "--out", tmp_path / f"{chart}.png") == 0


def test_standard_input_and_output(tmp_path: Path) -> None:
    source = trace(tmp_path / "t.jsonl")
    command = [sys.executable, "-m", "entropix_edge", "plot", "-", "--out", "-", "--format", "html"]
    result = subprocess.run(command, input=source.read_bytes(), capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b"<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jsonl"], "none.jsonl does not exist"),
        (["t.jsonl", "--out", "t.jsonl"], "is what is to be drawn"),
        (["t.jsonl", "--out", "picture"], "does not say what to draw"),
        (["t.jsonl", "--format", "png"], "needs --out"),
        (["t.jsonl", "--out", "x.svg", "--chart", "risk"], "must be one of timeline, plane, tree"),
        (["bad.jsonl", "--out", "x.svg"], "bad.jsonl is not a trace"),
        ([str(RESULTS)], "in the terminal traces are drawn"),
        ([str(RESULTS), "--out", "x.html"], "svg, png or pdf"),
        (["t.jsonl", str(RESULTS), "--out", "x.svg"], "do not fit into one picture"),
        (["-", "-"], "given twice"),
        ([str(CHECKOUT / "pyproject.toml"), "--out", "x.svg"], "names no quantiles"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    source = trace(tmp_path / "t.jsonl").read_bytes()
    (tmp_path / "bad.jsonl").write_text("nothing\n")
    assert plot(*arguments) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "t.jsonl").read_bytes() == source
    assert not (tmp_path / "x.svg").exists()


def test_a_hostile_trace_stays_data(tmp_path: Path) -> None:
    """`test_page_browser` opens the same in a browser."""
    assert plot(trace(tmp_path / "t.jsonl", HOSTILE), "--out", tmp_path / "t.html") == 0
    page = (tmp_path / "t.html").read_text("utf-8")
    assert "onerror=alert(1)>" in page  # it is there, as data
    assert "<img" not in page
    assert len(re.findall("</script>", page)) == 2
    assert "'unsafe" not in page


def test_bins_hold_equally_many() -> None:
    judged = [Judged(number / 100, number >= 50) for number in range(100)]
    bins = reliability(judged)
    assert [count for _mean, _share, count in bins] == [10] * 10
    assert [share for _mean, share, _count in bins] == [0.0] * 5 + [1.0] * 5
    assert bins[0][0] == pytest.approx(0.045)


def test_risk_rises_with_coverage_where_confidence_orders_well() -> None:
    judged = [Judged(0.9, True), Judged(0.8, True), Judged(0.5, False), Judged(0.5, True)]
    assert risk_coverage(judged) == [(0.25, 0.0), (0.5, 0.0), (1.0, 0.25)]
