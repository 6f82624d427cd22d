"""Write tests/golden.json (greedy token ids of the default model, with the gap between the two best logits) and
tests/golden_replies.json (every event of replies on a tiny model).

Usage: .venv/bin/python scripts/golden.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from entropix_edge import Engine, EngineConfig
from entropix_edge.types import Cell

SYSTEM = "You are a helpful assistant."
PROMPTS = [
    "Count from 1 to 20.",
    "Recite the alphabet, with commas.",
    "Write the word hello ten times.",
    "What are the days of the week?",
    "List the months of the year.",
]
TOKENS = 60


def follow(engine: Engine, prompt: str) -> list[tuple[int, float]]:
    """Greedy ids and gaps until the reply ends."""
    tokens = engine.tokenize_prompt(prompt, system=SYSTEM)
    context, found = engine.context, []
    context.truncate(0)
    context.decode([Cell(token, i, 0, wanted=False) for i, token in enumerate(tokens[:-1])])
    token, position = tokens[-1], len(tokens) - 1
    for _ in range(TOKENS):
        rows = context.decode([Cell(token, position, 0, wanted=True)])
        assert rows
        first, second = np.argsort(-rows[0].logits, kind="stable")[:2]
        token, position = int(first), position + 1
        found.append((token, round(float(rows[0].logits[first] - rows[0].logits[second]), 2)))
        if engine.model.vocabulary.is_end(token):
            break
    return found


def main() -> None:
    with Engine.open("smollm2-135m", EngineConfig(attention="off")) as engine:
        golden = {prompt: follow(engine, prompt) for prompt in PROMPTS}
    tests = Path(__file__).parents[1] / "tests"
    (tests / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=None) + "\n", "utf-8")
    sys.path.insert(0, str(tests))
    import golden_replies

    with tempfile.TemporaryDirectory() as folder:
        replies = golden_replies.record(Path(folder))
    lines = [f"{json.dumps(name)}: {json.dumps(events, ensure_ascii=False)}" for name, events in replies.items()]
    golden_replies.FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
