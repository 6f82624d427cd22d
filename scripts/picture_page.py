"""Draw docs/images/page.png: the page that `serve` shows, with a reply of the default model and its first fork.

Usage: .venv/bin/python scripts/picture_page.py (needs the extra `browser`, and Chromium)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from browsers import chromium, opened
from serving import serving

from entropix_edge import EngineConfig
from entropix_edge.hub import resolve

TARGET = Path(__file__).parents[1] / "docs" / "images" / "page.png"
MODEL = "smollm2-135m"
ASKED: dict[str, Any] = {"system": "You are a helpful assistant.", "max_tokens": 110, "seed": 3}


def main() -> None:
    with (
        serving(resolve(MODEL), EngineConfig(), ctx_size=1024, parallel=1, alias=MODEL) as served,
        chromium() as browser,
        opened(browser, f"{served.url}/", viewport={"width": 1360, "height": 860}) as shown,
    ):
        shown.ask("Why is the sky blue?", **ASKED)
        shown.page.locator(".chip").first.click()
        shown.page.mouse.move(700, 20)
        shown.page.screenshot(path=TARGET)


if __name__ == "__main__":
    main()
