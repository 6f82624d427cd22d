"""The page that `serve` shows at `/`: its files, and who may have them. `test_page_browser` opens it in a browser."""

from __future__ import annotations

import gzip
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from serving import error_of, serving

from entropix_edge.render.page import PAGE_POLICY, page_files
from entropix_edge.strategy import THRESHOLDS, classify, describe_table, load_preset
from entropix_edge.types import Metrics, Strategy

NAMES = ["", "page.js", "page.css", "icon.svg"]


def test_the_page_needs_no_key_and_may_load_its_own_files_only(tiny_model: Path) -> None:
    with serving(tiny_model, api_keys=("sesame",)) as served:
        for name in NAMES:
            answer = served.http.get(f"/{name}", headers={"authorization": ""})
            assert answer.status_code == 200, name
            assert answer.headers["content-security-policy"] == PAGE_POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert "'unsafe" not in PAGE_POLICY
        error_of(served.http.get("/props", headers={"authorization": ""}), 401)


def test_the_page_can_be_left_out(tiny_model: Path) -> None:
    with serving(tiny_model, page=False) as served:
        for name in NAMES:
            error_of(served.http.get(f"/{name}"), 404)


def test_the_page_is_small_and_names_no_other_origin() -> None:
    contents = [content for content, _kind in page_files().values()]
    assert len(gzip.compress(b"".join(contents))) < 100_000
    for content in contents:
        assert re.findall(rb"https?://[^\s\"<]+", content) in ([], [b"http://www.w3.org/2000/svg"])


@pytest.mark.parametrize("word", [b"innerHTML", b"outerHTML", b"insertAdjacentHTML", b"document.write", b"eval("])
def test_no_text_becomes_markup(word: bytes) -> None:
    assert word not in page_files()["page.js"][0]


def test_the_properties_describe_the_table(tiny_model: Path) -> None:
    with serving(tiny_model) as served:
        strategy = served.http.get("/props").json()["strategy"]
    assert {name: strategy[name] for name in ("rules", "otherwise")} == describe_table()
    assert set(strategy["presets"]) >= {"article", "edge"}
    assert strategy["presets"]["article"]["branch"]["entropy_below"] == 5.0
    assert "entropix" in strategy["samplers"]
    assert "choice" in strategy["answers"]


def judged(entropy: float, varentropy: float, table: dict[str, Any], thresholds: dict[str, float]) -> str:
    """The described conditions, read as a program elsewhere would."""
    metrics = {"entropy": entropy, "varentropy": varentropy}
    for rule in table["rules"]:
        if all(
            metrics[each["metric"]] < thresholds[each["threshold"]]
            if each["is"] == "below"
            else metrics[each["metric"]] > thresholds[each["threshold"]]
            for each in rule["conditions"]
        ):
            return str(rule["strategy"])
    return str(table["otherwise"])


@pytest.mark.parametrize("name", ["article", "edge"])
def test_the_described_conditions_are_those_of_the_table(name: str) -> None:
    preset, table = load_preset(name), describe_table()
    thresholds = {key: getattr(getattr(preset, key.split(".")[0]), key.split(".")[1]) for key in THRESHOLDS}
    values = sorted({0.0, 0.05, 6.0, 20.0, *thresholds.values(), *(value + 0.01 for value in thresholds.values())})
    seen = set()
    for entropy, varentropy in itertools.product(values, values):
        verdict = judged(entropy, varentropy, table, thresholds)
        assert verdict == classify(Metrics(entropy, varentropy), preset)
        seen.add(verdict)
    assert seen == set(Strategy)
