"""The page under load, in a browser: frames while a long reply comes, and memory over many replies.

A tiny model that never ends serves the tokens, at a real model's pace and as fast as they come. Frames are those that
the browser's own trace has as drawn; the browser runs without a GPU.

Usage: .venv/bin/python scripts/page_load.py [--pace 100] [--tokens 2000] [--replies 50] [--each 200]
(needs Chromium, and the extra `browser`)
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from browsers import Opened, chromium, opened
from serving import endless_model, serving

from entropix_edge import Engine, EngineConfig

CTX_SIZE = 8192
FRAMES = "disabled-by-default-devtools.timeline.frame"


def memory(session: Any) -> dict[str, float]:
    """What the page holds after a collection: MiB of the heap, and nodes."""
    session.send("HeapProfiler.collectGarbage")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return {
        "heap": metrics["JSHeapUsedSize"] / 2**20,
        "nodes": metrics["Nodes"],
        "listeners": metrics["JSEventListeners"],
    }


@contextmanager
def paced(engine: Engine, pace: float) -> Iterator[None]:
    """Let a decode take as long as it does where so many tokens come a second."""
    step = engine.step

    def waiting() -> bool:
        due = time.perf_counter() + 1 / pace
        found = step()
        time.sleep(max(0.0, due - time.perf_counter()))
        return found

    engine.step = waiting  # type: ignore[method-assign]
    yield
    engine.step = step  # type: ignore[method-assign]


def frames(browser: Any, shown: Opened, tokens: int) -> None:
    """What lay between the frames that the browser drew while a reply came, by its own trace."""
    browser.start_tracing(page=shown.page, categories=[FRAMES])
    shown.ask(max_tokens=tokens)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    times = sorted(event["ts"] / 1000 for event in events if event["name"] == "DrawFrame")
    seen = [late - early for early, late in itertools.pairwise(times)]
    drawn: int = shown.page.evaluate("document.querySelectorAll('.t').length")
    ordered = sorted(seen)
    late = sum(each > 50 for each in seen) / len(seen)
    seconds = sum(seen) / 1000
    print(f"{drawn} tokens in {seconds:.1f} s ({drawn / seconds:.0f} a second), {len(seen)} frames")
    at = {share: ordered[min(int(share * len(ordered)), len(ordered) - 1)] for share in (0.5, 0.95, 0.99)}
    print(
        f"frame times: median {at[0.5]:.0f} ms, 95 % {at[0.95]:.0f}, 99 % {at[0.99]:.0f}, longest {ordered[-1]:.0f}; "
        f"{late:.1%} over 50 ms"
    )


def handling(page: Any) -> None:
    """How long the page takes for what a reader does on a long reply."""
    move = """() => {
      const slider = document.querySelector('.sliders input[type=range]');
      slider.value = Number(slider.value) + 0.3;
      slider.dispatchEvent(new Event('input'));
    }"""
    for name, act in (
        ("a threshold moved", move),
        ("a token chosen", "() => document.querySelectorAll('.t')[900].click()"),
    ):
        taken = page.evaluate(
            f"""async () => {{
              const begun = performance.now();
              ({act})();
              await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
              return performance.now() - begun;
            }}"""
        )
        print(f"{name}: drawn after {taken:.0f} ms")


def level(shown: Opened, session: Any, replies: int, each: int) -> None:
    """Reply after reply, each in a conversation of its own."""
    held: list[dict[str, Any]] = []
    for number in range(replies):
        shown.press("New")
        shown.ask(max_tokens=each)
        held.append(memory(session))
        if number % 10 == 9:
            print(
                f"after {number + 1} replies: " + ", ".join(f"{name} {value:.1f}" for name, value in held[-1].items())
            )
    grown = [late["heap"] - early["heap"] for early, late in itertools.pairwise(held)]
    print(f"a reply of {each} tokens adds {1024 * statistics.mean(grown[len(grown) // 2 :]):.0f} KiB of heap")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pace", type=float, default=100, help="tokens a second; then also as fast as they come")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--replies", type=int, default=50)
    parser.add_argument("--each", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = endless_model(Path(folder) / "endless.gguf")
        with (
            serving(model, EngineConfig(threads=1), ctx_size=CTX_SIZE, parallel=1) as served,
            chromium() as browser,
            opened(browser, f"{served.url}/") as shown,
        ):
            shown.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
            session = shown.page.context.new_cdp_session(shown.page)
            session.send("Performance.enable")
            with paced(served.engine, asked.pace):
                frames(browser, shown, asked.tokens)
            shown.press("New")
            frames(browser, shown, asked.tokens)
            handling(shown.page)
            level(shown, session, asked.replies, asked.each)


if __name__ == "__main__":
    main()
