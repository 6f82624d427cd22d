"""`plot`: traces in a terminal, as pictures and as a page; what evaluations and calibrations found."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from terminals import Terminal

from entropix_edge.cli import run
from entropix_edge.confidence import Fits
from entropix_edge.confidence import as_toml as fits_as_toml
from entropix_edge.evaluation.calibration import (
    Observation,
    as_toml,
    deciles,
    fit,
    open_record,
    read_deciles,
    read_record,
)
from entropix_edge.evaluation.features import SIGNS
from entropix_edge.evaluation.fitting import Judged, calibration_error, cross_validation, left_out, rank_of
from entropix_edge.evaluation.plots import gain_points
from entropix_edge.evaluation.samples import Sample, write_summary
from entropix_edge.render import TraceWriter
from entropix_edge.strategy import classify, load_preset, thresholds
from entropix_edge.types import (
    BranchEvent,
    CandidateEvent,
    CorrectionEvent,
    Event,
    FinishReason,
    Metrics,
    Origin,
    RejectedEvent,
    RewindEvent,
    TokenEvent,
)

RESULTS = Path(__file__).parents[1] / "docs" / "results"
EVALUATION = RESULTS / "gsm8k-qwen2.5-coder-0.5b.jsonl"
SMALL = RESULTS / "candidates" / "gsm8k-c-qwen2.5-coder-0.5b.jsonl.gz"
LARGE = RESULTS / "candidates" / "gsm8k-c-qwen2.5-coder-1.5b.jsonl.gz"
OF_GREEDY = ["--policy", "greedy", "--extractor", "last-number"]
EDGE = load_preset("edge")
# a point in each quadrant of `edge`: argmax, adaptive, branch, pause, resample
POINTS = [(0.1, 0.5), (2.0, 6.0), (2.0, 9.0), (4.5, 5.0), (6.0, 14.0)]


def token(index: int, text: str = " word", point: tuple[float, float] | None = None, **changes: object) -> TokenEvent:
    metrics = Metrics(*(point or POINTS[index % 5]))
    event = TokenEvent(index, 7, text, -0.5, metrics, classify(metrics, EDGE), Origin.SAMPLED)
    return event._replace(**changes)  # type: ignore[arg-type]


def write(path: Path, events: Sequence[Event], preset: object = None) -> Path:
    writer = TraceWriter(path, {"model": "m.gguf", "preset": asdict(EDGE) if preset is None else preset})
    for event in events:
        writer.write(event)
    writer.close()
    return path


HAPPENED: list[Event] = [
    CandidateEvent(0, (1, 2), "first candidate", 0.7, "41", kept=False),
    token(0),
    BranchEvent(1, (1,), " kept branch", -0.4, kept=True),
    BranchEvent(1, (2,), " $\\frac{1$ other branch", -0.9, kept=False),
    *map(token, range(1, 9)),
    RewindEvent(9, (3,), " taken back words"),
    RejectedEvent(9, 5, " zebra", 9.0, 6.0),
    CorrectionEvent(9, (4,), " 41", "6 * 7", "41", "42"),
    token(9, " 42", origin=Origin.FORCED),
    *map(token, range(10, 19)),
    token(19, finish_reason=FinishReason.STOP),
]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write(tmp_path / "trace.jsonl", HAPPENED)


def plot(*arguments: object) -> int:
    return run(["plot", *map(str, arguments)])


def text_of(path: Path) -> str:
    """The texts of an SVG, which must be well-formed."""
    return " ".join(filter(None, map(str.strip, ElementTree.parse(path).getroot().itertext())))


# --- in the terminal ----------------------------------------------------------------------------------


def test_a_trace_alone_is_drawn_in_the_terminal(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plot(trace) == 0
    lines = capsys.readouterr().out.splitlines()
    ribbon = next(line for line in lines if re.fullmatch(r" {6}[.~bprc]+", line))
    assert ribbon.strip() == ".~bpr.~bpc.~bpr.~bpr"
    rest = " ".join(lines)
    for part in (
        "20 tokens",
        "1 fork",
        "1 rewind",
        "1 rejected draw",
        "1 correction",
        "end: stop",
        "b torn 20 %",
        "c corrected 5 %",
    ):
        assert part in rest
    assert "\x1b" not in rest


@pytest.mark.parametrize("columns", [20, 33, 80, 300])
@pytest.mark.parametrize("count", [1, 14, 15, 2000])
def test_no_line_is_longer_than_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int, count: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert plot(write(tmp_path / "t.jsonl", [token(index) for index in range(count)])) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert f"{count} token" in " ".join(lines)


def test_a_column_of_several_tokens_shows_the_least_sure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "16")
    points = [POINTS[0]] * 100
    points[57] = POINTS[4]
    plot(write(tmp_path / "t.jsonl", [token(index, point=point) for index, point in enumerate(points)]))
    out = capsys.readouterr().out
    assert "      .....r....\n" in out
    assert "10 a column" in out


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=["colour", "NO_COLOR", "dumb"],
)
def test_colour_is_for_terminals_that_have_it(trace: Path, variables: dict[str, str], coloured: bool) -> None:
    with Terminal([sys.executable, "-m", "entropix_edge", "plot", str(trace)], variables) as terminal:
        terminal.see("end: stop")
        assert terminal.code() == 0
        assert ("\x1b[3" in terminal.raw) is coloured


def test_ascii_is_enough(trace: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "entropix_edge", "plot", trace],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert result.stdout.isascii()
    assert b"#" in result.stdout
    assert b"?" not in result.stdout


@pytest.mark.parametrize(("wanted", "coloured"), [("always", True), ("never", False), ("auto", False)])
def test_colour_as_its_user_says(trace: Path, capsys: pytest.CaptureFixture[str], wanted: str, coloured: bool) -> None:
    assert plot(trace, "--color", wanted) == 0
    assert ("\x1b[3" in capsys.readouterr().out) is coloured


def test_a_recording_is_read_from_standard_input(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "entropix_edge", "plot", "-", "--out", "-", "--format", "svg"]
    result = subprocess.run(command, input=SMALL.read_bytes(), capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert b"greedy+check" in result.stdout
    result = subprocess.run(command, input=b'{"settings": {}}\n[]\n', capture_output=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith(b"Error: standard input: line 2 is not a record of a ")


def test_standard_input_is_read(
    trace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(trace.read_bytes())))
    assert plot("-") == 0
    assert "20 tokens" in capsys.readouterr().out


def test_tokens_without_metrics_have_no_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = [token(index, metrics=None, strategy=None) for index in range(3)]
    path = write(tmp_path / "t.jsonl", bare)
    assert plot(path) == 0
    assert "█" not in capsys.readouterr().out
    for chart in ("timeline", "plane", "tree"):
        assert plot(path, "--chart", chart, "--out", tmp_path / f"{chart}.svg") == 0


# --- pictures of traces -------------------------------------------------------------------------------


@pytest.mark.parametrize("chart", ["timeline", "plane", "tree"])
@pytest.mark.parametrize(("form", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_each_plot_in_each_format(trace: Path, tmp_path: Path, chart: str, form: str, begins: bytes) -> None:
    out = tmp_path / f"out.{form}"
    assert plot(trace, "--chart", chart, "--out", out) == 0
    assert out.read_bytes().startswith(begins)
    first = out.read_bytes()
    assert plot(trace, "--chart", chart, "--out", out) == 0
    assert out.read_bytes() == first, "the same trace gives the same file"


def test_the_timeline_names_strategies_thresholds_and_events(trace: Path, tmp_path: Path) -> None:
    assert plot(trace, "--out", tmp_path / "t.svg") == 0
    text = text_of(tmp_path / "t.svg")
    for part in ("trace.jsonl", "H, bits", "V, bits²", "branch, torn", "resample > 5", "pause < 7", "fork", "rewind"):
        assert part in text


def test_the_plane_has_several_traces_and_the_quadrants_they_share(trace: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", [token(0), token(1)])
    out = tmp_path / "p.svg"
    assert plot(trace, other, "--out", out) == 0
    text = text_of(out)
    for part in ("trace.jsonl (20)", "other.jsonl (2)", "LELV", "LEHV", "HELV", "HEHV"):
        assert part in text
    article = write(tmp_path / "article.jsonl", [token(0)], asdict(load_preset("article")))
    assert plot(trace, article, "--out", out) == 0
    assert "LELV" not in text_of(out)


@pytest.mark.parametrize("preset", ["edge", {"argmax": 3}, {"argmax": {"entropy_below": "x"}}, [], 7])
def test_a_trace_without_thresholds_has_no_quadrants(tmp_path: Path, preset: object) -> None:
    path = write(tmp_path / "t.jsonl", [token(0), token(4)], preset)
    for chart in ("timeline", "plane"):
        assert plot(path, "--chart", chart, "--out", tmp_path / "out.svg") == 0
        assert "LELV" not in text_of(tmp_path / "out.svg")
        assert "> 5" not in text_of(tmp_path / "out.svg")
    assert plot(path) == 0


def test_the_tree_has_all_that_the_reply_might_have_been(trace: Path, tmp_path: Path) -> None:
    assert plot(trace, "--chart", "tree", "--out", tmp_path / "t.svg") == 0
    text = text_of(tmp_path / "t.svg")
    for part in (
        *(
            "first candidate",
            "answer 41, confidence 0.70",
            "kept branch",
            "score -0.40   kept",
            "$\\frac{1$ other branch",
        ),
        *("taken back words", "taken back", "6 * 7 = 42, not 41"),
    ):
        assert part in text


def test_a_kept_branch_stands_in_the_tree_once(tmp_path: Path) -> None:
    branch = BranchEvent(0, (1,), " kept", -0.1, kept=True)
    events: list[Event] = [branch, token(0, " kept", origin=Origin.BRANCH), token(1, " next")]
    assert plot(write(tmp_path / "t.jsonl", events), "--chart", "tree", "--out", tmp_path / "t.svg") == 0
    assert text_of(tmp_path / "t.svg").count("kept") == 2, "the branch, and that it was kept"


def test_a_tree_without_end_is_cut(tmp_path: Path) -> None:
    events: list[Event] = []
    for index in range(400):
        events += [BranchEvent(index, (1,), " a", -1.0, kept=True), token(index)]
    assert plot(write(tmp_path / "t.jsonl", events), "--chart", "tree", "--out", tmp_path / "t.svg") == 0
    assert "only the first 300 lines are drawn" in text_of(tmp_path / "t.svg")


HOSTILE = "</script><script>alert(1)</script> <img src=x onerror=alert(1)> <!-- $x^{$ \x00\x1b[31m\ufffe \U0001f600 中"


def test_a_strangers_text_cannot_break_a_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "$x_{.jsonl", [BranchEvent(0, (1,), HOSTILE, float("-inf"), kept=False), token(0, HOSTILE)])
    for chart in ("timeline", "plane", "tree"):
        for form in ("svg", "png", "pdf"):
            out = tmp_path / f"out.{form}"
            assert plot(path, "--chart", chart, "--out", out) == 0
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(tmp_path / "out.svg").getroot().iter()}
        assert not tags & {"script", "img", "foreignObject", "image"}
    assert "<img src=x" in text_of(tmp_path / "out.svg")


@pytest.mark.parametrize("to", [[], ["--out", "a.svg"], ["--out", "a.html"]])
def test_what_cannot_have_been_measured_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], to: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "t.jsonl", [token(0), token(1, point=(1e308, 3.0))])
    assert plot(path, *to) == 2
    said = "t.jsonl: the entropy of token 1 is 1e+308: it must be from 0 to 64"
    assert said in capsys.readouterr().err


def test_a_picture_goes_to_standard_output(trace: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert plot(trace, "--out", "-", "--format", "png") == 0
    sys.stdout.flush()
    assert capfdbinary.readouterr().out.startswith(b"\x89PNG")


def test_matplotlib_is_imported_only_when_it_draws(trace: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from entropix_edge.cli import run
assert run(["plot", {str(trace)!r}]) == 0 and "matplotlib" not in sys.modules
assert run(["plot", {str(trace)!r}, "--out", {str(tmp_path / "a.html")!r}]) == 0 and "matplotlib" not in sys.modules
sys.modules["matplotlib"] = None
sys.exit(run(["plot", {str(trace)!r}, "--out", {str(tmp_path / "a.svg")!r}]))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "Error: plots need matplotlib, which is not installed: pip install 'entropix-edge[plot]'"
    ]
    assert not (tmp_path / "a.svg").exists()


# --- what is no trace, and what cannot be asked for ---------------------------------------------------


def test_a_bad_line_is_named(trace: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = trace.read_text("utf-8").splitlines()
    lines[6] = lines[6].replace('"index": 2', '"index": "two"')
    trace.write_text("\n".join(lines) + "\n", "utf-8")
    for target in ([], ["--out", str(tmp_path / "x.svg")], ["--out", str(tmp_path / "x.html")]):
        assert plot(trace, *target) == 2
        assert "line 7 is not a trace event: index is 'two'" in capsys.readouterr().err
    assert not list(tmp_path.glob("x.*"))


def test_a_cut_trace_is_drawn_and_says_so(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace.write_bytes(trace.read_bytes()[:-20])
    assert plot(trace) == 0
    out = capsys.readouterr().out
    assert "19 tokens" in out
    assert "cut short" in out
    assert plot(trace, "--out", tmp_path / "t.svg") == 0
    assert "cut short" in text_of(tmp_path / "t.svg")


@pytest.mark.parametrize("content", ["", "not a trace\n", '{"model": "m.gguf"}\n'])
def test_an_empty_trace_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(content, "utf-8")
    for arguments in (
        [],
        *(["--chart", chart, "--out", str(tmp_path / "x.svg")] for chart in ("timeline", "plane", "tree")),
    ):
        assert plot(path, *arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert ("nothing to draw" if content.startswith("{") else "is not a trace") in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "none/x.svg"], "/none/x.svg: No such file or directory"),
        (["--out", "x.gif"], "--out x.gif names no format: end it in .svg, .png, .pdf, .html, or give --format"),
        (["--format", "svg"], "--format svg is of a file: name one with --out, - for standard output"),
        (
            ["--chart", "accuracy", "--out", "x.svg"],
            "--chart accuracy is not of this trace: it must be",
        ),
        (["trace.jsonl", "--chart", "tree", "--out", "x.svg"], "--chart tree draws one file, not 2"),
        (["missing.jsonl"], "missing.jsonl: No such file or directory"),
        (["--out", "trace.jsonl", "--format", "svg"], "--out trace.jsonl is what is to be drawn: give another file"),
        (["-", "-"], "- is given twice"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    trace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = trace.read_bytes()
    assert plot(trace, *arguments) in (1, 2)
    assert trace.read_bytes() == before
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["trace.jsonl"]


# --- evaluations --------------------------------------------------------------------------------------


def test_results_are_drawn_against_their_cost(tmp_path: Path) -> None:
    assert plot(EVALUATION, "--out", tmp_path / "a.svg") == 0
    text = text_of(tmp_path / "a.svg")
    for part in ("tokens decoded a problem", "share of right answers", "greedy", "deliberate:8", "self-consistency:7"):
        assert part in text


def test_gains_are_over_the_same_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plot(EVALUATION, SMALL, "--chart", "gains", "--out", tmp_path / "a.svg") == 0
    text = text_of(tmp_path / "a.svg")
    counts = ("self-consistency:7 (66)", "temperature (1149)", "greedy+check (1000)")
    for part in ("× greedy", "policy (problems)", *counts):
        assert part in text
    assert plot(SMALL, "--chart", "gains", "--against", "article", "--out", tmp_path / "b.svg") == 2
    told = "'article' is in these files: there are those of greedy, greedy+check, temperature, edge"
    assert told in capsys.readouterr().err


def test_gains_worked_out_by_hand(tmp_path: Path) -> None:
    def answers(policy: str, problem: str, letters: str) -> list[Sample]:
        return [
            Sample(
                problem=problem,
                policy=policy,
                seed=0,
                number=number,
                answer=letter,
                right=letter == "A",
                finish="stop",
                written_tokens=9,
                decoded_tokens=10,
                seconds=1.0,
                features=dict.fromkeys(SIGNS, 3.0 if letter == "B" else 1.0),
            )
            for number, letter in enumerate(letters)
        ]

    greedy = [*answers("greedy", "p", "B"), *answers("greedy", "q", "A"), *answers("greedy", "r", "A")]
    path = tmp_path / "summary.jsonl"
    write_summary(path, [*greedy, *answers("draws", "p", "AAB"), *answers("draws", "q", "BAA")])
    points = gain_points([path], "greedy")
    assert [point[:2] for point in points] == [
        *(("draws (2)", label) for label in "123"),
        ("draws, two ahead (2)", ""),
    ]
    assert [point.cost for point in points] == pytest.approx([1, 2, 3, 8 / 3])
    assert [point.accuracy[0] for point in points] == pytest.approx([1 / 6, 1 / 2, 1 / 2, 1 / 2])


@pytest.mark.parametrize("chart", ["accuracy", "gains", "reliability", "coverage", "escalation"])
def test_recordings_are_drawn(tmp_path: Path, chart: str) -> None:
    more = ["--escalate", LARGE] if chart == "escalation" else []
    assert plot(SMALL, "--chart", chart, *OF_GREEDY, *more, "--out", tmp_path / "a.svg") == 0
    said = {"reliability": "969 answers in 10 bins", "coverage": "95 % interval", "escalation": "seconds a problem"}
    assert said.get(chart, "greedy+check") in text_of(tmp_path / "a.svg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([SMALL, "--chart", "reliability"], "name the policy whose answers are meant"),
        ([SMALL, "--chart", "reliability", "--policy", "greedy"], "name the extractor"),
        ([SMALL, "--chart", "coverage", *OF_GREEDY[:2], "--extractor", "guess"], "'guess' is not known"),
        ([SMALL, "--chart", "escalation", "--policy", "greedy"], "--escalate FILE"),
        ([SMALL, "--chart", "escalation", "--escalate", LARGE], "it must be one of those in the recording, greedy"),
        ([EVALUATION, "--chart", "coverage"], "has no candidates"),
        ([SMALL, "--chart", "timeline"], "is not of this evaluation"),
    ],
)
def test_what_an_evaluation_lacks_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[object], message: str
) -> None:
    assert plot(*arguments, "--out", tmp_path / "a.svg") == 2
    assert message in capsys.readouterr().err


def test_an_evaluation_is_not_for_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments in ([], ["--out", str(tmp_path / "a.html")]):
        assert plot(EVALUATION, *arguments) == 2
        assert "is no trace: it is drawn as a picture" in capsys.readouterr().err


def test_another_text_is_no_calibration(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# A title\n", "utf-8")
    assert plot(path) == 2
    assert "README.md is not a trace" in capsys.readouterr().err


def test_a_damaged_evaluation_names_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(EVALUATION.read_text("utf-8").splitlines()[0] + '\n{"problem": 3}\n', "utf-8")
    assert plot(path, "--out", tmp_path / "a.svg") == 2
    assert "line 2 is not a record" in capsys.readouterr().err
    path.write_text(EVALUATION.read_text("utf-8").splitlines()[0] + "\n", "utf-8")
    assert plot(path, "--out", tmp_path / "a.svg") == 2
    assert "nothing to draw" in capsys.readouterr().err


def test_probabilities_of_answers_that_were_left_out_are_as_good_as_cross_validation_says() -> None:
    random = np.random.default_rng(1)
    names = ("summed_entropy", "length", "worst_64", "answer_greatest_entropy")
    answers = []
    for number in range(200):
        features = dict(zip(names, random.uniform(0.1, 5, len(names)), strict=True))
        answers.append(Judged(str(number), features, bool(random.random() < 1 / (1 + features["summed_entropy"]))))
    probabilities, right = left_out(answers, "exact")
    _area, error = cross_validation(answers, names)
    assert list(right) == [float(each.right) for each in answers]
    assert abs(calibration_error(probabilities, right) - error) < 0.03


# --- calibrations -------------------------------------------------------------------------------------


def observations(count: int = 400) -> list[Observation]:
    random = np.random.default_rng(0)
    return [Observation(*map(float, row)) for row in random.uniform(0, 9, (count, 4))]


def test_the_quantiles_of_a_calibration_are_drawn(tmp_path: Path) -> None:
    seen = observations()
    text = as_toml(fit(seen, EDGE), seen, "m.gguf")
    for quantity, values in deciles(seen).items():
        assert read_deciles(text)[quantity] == pytest.approx(values, abs=0.006)
    path = tmp_path / "c.toml"
    path.write_text(text, "utf-8")
    assert plot(path, "--out", tmp_path / "q.svg") == 0
    shown = text_of(tmp_path / "q.svg")
    for part in (
        "attention entropy",
        "varentropy",
        "% that lie below",
        "argmax.entropy_below",
        "resample.varentropy_above",
    ):
        assert part in shown


def unfinished(path: Path, replies: int, tokens: int) -> Path:
    """What an interrupted `calibrate` leaves."""
    seen = observations(replies * tokens)
    known = {"version": 2, "model": "0f", "asked": "1e", "attention": [1], "n_ctx": 512}
    with contextlib.closing(open_record(path, known)) as record:
        record.add([seen[start : start + tokens] for start in range(0, len(seen), tokens)])
    return path


def test_an_unfinished_calibration_is_drawn(tmp_path: Path) -> None:
    path = unfinished(tmp_path / "c.jsonl", replies=8, tokens=50)
    assert plot(path, "--out", tmp_path / "q.svg") == 0
    shown = text_of(tmp_path / "q.svg")
    assert "Not finished: 8 replies, 400 tokens so far" in shown
    assert "attention entropy" in shown
    seen = [each for reply in read_record(path) for each in reply]
    limit = thresholds(fit(seen, EDGE))["argmax.entropy_below"]
    assert f"argmax.entropy_below {limit:.3g}" in shown
    few = unfinished(tmp_path / "few.jsonl", replies=2, tokens=5)
    assert plot(few, "--out", tmp_path / "q.svg") == 0
    assert "argmax.entropy_below" not in text_of(tmp_path / "q.svg"), "nothing is fitted to ten tokens"


def test_a_calibration_that_has_just_begun_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = unfinished(tmp_path / "c.jsonl", replies=1, tokens=1)
    path.write_text(path.read_text("utf-8").splitlines()[0] + "\n", "utf-8")
    assert plot(path, "--out", tmp_path / "q.svg") == 2
    assert "has no reply yet" in capsys.readouterr().err
    assert plot(path) == 2
    assert "is no trace" in capsys.readouterr().err
    path.write_text(path.read_text("utf-8") + '{"replies": 3}\n', "utf-8")
    assert plot(path, "--out", tmp_path / "q.svg") == 2
    assert "line 2 is not a" in capsys.readouterr().err


def test_the_quantiles_of_replies_are_drawn(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rank = rank_of([[float(value) for value in random.uniform(0, 4, 40)] for _ in range(30)])
    path = tmp_path / "c.toml"
    path.write_text(fits_as_toml(Fits(rank), "m.gguf"), "utf-8")
    assert plot(path, "--out", tmp_path / "q.svg") == 0
    assert "the first 32 tokens" in text_of(tmp_path / "q.svg")


@pytest.mark.parametrize("content", ["", "[argmax]\nentropy_below = 0.7\n", "no = toml = at all"])
def test_a_file_without_quantiles_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(content, "utf-8")
    assert plot(path, "--out", tmp_path / "q.svg") == 2
    assert "c.toml holds no quantiles of a calibration" in capsys.readouterr().err
