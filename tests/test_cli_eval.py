"""`eval`, and `generate --deliberate`, in this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from test_corrections import write_letters, write_sums

from entropix_edge.cli import generate, run
from entropix_edge.cli.parameters import with_optional_numbers
from entropix_edge.evaluation.records import Candidate, Record, read_recording
from entropix_edge.llama import devices

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
    takers = [each.description for each in devices() if each.takes_layers]
    assert settings.get("devices", []) == takers, "another device has other last digits"
    code, _, error = evaluate(*asked, "-np", 3)
    assert code == 2
    assert "rows 2, and this run has 3" in error


def test_results_go_to_one_file(evaluate: Eval, tmp_path: Path) -> None:
    code, _, error = evaluate("--record", tmp_path / "r.jsonl.gz", "--out", tmp_path / "o.jsonl")
    assert code == 2
    assert "leave out --out" in error


@pytest.mark.parametrize("policy", ["temperature", "self-consistency:2"])
def test_a_recording_serves_the_check_where_nothing_is_corrected(policy: str, tmp_path: Path) -> None:
    """A recording with the check is the same, whether replies were taken from one without or all were decoded."""
    tasks = tmp_path / "tasks.jsonl"
    sums = [f"{number}*7=" for number in range(12)]
    tasks.write_text("\n".join(json.dumps({"id": each, "question": each, "answer": 2}) for each in sums))
    common = ["eval", str(tasks), "-m", str(write_sums(tmp_path)), *("-t", "1", "-n", "100", "--attention", "off")]
    common += ["-np", "2", "--policy"]
    plain, all_new, some_new = (str(tmp_path / f"{name}.jsonl.gz") for name in ("plain", "all", "some"))
    assert run([*common, policy, "--record", plain]) == 0
    checked = [*common, f"{policy}+check", "--record"]
    assert run([*checked, all_new, "--limit", "5"]) == 0
    assert run([*checked, all_new]) == 0, "it goes on"
    assert run([*checked, some_new, "--reuse", plain]) == 0
    without, decoded, taken = (by_problem(path) for path in (plain, all_new, some_new))
    same = [problem for problem in without if taken[problem].result.seconds == without[problem].result.seconds]
    assert 0 < len(same) < len(sums)
    for problem, record in taken.items():
        assert record.key == (f"{policy}+check", problem, 0)
        assert [told(each) for each in record.candidates] == [told(each) for each in decoded[problem].candidates]
        corrections = sum(len(each.corrections) for each in record.candidates)
        assert (corrections == 0) == (problem in same)


def by_problem(path: str) -> dict[str, Record]:
    return {record.result.problem: record for record in read_recording(Path(path))[1]}


def told(candidate: Candidate) -> tuple[object, ...]:
    """What does not depend on the time that it took."""
    return candidate.text, candidate.corrections, candidate.decoded_tokens, candidate.rewound, candidate.tokens.origin


@pytest.mark.parametrize("policies", [["edge+check"], ["greedy+check", "greedy"], ["deliberate:2+check"]])
def test_only_the_check_itself_may_differ_from_what_is_reused(
    evaluate: Eval, tmp_path: Path, policies: list[str]
) -> None:
    asked = [each for policy in policies for each in ("--policy", policy)]
    code, _, error = evaluate(*asked, "--record", tmp_path / "r.jsonl.gz", "--reuse", tmp_path / "g.jsonl.gz")
    assert code == 2
    assert "each with +check" in error


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


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["--deliberate", "How many?"], ["--deliberate=8", "How many?"]),
        (["--deliberate", "4", "How many?"], ["--deliberate", "4", "How many?"]),
        (["How many?", "--deliberate"], ["How many?", "--deliberate"]),
        (["--deliberate", "--json", "hello"], ["--deliberate=8", "--json", "hello"]),
        (["-n", "hello", "--temp", "hello"], ["-n", "hello", "--temp", "hello"]),
    ],
)
def test_a_number_of_candidates_may_be_left_out(given: list[str], taken: list[str]) -> None:
    assert with_optional_numbers(generate.command, given) == taken


def test_without_a_number_eight_candidates_are_the_most(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["generate", "-m", str(tiny_model), *("-c", "256", "-t", "1", "-s", "1", "-n", "4", "--json")]
    assert run([*base, "--deliberate", "hello", "--answer", "regex:(?s)(.*)"]) == 0
    assert len(json.loads(capsys.readouterr().out)["candidates"]) == 8, "they are cut, and none has a vote"
    assert run([*base, "hello", "--deliberate=4", "--answer", "regex:(?s)(.*)"]) == 0
    assert len(json.loads(capsys.readouterr().out)["candidates"]) == 4


def test_the_kind_of_answer_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once, on standard error, where it was detected; standard output is the reply and nothing else."""
    base = ["generate", "-m", str(write_letters(tmp_path, "0123456789;")), *("-c", "512", "-t", "1", "-s", "1")]
    base += ["--raw", "--stop", ";", "ab", "--deliberate"]
    assert run(base) == 0
    out, error = capsys.readouterr()
    assert "candidate" not in out
    assert error.count("Voting on the last number of each candidate; --answer says otherwise") == 1
    assert "of up to" not in error, "it is no terminal"
    assert run([*base, "--answer", "exact"]) == 0
    assert "Voting on" not in capsys.readouterr().err
    base[2] = str(write_letters(tmp_path, "aĠĊ;"))
    assert run(base) == 0
    assert "The candidates share no kind of answer" in capsys.readouterr().err


def test_candidates_that_are_cut_share_nothing_that_could_be_said(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", "-m", str(tiny_model), *("-c", "256", "-t", "1", "-n", "2", "hello", "--deliberate")]) == 0
    assert "answer" not in capsys.readouterr().err
