"""The default model where there is 1 GB of memory and no more: scripts/memory-limit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "memory-limit"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.model
def test_the_default_model_writes_a_long_reply_in_1_gb(default_model: Path) -> None:
    result = run(default_model, "--limit", 954, "--json")  # 1 GB
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["tokens"] >= 200
    assert told["mechanism"].startswith(("control group", "RLIMIT_AS"))
    if told["peak_mib"] is not None:
        assert 100 < told["peak_mib"] < 500


@pytest.mark.model
def test_what_does_not_fit_the_limit_is_refused_or_ended(default_model: Path) -> None:
    result = run(default_model, "--limit", 120)
    assert result.returncode == 1
    assert "120 MiB" in result.stderr
