"""Count the votes of deliberations again: what the weights are worth, on the same candidates.

Usage: .venv/bin/python scripts/recount.py RESULTS.jsonl

For each policy with several candidates: accuracy as it was answered, with one vote a candidate, by the surest candidate
alone, and where any candidate was right; each with Wilson's 95 % interval.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from entropix_edge.evaluation.results import Result, read_results
from entropix_edge.evaluation.statistics import wilson


def winner(result: Result, weight: Callable[[float], float]) -> str | None:
    """The answer with the most votes; among equals that of the surest candidate."""
    votes: dict[str, float] = defaultdict(float)
    surest: dict[str, float] = defaultdict(float)
    for answer, confidence, _tokens in result.candidates:
        if answer is not None:
            votes[answer] += weight(confidence)
            surest[answer] = max(surest[answer], confidence)
    return max(votes, key=lambda answer: (votes[answer], surest[answer]), default=None)


def surest_candidate(result: Result) -> str | None:
    """The answer of the candidate of which the model was surest."""
    answered = [candidate for candidate in result.candidates if candidate[0] is not None]
    return max(answered, key=lambda candidate: candidate[1])[0] if answered else None


def main() -> None:
    _settings, results = read_results(Path(sys.argv[1]))
    for policy in dict.fromkeys(result.policy for result in results if result.candidates):
        own = [result for result in results if result.policy == policy]
        counts = {
            "as answered": [result.right for result in own],
            "weighted votes": [winner(result, lambda confidence: confidence) == result.gold for result in own],
            "equal votes": [winner(result, lambda _confidence: 1.0) == result.gold for result in own],
            "the surest candidate": [surest_candidate(result) == result.gold for result in own],
            "the first candidate": [result.candidates[0][0] == result.gold for result in own],
            "any candidate": [any(candidate[0] == result.gold for candidate in result.candidates) for result in own],
        }
        print(f"{policy}, {len(own)} problems")
        for name, right in counts.items():
            share, low, high = wilson(sum(right), len(own))
            print(f"  {name:<20} {100 * share:.1f} % ({100 * low:.0f} to {100 * high:.0f})")


if __name__ == "__main__":
    main()
