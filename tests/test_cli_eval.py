"""`eval`, and `generate --deliberate`, in this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from entropix_edge.cli import run
from entropix_edge.evaluation.records import read_recording

Eval = Callable[..., tuple[int, str, str]]


@pytest.fixture
def evaluate(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Eval:
    tasks = tmp_path / "tasks.jsonl"
    lines = [{"id": f"p{number}", "question": f"{number} and 1?", "answer": number + 1} for number in range(6)]
    tasks.write_text("\n".join(map(json.dumps, lines)))

    def invoke(*arguments: object, tasks: Path | None = tasks) -> tuple[int, str, str]:
        head: Sequence[object] = ["eval", *([tasks] if tasks else [])]
        code = run([str(each) for each in (*head, "-m", tiny_model, "-t", 1, "-n", 8, "-np", 2, "-c", 256, *arguments)])
        return code, *capsys.readouterr()

    return invoke


def test_policies_stand_side_by_side_and_a_second_run_repeats_nothing(evaluate: Eval, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    asked = ("--policy", "greedy", "--policy", "edge", "--deliberate", 2, "--out", out, "--format", "json")
    code, report, _ = evaluate(*asked, "--limit", 3)
    assert code == 0
    rows = {row["policy"]: row for row in json.loads(report)["rows"]}
    assert {name: row["problems"] for name, row in rows.items()} == {"greedy": 3, "edge": 3, "deliberate:2": 3}
    assert rows["greedy"]["gain"] is None
    assert rows["edge"]["gain"] is not None
    before = out.read_text()
    assert evaluate(*asked, "--limit", 3)[1] == report
    assert out.read_text() == before
    evaluate(*asked)
    assert out.read_text().startswith(before)
    assert len(out.read_text().splitlines()) == 1 + 3 * 6


def test_the_report_is_a_table(evaluate: Eval, tmp_path: Path) -> None:
    code, table, said = evaluate("--policy", "greedy", "--out", tmp_path / "results.jsonl")
    assert code == 0
    assert table.split()[0] == "policy"
    assert "greedy" in table
    assert "Results: " in said
    _, markdown, _ = evaluate("--policy", "greedy", "--out", tmp_path / "results.jsonl", "--format", "md")
    assert markdown.startswith("| policy | problems |")


def test_without_a_file_the_shipped_problems_are_asked_and_results_kept(evaluate: Eval) -> None:
    asked = ("--policy", "greedy", "--limit", 2, "--format", "json")
    code, report, said = evaluate(*asked, tasks=None)
    assert (code, json.loads(report)["rows"][0]["problems"]) == (0, 2)
    assert "evaluations" in said
    assert evaluate(*asked, tasks=None)[1] == report


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--policy", "edgy"), "policy 'edgy' is not known"),
        (("--skip", 6), "--skip 6 leaves none of 6 problems"),
        (("--extractor", "magic"), "extractor 'magic' is not known"),
        (("--template", "hm"), "template 'hm' has no place for the question"),
        (("--deliberate", 1), "2<=x<=64"),
        (("--extractor", "code"), "tests"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(evaluate: Eval, arguments: Sequence[object], reason: str) -> None:
    code, out, error = evaluate(*arguments)
    assert (code, out) == (2, "")
    assert reason in error.strip().splitlines()[-1]


def test_code_is_run_only_where_it_is_allowed(evaluate: Eval, tmp_path: Path) -> None:
    tasks = tmp_path / "code.jsonl"
    sign = tmp_path / "was-run"
    tests = f"open({str(sign)!r}, 'w')"
    tasks.write_text(json.dumps({"question": "f?", "answer": "", "extractor": "code", "tests": tests}))
    code, _, error = evaluate("--policy", "greedy", tasks=tasks)
    assert code == 2
    assert "--allow-code" in error
    assert not sign.exists()
    out = tmp_path / "results.jsonl"
    assert evaluate("--policy", "greedy", "--allow-code", "--out", out, tasks=tasks)[0] == 0


def test_results_of_another_length_are_not_mixed(evaluate: Eval, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    evaluate("--policy", "greedy", "--limit", 1, "--out", out)
    code, _, error = evaluate("--policy", "greedy", "--limit", 1, "--out", out, "-n", 9)
    assert code == 2
    assert "n_predict 8, and this run has 9" in error


# --- generate --deliberate ------------------------------------------------------------------------


def test_the_best_of_several_is_printed(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.jsonl"
    base = ["generate", "-m", str(tiny_model), "-c", "256", "-t", "1", "-s", "1", "-n", "12", "hello"]
    assert run([*base, "--deliberate", "4", "--trace", str(trace)]) == 0
    printed = capsys.readouterr().out
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    candidates = [line for line in lines if line.get("event") == "candidate"]
    assert 2 <= len(candidates) <= 4
    assert sum(candidate["kept"] for candidate in candidates) == 1
    assert printed.rstrip("\n") == next(candidate["text"] for candidate in candidates if candidate["kept"]).rstrip("\n")
    assert run([*base, "--deliberate", "4", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["text"].rstrip("\n") == printed.rstrip("\n")


def test_an_answer_needs_candidates(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "-m", str(tiny_model), "hello", "--answer", "last-number"]) == 2
    assert "--deliberate" in capsys.readouterr().err
    assert run(["generate", "-m", str(tiny_model), "hello", "--deliberate", "2", "--answer", "magic"]) == 2
    assert "'magic' is not known" in capsys.readouterr().err


def test_a_recording_goes_on_and_repeats_nothing(evaluate: Eval, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    asked = ("--policy", "greedy", "--policy", "self-consistency:2", "--record", path, "--format", "json")
    code, report, _ = evaluate(*asked, "--limit", 3)
    assert code == 0
    assert [row["problems"] for row in json.loads(report)["rows"]] == [3, 3]
    before = path.read_bytes()
    assert evaluate(*asked, "--limit", 3)[1] == report
    assert path.read_bytes() == before
    path.write_bytes(before[:-7])  # a kill in the middle of a write
    evaluate(*asked)
    settings, records = read_recording(path)
    assert sorted(each.key for each in records) == sorted(
        (policy, f"p{number}", 0) for policy in ("greedy", "self-consistency:2") for number in range(6)
    )
    assert [len(each.candidates) for each in records if each.key[0] != "greedy"] == [2] * 6
    assert {"model", "fingerprint", "build", "processor", "rows", "tasks"} <= settings.keys()
    assert (settings["rows"], settings["same_shapes"]) == (2, True)
    code, _, error = evaluate(*asked, "-np", 3)
    assert code == 2
    assert "rows 2, and this run has 3" in error


def test_results_go_to_one_file(evaluate: Eval, tmp_path: Path) -> None:
    code, _, error = evaluate("--record", tmp_path / "r.jsonl.gz", "--out", tmp_path / "o.jsonl")
    assert code == 2
    assert "leave out --out" in error


def test_greedys_recording_serves_the_check_where_nothing_is_corrected(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(json.dumps({"id": "p", "question": "1 and 1?", "answer": 2}))
    common = ["eval", str(tasks), "-m", str(tiny_model), *["-t", "1", "-n", "8", "-np", "2", "--attention", "off"]]
    greedy, check = str(tmp_path / "greedy.jsonl.gz"), str(tmp_path / "check.jsonl.gz")
    assert run([*common, "--policy", "greedy", "--record", greedy]) == 0
    assert run([*common, "--policy", "greedy+check", "--record", check, "--reuse", greedy]) == 0
    (first,), (second,) = (read_recording(Path(path))[1] for path in (greedy, check))
    assert second.candidates[0].text == first.candidates[0].text
    assert second.key == ("greedy+check", "p", 0)
    assert second.result.seconds == first.result.seconds, "it was not decoded again"
    capsys.readouterr()
    assert run([*common, "--policy", "edge", "--record", check, "--reuse", greedy]) == 2
    assert "--reuse is for --record with --policy greedy+check" in capsys.readouterr().err


def test_a_recording_waits_while_there_is_a_file_named_pause(evaluate: Eval, tmp_path: Path) -> None:
    pause = tmp_path / "pause"
    pause.touch()
    seen = []

    def unpause() -> None:
        seen.append((tmp_path / "r.jsonl.gz").exists())
        pause.unlink()

    timer = threading.Timer(1.5, unpause)
    timer.start()
    begun = time.monotonic()
    code, *_ = evaluate("--policy", "greedy", "--limit", 2, "--record", tmp_path / "r.jsonl.gz")
    timer.join()
    assert (code, seen) == (0, [True])
    assert time.monotonic() - begun > 1.4
    assert sum(each.result.seconds for each in read_recording(tmp_path / "r.jsonl.gz")[1]) < 1.4
