"""The documents say what is so: their commands run, their generated parts are up to date."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from entropix_edge.cli import run
from entropix_edge.confidence import Fits, as_toml, load_fits
from entropix_edge.evaluation.judged import fit_recorded, judged_answers
from entropix_edge.evaluation.results import read_results
from entropix_edge.evaluation.samples import read_samples
from entropix_edge.evaluation.statistics import auroc
from entropix_edge.evaluation.summary import markdown, summarise

CHECKOUT = Path(__file__).parents[1]
README = (CHECKOUT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line
    for language, block in BLOCKS
    if language == "sh"
    for line in block.splitlines()
    if not line.startswith("scripts/")
]
PROGRAMS = [block for language, block in BLOCKS if language == "python"]


def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}


def test_the_readme_begins_with_the_two_scripts() -> None:
    assert BLOCKS[0] == ("sh", "scripts/demo\nscripts/test\n")
    for script in ("demo", "test"):
        assert os.access(CHECKOUT / "scripts" / script, os.X_OK)


@pytest.mark.model
@pytest.mark.parametrize("command", COMMANDS)
def test_the_readmes_commands_run(command: str, default_model: Path, tmp_path: Path) -> None:
    command = command.replace(".venv/bin/entropix-edge", f"{sys.executable} -m entropix_edge")
    result = subprocess.run(
        command,
        shell=True,
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout


@pytest.mark.model
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_readmes_programs_run(program: str, default_model: Path, tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "least sure at" in result.stdout


def test_the_generated_pages_are_up_to_date() -> None:
    result = subprocess.run([sys.executable, CHECKOUT / "scripts" / "document.py", "--check"], check=False)
    assert result.returncode == 0, "run scripts/document.py"


def test_the_table_of_accuracies_is_that_of_the_results() -> None:
    page = (CHECKOUT / "docs" / "EVALUATION.md").read_text("utf-8")
    for path in (CHECKOUT / "docs" / "results").glob("*.jsonl"):
        assert path.name in page
        assert markdown(summarise(read_results(path)[1])) in page, f"run `eval --format md --out {path.name}`"


def test_links_in_the_documents_lead_somewhere() -> None:
    for page in (CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


REPLAYS = re.findall(
    r"^```text\nentropix-edge (replay docs/results/\S+ .*--format md)\n```\n\n((?:\|.*\n)+)",
    (CHECKOUT / "docs" / "EVALUATION.md").read_text("utf-8"),
    re.MULTILINE,
)


@pytest.mark.parametrize(("command", "table"), REPLAYS)
def test_a_table_is_what_its_command_prints(
    command: str, table: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CHECKOUT)
    assert run(command.split()) == 0
    assert capsys.readouterr().out == table


def test_there_are_such_tables() -> None:
    assert REPLAYS


def test_what_is_said_of_the_confidence_is_what_the_summaries_give() -> None:
    page = (CHECKOUT / "docs" / "EVALUATION.md").read_text("utf-8")
    folder = CHECKOUT / "docs" / "results" / "candidates"
    fitted, kept_apart = (
        judged_answers(read_samples(folder / f"gsm8k-{part}-qwen2.5-coder-0.5b.jsonl.gz"), "greedy") for part in "ac"
    )
    (shipped,) = load_fits(str(fitted.source["fingerprint"]), None).of("greedy")
    again = fit_recorded(fitted, None, answer="last-number", least=200)
    assert as_toml(Fits(None, (again,)), "") == as_toml(Fits(None, (shipped,)), ""), "run `calibrate --from-recording`"
    given = [(shipped.probability(each.features), each.right) for each in kept_apart.answers]
    kept = [(value, right) for value, right in given if value is not None]
    found = auroc(*zip(*kept, strict=True))
    assert found
    assert "{:.3f} ({:.3f} to {:.3f})".format(*found) in page, "run `scripts/confidence.py`"
    assert f"| {len(given)} | {100 * len(kept) / len(given):.0f} % |" in page
