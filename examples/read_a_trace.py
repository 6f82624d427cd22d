"""Read a trace that `entropix-edge generate --trace FILE` wrote: which strategies, and where the model was torn."""

import sys
from collections import Counter
from pathlib import Path

from entropix_edge import BranchEvent
from entropix_edge.render import read_trace

trace = read_trace(Path(sys.argv[1]))
tokens = [event for event in trace.tokens if event.token_id is not None]

print(f"{trace.header['model']}: {len(tokens)} tokens")
for strategy, count in Counter(event.strategy for event in tokens).most_common():
    print(f"  {strategy.value:9} {count / len(tokens):4.0%}")
for event in trace.events:
    if isinstance(event, BranchEvent):
        print(f"  {'kept   ' if event.kept else 'dropped'} {event.score:6.2f}  {event.text!r}")
