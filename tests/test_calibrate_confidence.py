"""`calibrate --confidence` and `--from-recording`: what is refused, what goes on, what is kept, and who finds it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from entropix_edge.cli import run
from entropix_edge.confidence import Fits, as_toml, load_fits, policy_name
from entropix_edge.errors import ConfigError
from entropix_edge.evaluation.features import SIGNS
from entropix_edge.evaluation.judged import fit_recorded, judged_answers
from entropix_edge.evaluation.samples import Sample, write_summary
from entropix_edge.storage import config_folder, data_folder, fingerprint
from entropix_edge.strategy import load_preset

SOURCE = {
    "model": "some.gguf",
    "fingerprint": "ab" * 8,
    "template": "{question}",
    "n_predict": 512,
    "extractor": None,
    "tasks": "sums.jsonl",
}


def samples(count: int, policy: str = "greedy", candidates: int = 1, **source: object) -> list[Sample]:
    """Answers, the surer the likelier right."""
    random = np.random.default_rng(1)
    found = []
    for problem in range(count):
        for number in range(candidates):
            entropy = float(random.uniform(1, 100))
            is_right = bool(random.random() < 1 / (1 + (entropy / 20) ** 2))
            found.append(
                Sample(
                    problem=f"p{problem}",
                    policy=policy,
                    seed=0,
                    number=number,
                    answer="4" if is_right else str(random.integers(5, 9)),
                    right=is_right,
                    finish="stop",
                    written_tokens=100,
                    decoded_tokens=100,
                    seconds=1.0,
                    features=dict.fromkeys(SIGNS, float(random.uniform(0.4, 0.6))) | {"summed_entropy": entropy},
                    source=SOURCE | source,
                )
            )
    return found


def test_a_recording_becomes_a_fit_that_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "summary.jsonl"
    write_summary(path, samples(400))
    assert run(["calibrate", "--from-recording", str(path), "--extractor", "last-number"]) == 0
    out, error = capsys.readouterr()
    assert "400 answers (last-number) by greedy" in out
    assert "AUROC" in out
    assert max(map(len, out.splitlines()[2:])) <= 80
    kept = config_folder() / "confidence" / f"{'ab' * 8}.toml"
    assert kept.name in error
    (fit,) = load_fits("ab" * 8, kept.parent).of("greedy")
    assert (fit.problems, fit.tasks) == (400, "sums.jsonl")
    assert fit.weights["summed_entropy"] < 0
    assert fit.auroc > 0.7
    elsewhere = tmp_path / "own.toml"
    elsewhere.write_text(as_toml(Fits(None, (dataclasses.replace(fit, answer="exact"),)), ""))
    assert run(["calibrate", "--from-recording", str(path), "--extractor", "last-number", "--out", str(elsewhere)]) == 0
    assert [each.answer for each in load_fits("own", tmp_path).fits] == ["exact", "last-number"]


def test_a_damaged_file_is_replaced_and_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "summary.jsonl", tmp_path / "fits.toml"
    write_summary(path, samples(400))
    out.write_text("[rank]")
    command = ["calibrate", "--from-recording", str(path), "--extractor", "last-number", "--out", str(out)]
    assert run(command) == 0
    assert "damaged" in capsys.readouterr().err
    assert load_fits("fits", tmp_path).fits


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "does not say of which kind"),
        (("--extractor", "last-number", "--policy", "edge"), "those of policy 'edge' are not among them"),
        (("--extractor", "last-number", "--least", "500"), "400 problems are too few"),
        (("--extractor", "last-number", "--confidence", "{path}"), "both name answers"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_one_line(
    arguments: tuple[str, ...], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "summary.jsonl"
    write_summary(path, samples(400))
    given = [argument.format(path=path) for argument in arguments]
    assert run(["calibrate", "--from-recording", str(path), *given]) == 2
    assert reason in capsys.readouterr().err.strip().splitlines()[-1]


def test_recordings_that_differ_are_not_mixed() -> None:
    with pytest.raises(ConfigError, match="differ in n_predict"):
        judged_answers([*samples(3), *samples(9, n_predict=64)[3:]])


def test_a_vote_is_fitted_with_what_the_candidates_say() -> None:
    recorded = judged_answers(samples(400, "self-consistency:5", 5, extractor="last-number"))
    fit = fit_recorded(recorded, None)
    assert fit.policy.endswith("best of 5, equal votes, all finished")
    assert {"agreement", "vote_entropy", "mean_summed_entropy"} <= fit.weights.keys()
    assert fit.auroc > 0.6


def test_answers_by_other_thresholds_are_refused() -> None:
    edge = json.dumps(dataclasses.asdict(load_preset("edge")), sort_keys=True)
    digest = hashlib.sha256(edge.encode()).hexdigest()[:12]
    known = judged_answers(samples(400, "edge", extractor="last-number", edge=digest))
    assert fit_recorded(known, None).policy == policy_name("entropix", load_preset("edge"))
    other = judged_answers(samples(400, "edge", extractor="last-number", edge="0" * 12))
    with pytest.raises(ConfigError, match="other thresholds"):
        fit_recorded(other, None)


# --- decoding -------------------------------------------------------------------------------------


def write_tasks(path: Path, count: int) -> Path:
    lines = [json.dumps({"id": f"p{number}", "question": f"{number}?", "answer": "4"}) for number in range(count)]
    path.write_text("\n".join(lines))
    return path


def test_too_few_problems_are_refused_before_anything_is_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = write_tasks(tmp_path / "tasks.jsonl", 299)
    command = ["calibrate", "missing.gguf", "--confidence", str(tasks), "--extractor", "last-number"]
    assert run(command) == 2
    assert "299 problems are too few to fit a confidence to" in capsys.readouterr().err


def test_the_time_is_said_first_and_a_second_run_decodes_nothing(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = write_tasks(tmp_path / "tasks.jsonl", 20)
    command = ["calibrate", str(tiny_model), "--confidence", str(tasks), "--extractor", "exact", "--least", "20"]
    command += ["--policy", "greedy", "-t", "1"]
    assert run(command) == 2  # the tiny model knows nothing
    said = capsys.readouterr().err
    assert "20 problems: about 0 minutes" in said
    assert "0 of 19 answers are right" in said.splitlines()[-1]
    (recording,) = (data_folder() / "calibration").iterdir()
    before = recording.read_bytes()
    assert run(command) == 2
    assert "minutes" not in capsys.readouterr().err
    assert recording.read_bytes() == before
    assert not (config_folder() / "confidence" / f"{fingerprint(tiny_model)}.toml").exists()
