"""The documents say what is so: their commands run, their generated parts are up to date."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from entropix_edge.cli import run
from entropix_edge.confidence import Fits, as_toml, load_fits
from entropix_edge.evaluation.judged import fit_recorded, judged_answers
from entropix_edge.evaluation.results import read_results
from entropix_edge.evaluation.samples import read_samples
from entropix_edge.evaluation.summary import markdown, summarise

CHECKOUT = Path(__file__).parents[1]
EVALUATION = (CHECKOUT / "docs" / "EVALUATION.md").read_text("utf-8")
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
    for path in (CHECKOUT / "docs" / "results").glob("*.jsonl"):
        assert path.name in EVALUATION
        assert markdown(summarise(read_results(path)[1])) in EVALUATION, f"run `eval --format md --out {path.name}`"


def test_links_in_the_documents_lead_somewhere() -> None:
    for page in (CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


REPLAYS = re.findall(
    r"^```text\nentropix-edge (replay docs/results/\S+ .*--format md)\n```\n\n((?:\|.*\n)+)", EVALUATION, re.MULTILINE
)


@pytest.mark.parametrize(("command", "table"), REPLAYS)
def test_a_table_is_what_its_command_prints(
    command: str, table: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CHECKOUT)
    assert run(command.split()) == 0
    printed = capsys.readouterr().out
    if "--features" in command:  # of which the page shows a part
        assert set(table.splitlines()) <= set(printed.splitlines())
    else:
        assert printed == table


def test_there_are_such_tables() -> None:
    assert len(REPLAYS) > 5
    assert len(CONFIDENCES) == 6
    assert len(SHIPPED) == 5


CONFIDENCES = re.findall(r"^\.venv/bin/python (scripts/confidence\.py .*)$", EVALUATION, re.MULTILINE)


@pytest.mark.parametrize("command", CONFIDENCES)
def test_what_is_said_of_the_confidence_is_what_its_script_prints(command: str) -> None:
    for name, path in re.findall(r"^([A-Z])=(docs/results/\S+)$", EVALUATION, re.MULTILINE):
        command = command.replace(f"${name}", path)
    arguments = re.sub(r" --picture \S+", "", command).split()
    found = subprocess.run([sys.executable, *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    tables = re.findall(r"(?:^\|.*\n)+", found.stdout, re.MULTILINE)
    assert tables
    for table in tables:
        assert table in EVALUATION
    for number in re.findall(r"\d\.\d{3}", re.sub(r"^\|.*\n", "", found.stdout, flags=re.MULTILINE)):
        assert number in EVALUATION


SHIPPED = re.findall(
    r"^\$fit/(\w+)\.toml((?: --from-recording \$\w)+) --policy (\S+)$",
    EVALUATION,
    re.MULTILINE,
)


def test_what_ships_is_fitted_to_the_summaries() -> None:
    paths = dict(re.findall(r"^([A-Z])=(docs/results/\S+)$", EVALUATION, re.MULTILINE))
    for mark in {mark for mark, _, _ in SHIPPED}:
        fits = [
            fit_recorded(
                judged_answers(
                    [
                        sample
                        for letter in letters.split("$")[1:]
                        for sample in read_samples(CHECKOUT / paths[letter[0]])
                    ],
                    policy,
                ),
                None,
                answer="last-number",
                least=290,
            )
            for each, letters, policy in SHIPPED
            if each == mark
        ]
        shipped = replace(load_fits(mark, None), rank=None)
        assert as_toml(Fits(None, tuple(fits)), "") == as_toml(shipped, ""), "run `calibrate`"
    files = (CHECKOUT / "entropix_edge" / "confidence" / "fitted").glob("*.toml")
    assert len(SHIPPED) == sum(len(load_fits(path.stem, None).fits) for path in files)
