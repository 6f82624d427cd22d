"""Make the recordings that docs/EVALUATION.md rests on, one after another; killed, it goes on where it was.

Usage: .venv/bin/python scripts/record.py FOLDER --data DATA --models MODELS [--threads N] [--status]

FOLDER  takes the recordings, a file a line of the plan below: some megabytes each, not to be committed.
DATA    holds gsm8k_train.jsonl and bbh/*.jsonl.
MODELS  holds the two GGUF files; the plan's lines for one that is not there are left out.

While there is a file FOLDER/pause it waits. --status says how far it is, and runs nothing.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from entropix_edge.evaluation.records import read_recording

SMALL, LARGE = (f"qwen2.5-coder-{size}-instruct-q4_k_m.gguf" for size in ("0.5b", "1.5b"))
GSM8K = "gsm8k_train.jsonl"
BBH = ("object_counting", "date_understanding", "penguins_in_a_table", "reasoning_about_colored_objects")
SPLITS = {"a": 100, "b": 2000, "c": 5000}  # where each begins in GSM8K's training file


class Recording(NamedTuple):
    """One line of the plan."""

    model: str
    tasks: str
    policy: str
    skip: int
    problems: int
    attention: str = "last"

    @property
    def name(self) -> str:
        size = "0.5b" if self.model == SMALL else "1.5b"
        split = next((name for name, skip in SPLITS.items() if skip == self.skip), Path(self.tasks).stem)
        seen = "" if self.attention == "last" else f"-attention-{self.attention}"
        return f"{size}-{split}-{self.policy.replace(':', '-').replace('+', '-')}{seen}.jsonl.gz"

    @property
    def reuses(self) -> str | None:
        """The recording whose replies are taken where they are the same."""
        plain = self.policy.removesuffix("+check")
        return self._replace(policy=plain).name if plain != self.policy else None


def gsm8k(model: str, split: str, policy: str, problems: int, attention: str = "last") -> Recording:
    return Recording(model, GSM8K, policy, SPLITS[split], problems, attention)


def bbh(model: str, policy: str, most: int) -> list[Recording]:
    return [Recording(model, f"bbh/{task}.jsonl", policy, 0, min(most, 146 if "peng" in task else 250)) for task in BBH]


GREEDY, CHECK, TEMPERATURE = "greedy", "greedy+check", "temperature"
EIGHT, EIGHT_CHECKED = "self-consistency:8", "self-consistency:8+check"
PLAN = [  # a file is named again with more problems where a part of it is wanted early
    gsm8k(SMALL, "c", GREEDY, 300, "off"),
    gsm8k(SMALL, "c", CHECK, 300, "off"),
    gsm8k(SMALL, "a", GREEDY, 300),
    gsm8k(LARGE, "c", GREEDY, 100),
    gsm8k(LARGE, "c", CHECK, 100),
    gsm8k(SMALL, "c", GREEDY, 600, "off"),
    gsm8k(SMALL, "c", CHECK, 600, "off"),
    gsm8k(SMALL, "c", TEMPERATURE, 300, "off"),
    gsm8k(LARGE, "c", GREEDY, 300),
    gsm8k(LARGE, "c", CHECK, 300),
    gsm8k(SMALL, "a", EIGHT, 100),
    *bbh(SMALL, GREEDY, 250),
    gsm8k(SMALL, "c", EIGHT, 100),
    gsm8k(SMALL, "c", EIGHT_CHECKED, 100),
    *bbh(SMALL, EIGHT, 60),
    gsm8k(SMALL, "c", GREEDY, 1300, "off"),
    gsm8k(SMALL, "c", CHECK, 1300, "off"),
    gsm8k(LARGE, "c", EIGHT, 60),
    gsm8k(SMALL, "a", EIGHT, 300),
    gsm8k(SMALL, "c", EIGHT, 300),
    gsm8k(SMALL, "c", EIGHT_CHECKED, 300),
    *bbh(LARGE, GREEDY, 250),
    gsm8k(LARGE, "c", GREEDY, 600),
    gsm8k(LARGE, "c", CHECK, 600),
    gsm8k(LARGE, "c", EIGHT, 200),
    gsm8k(SMALL, "c", EIGHT, 500),
    *bbh(SMALL, EIGHT, 250),
    *bbh(LARGE, EIGHT, 60),
]


def command(recording: Recording, options: argparse.Namespace) -> list[str]:
    return [
        *(sys.executable, "-m", "entropix_edge", "eval", str(options.data / recording.tasks)),
        *("-m", str(options.models / recording.model), "-t", str(options.threads), "-np", "16"),
        *("--skip", str(recording.skip), "--limit", str(recording.problems)),
        *("--policy", recording.policy, "--attention", recording.attention, "--format", "md"),
        *("--record", str(options.folder / recording.name)),
        *(("--reuse", str(options.folder / recording.reuses)) if recording.reuses else ()),
    ]


def recorded(path: Path) -> int:
    return len(read_recording(path)[1]) if path.exists() else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--status", action="store_true")
    options = parser.parse_args()
    plan = [each for each in PLAN if (options.models / each.model).exists()]
    if options.status:
        for each in plan:
            print(f"{min(recorded(options.folder / each.name), each.problems):5} of {each.problems:4}  {each.name}")
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    os.nice(19)
    environment = {"OMP_WAIT_POLICY": "passive"} | os.environ  # else threads that wait take time from who has work
    with (options.folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another run records into {options.folder}: wait for it, or end it", file=sys.stderr)
            return 1
        for number, each in enumerate(plan, 1):
            print(
                f"{time.strftime('%H:%M:%S')} {number} of {len(plan)}: {each.name}, {each.problems} problems",
                flush=True,
            )
            if code := subprocess.run(command(each, options), env=environment).returncode:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
