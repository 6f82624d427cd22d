"""Stream a reply, each token in the colour of its entropy."""

import sys

from entropix_edge import Engine, GenerationConfig

GREEN, YELLOW, RED, PLAIN = "\033[32m", "\033[33m", "\033[31m", "\033[0m"

prompt = sys.argv[1] if len(sys.argv) > 1 else "Why is the sky blue?"

with Engine.open("smollm2-135m") as engine:
    for event in engine.stream(prompt, GenerationConfig(seed=1, n_predict=60)):
        entropy = event.metrics.entropy if event.metrics else 0.0  # bits
        colour = GREEN if entropy < 1 else YELLOW if entropy < 3 else RED
        print(f"{colour}{event.text}{PLAIN}", end="", flush=True)
print()
