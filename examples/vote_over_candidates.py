"""Answer a problem with the best of several candidates, by their votes."""

import sys

from entropix_edge import CandidateEvent, Deliberation, Engine, EngineConfig, GenerationConfig, VotingConfig
from entropix_edge.text import extract

problem = sys.argv[1] if len(sys.argv) > 1 else "I have 12 eggs and use 5. How many are left?"

with Engine.open("smollm2-135m", EngineConfig(sequences=3)) as engine:
    tokens = engine.tokenize_prompt(problem)
    config = GenerationConfig(seed=1, n_predict=80)
    voting = VotingConfig(candidates=5)
    with Deliberation(engine, tokens, config, voting, lambda text: extract(text, "last-number")) as deliberation:
        reply = deliberation.reply()

for event in reply.side_events:
    if isinstance(event, CandidateEvent):
        print(f"{'*' if event.kept else ' '} {event.answer!s:>8}  confidence {event.confidence:.2f}")
print(reply.text)
