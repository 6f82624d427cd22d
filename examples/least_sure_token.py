"""Find the token of which the model was least sure, and what else it might have said there."""

import math
import sys

from entropix_edge import Engine, GenerationConfig

prompt = sys.argv[1] if len(sys.argv) > 1 else "Name a famous physicist and a city."

with Engine.open("smollm2-135m") as engine:
    reply = engine.generate(prompt, GenerationConfig(seed=1, n_predict=60, alternatives=5))

print(reply.text)
measured = [event for event in reply.events if event.metrics]
least_sure = max(measured, key=lambda event: event.metrics.entropy)
print(f"\nLeast sure at token {least_sure.index}, {least_sure.text!r}: {least_sure.metrics.entropy:.2f} bits")
for alternative in least_sure.alternatives:
    print(f"  {math.exp(alternative.logprob):6.1%}  {alternative.text!r}")
