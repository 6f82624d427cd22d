"""The page that `serve` shows, in a browser: asked, watched, gone on from otherwise, exported and imported."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from browsers import Opened, opened, package
from matplotlib.image import imread
from serving import Served, endless_model, serving

from entropix_edge import EngineConfig, GenerationConfig
from entropix_edge.render import read_trace
from entropix_edge.strategy import THRESHOLDS, classify, load_preset, override
from entropix_edge.types import BranchEvent, Metrics, TokenEvent

CONTRAST = {"runOnly": ["color-contrast"]}
"""What a checker of accessibility looks at again where only the colours are others."""
SVG = "{http://www.w3.org/2000/svg}"
TORN = {"branch.entropy_below": 30, "branch.varentropy_above": 0, "branch.least_share": 0, "argmax.entropy_below": 0}
"""Options with which the tiny model forks at every turn."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    model = endless_model(tmp_path_factory.mktemp("page") / "endless.gguf")
    torn = GenerationConfig(preset=override(load_preset("edge"), dict(TORN)), n_predict=24)
    config = EngineConfig(threads=1)
    with serving(model, config, ctx_size=4096, parallel=2, defaults=lambda _load: torn) as found:
        yield found


# --- a reply as it comes ------------------------------------------------------------------------------


def test_tokens_are_shown_as_they_come_and_can_be_stopped(page: Opened) -> None:
    page.begin(sampler="greedy", max_tokens=3500)
    page.page.wait_for_function("() => document.querySelectorAll('.t').length > 20")
    early = len(page.texts)
    page.page.wait_for_function("count => document.querySelectorAll('.t').length > count + 20", arg=early)
    page.press("Stop")
    page.ended()
    assert early + 20 < len(page.texts) < 3500
    page.page.wait_for_selector("text=Stopped.")
    assert page.page.locator(".t[class*=' s-']").count() > 0, "tokens are coloured by strategy"


def test_a_token_is_explained(page: Opened) -> None:
    page.ask(seed=1)
    place = page.choose(3)
    inspector = page.page.locator(".inspector")
    told = inspector.inner_text()
    assert f"Token {place}" in told
    assert "entropy H" in told
    assert "all other tokens together" in told
    assert inspector.locator(".ways .bar").count() == 11, "ten alternatives and what is left"
    page.page.locator(".reply").press("ArrowRight")
    assert f"Token {place + 1}" in inspector.inner_text()
    assert f"token {place + 1}" in page.page.locator("[role=status].visually-hidden").inner_text(), (
        "a screen reader is told"
    )


# --- going on otherwise -------------------------------------------------------------------------------


def test_a_fork_opens_and_a_branch_can_be_gone_on_from(page: Opened) -> None:
    page.ask(seed=1)
    before = page.ids
    page.page.locator(".chip:has(.fork-sign)").first.click()
    inspector = page.page.locator(".inspector")
    place = int(inspector.locator("h2").inner_text().split()[1])
    branches = inspector.locator("h3:has-text('Fork')").locator("xpath=following-sibling::ul[1]/li")
    assert branches.count() >= 2
    assert branches.locator("xpath=self::*[contains(@class, 'marked')]").count() == 1, "one was kept"
    branches.locator("button").first.click()
    page.tried(2)
    assert page.ids[:place] == before[:place]
    assert page.ids[place:] != before[place:]
    assert page.page.locator(".t.chosen").count() >= 1


def test_another_token_is_gone_on_from_by_its_id_and_taken_back(page: Opened, served: Served) -> None:
    page.ask(seed=1)
    before, texts = page.ids, page.texts
    place = page.choose(5)
    listed = (
        "place => { const { reply } = window.entropix.tree.current; return reply.alternativesOf(reply.tokens[place]) }"
    )
    alternatives = [each["id"] for each in page.page.evaluate(listed, place)]
    other = next(each for each in alternatives if each != before[place])
    page.page.locator(".inspector .ways").last.locator("li button").first.click()
    page.tried(2)
    assert page.ids[: place + 1] == [*before[:place], other]
    assert len(page.ids) > place + 1, "the model went on"
    assert "".join(page.texts) == page.page.evaluate("() => window.entropix.tree.current.reply.text"), (
        "nothing is shown twice"
    )
    assert page.page.locator(".tree li").count() == 2
    page.press("Undo")
    assert page.ids == before
    assert page.texts == texts
    page.page.locator(".tree li > button:first-child").nth(1).click()
    assert page.ids[place] == other, "nothing that was tried is lost"


def test_a_reply_goes_on_with_words_of_ones_own(page: Opened, served: Served) -> None:
    page.ask(seed=1)
    before = page.ids
    words = "abc"
    place = page.choose(4)
    page.page.fill(".own-words input", words)
    page.page.click(".own-words button[type=submit]")
    page.tried(2)
    put = served.post("/tokenize", content=words, parse_special=False).json()["tokens"]
    assert page.ids[: place + len(put)] == before[:place] + put


def test_a_reply_is_gone_on_from_with_its_own_prompt(page: Opened, tmp_path: Path) -> None:
    bodies: list[dict[str, Any]] = []
    page.page.on("request", lambda asked: bodies.append(asked.post_data_json) if asked.method == "POST" else None)
    page.ask(seed=1, system="Be brief.", max_tokens=8)
    with page.page.expect_download() as download:
        page.press("Export trace")
    download.value.save_as(tmp_path / "trace.jsonl")
    page.page.evaluate("() => { document.getElementById('setting-system').value = '' }")
    for tried in (2, 3):
        page.choose(2)
        page.press("Draw anew")
        page.tried(tried + (tried > 2))
        if tried == 2:
            page.page.set_input_files("input[type=file]", tmp_path / "trace.jsonl")
            page.page.wait_for_function("() => window.entropix.tree.nodes.length === 3")
    page.ask("and then?")
    assert [body["messages"][0] for body in bodies] == [{"role": "system", "content": "Be brief."}] * 4


def test_a_conversation_regenerates_and_goes_on(page: Opened, served: Served) -> None:
    page.ask("hello", max_tokens=8, sampler="temperature", temperature=2)
    first = page.ids
    page.press("Regenerate")
    page.tried(2)
    assert page.ids != first
    page.ask("and then?")
    assert page.page.locator(".reply").count() == 2
    page.press("Continue")
    page.tried(4)
    assert len(page.ids) == 16


def test_candidates_stand_side_by_side(page: Opened) -> None:
    page.ask(seed=1, deliberate=3, max_tokens=8)
    assert page.page.locator("article.candidate").count() == 3
    assert page.page.locator("article.candidate.kept").count() == 1
    whole = page.page.evaluate(
        "() => window.entropix.tree.current.reply.candidates.find((each) => !each.kept).token_ids"
    )
    page.page.click("text=Go on from this one >> nth=0")
    page.tried(2)
    assert page.ids[: len(whole)] == whole


def test_what_is_not_shown_keeps_no_elements(page: Opened) -> None:
    session = page.page.context.new_cdp_session(page.page)
    session.send("Performance.enable")
    held = []
    for _ in range(6):
        page.press("New")
        page.ask(seed=1, max_tokens=100)
        session.send("HeapProfiler.collectGarbage")
        metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        held.append(metrics["Nodes"])
    assert held[-1] - held[1] < 4 * 100, "a reply of a hundred tokens has more than two hundred"


# --- thresholds ---------------------------------------------------------------------------------------


def test_moved_thresholds_recolour_what_was_generated(page: Opened) -> None:
    page.ask(seed=1, sampler="greedy")
    asked = len(page.asked_for)
    assert page.page.locator(".t.moved").count() == 0
    page.page.click("summary:has-text('Thresholds')")
    slide = """([name, value]) => {
      const input = document.getElementById(name);
      input.value = value;
      input.dispatchEvent(new Event("input"));
    }"""
    page.page.evaluate(slide, ["slider-branch-entropy_below", 0])
    page.page.wait_for_selector(".t.moved", state="attached")
    moved = page.page.locator(".t.moved").count()
    assert moved == len(page.page.locator(".t").all()), "none is torn any more"
    page.press("Put back")
    page.page.wait_for_selector(".t.moved", state="detached")
    assert len(page.asked_for) == asked, "nothing was run"


def test_the_pages_verdicts_are_pythons(page: Opened) -> None:
    judge = """([points, name]) => {
      const { strategy } = window.entropix.props;
      const thresholds = thresholdsOf(strategy.presets[name], strategy);
      return points.map(([entropy, varentropy]) => classify(entropy, varentropy, strategy, thresholds));
    }"""
    for name in ("article", "edge"):
        preset = load_preset(name)
        draw = random.Random(440)
        limits = [getattr(getattr(preset, key.split(".")[0]), key.split(".")[1]) for key in THRESHOLDS]
        points = [(draw.uniform(0, 8), draw.uniform(0, 24)) for _ in range(1000)]
        points += [(one, other) for one in [0.0, 0.01, *limits] for other in [0.0, 0.01, *limits]]
        verdicts = page.page.evaluate(judge, [points, name])
        assert verdicts == [classify(Metrics(*point), preset).value for point in points]
        assert len(set(verdicts)) == 5


# --- files --------------------------------------------------------------------------------------------


VIEW = """() => {
  const inside = (query) => document.querySelector(query).innerHTML;
  const told = [...document.querySelectorAll('.t')].map((span) => {
    span.click();
    return inside('.inspector-body');
  });
  const panels = ['.reply', '.timeline', '.plane', '.summary', '.sliders'].map((query) => [query, inside(query)]);
  return { told, ...Object.fromEntries(panels) };
}"""


def test_a_trace_is_exported_read_by_python_and_imported(page: Opened, tmp_path: Path) -> None:
    page.ask(seed=1)
    page.choose(5)
    page.page.locator(".inspector .ways").last.locator("li button").first.click()
    page.tried(2)
    file = tmp_path / "trace.jsonl"
    with page.page.expect_download() as download:
        page.press("Export trace")
    download.value.save_as(file)
    trace = read_trace(file)
    assert [
        event.token_id for event in trace.events if isinstance(event, TokenEvent) and event.token_id is not None
    ] == page.ids
    assert any(isinstance(event, BranchEvent) for event in trace.events)
    page.page.mouse.move(0, 0)
    before = page.page.evaluate(VIEW)
    page.press("New")
    page.page.set_input_files("input[type=file]", file)
    page.page.wait_for_selector(".t")
    assert page.page.evaluate(VIEW) == before
    with page.page.expect_download() as again:
        page.press("Export trace")
    again.value.save_as(tmp_path / "again.jsonl")
    assert [json.loads(line) for line in (tmp_path / "again.jsonl").read_text("utf-8").splitlines()] == [
        json.loads(line) for line in file.read_text("utf-8").splitlines()
    ]


def test_a_trace_of_the_command_line_is_imported(page: Opened, served: Served, tmp_path: Path) -> None:
    answer = served.chat(seed=1, max_tokens=4, entropix={"tokens": True})
    file = tmp_path / "trace.jsonl"
    lines = [{"format": "entropix-edge trace 1", "model": "another.gguf"}, *answer["choices"][0]["entropix"]["events"]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    page.page.set_input_files("input[type=file]", file)
    page.page.wait_for_selector(".t")
    page.page.locator(".t").first.click()
    assert "does not hold its prompt" in page.page.locator(".inspector").inner_text()


def test_a_hostile_trace_runs_nothing(page: Opened, tmp_path: Path) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    token = {"index": 0, "token_id": 7, "text": evil, "logprob": -0.5, "strategy": evil, "origin": "sampled"}
    token |= {"metrics": {"entropy": 1.0, "varentropy": 1.0, "attention": None}, "finish_reason": evil}
    token |= {"alternatives": [{"token_id": 7, "text": evil, "logprob": -0.5}]}
    side = {"event": "branch", "index": 0, "text": evil, "token_ids": [1], "score": evil, "kept": False}
    header = {"format": "entropix-edge trace 1", "model": evil, "messages": [{"role": "user", "content": evil}]}
    file = tmp_path / "trace.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in (header, side, token)), "utf-8")
    page.page.set_input_files("input[type=file]", file)
    page.page.wait_for_selector(".t")
    page.page.locator(".t").first.click()
    assert evil in page.page.locator(".inspector").inner_text()
    assert page.page.locator("main img, main script").count() == 0
    assert page.page.title() == "entropix-edge"


NO_TRACES = {
    "": "not a trace",
    "{}\n": "not a trace",
    '{"format": "entropix-edge trace 9"}\n': "reads up to 1",
    '{"model": "x"}\n[]\n': "line 2 is not a trace event",
    '{"model": "x"}\n{"index": 0, "token_id": 1, "origin": "sampled", "metrics": {"entropy": 1e308}}\n': (
        "line 2 is not a trace event"
    ),
}


def test_a_file_that_is_no_trace_is_refused(page: Opened, tmp_path: Path) -> None:
    page.ask(seed=1, max_tokens=4)
    before = page.ids
    file = tmp_path / "trace.jsonl"
    for content, message in NO_TRACES.items():
        file.write_text(content, "utf-8")
        page.page.set_input_files("input[type=file]", file)
        page.page.wait_for_selector(f"[role=alert]:has-text('{message}')")
        page.page.get_by_role("button", name="Close the message").click()
        assert page.ids == before


@pytest.mark.parametrize("name", ["timeline", "plane"])
def test_a_plot_is_saved_as_a_picture(page: Opened, tmp_path: Path, name: str) -> None:
    page.ask(seed=1)
    drawing = page.page.locator(f"svg.{name}")
    box, shapes = drawing.bounding_box(), drawing.locator("path, rect").count()
    for kind in ("SVG", "PNG"):
        with page.page.expect_download() as download:
            page.page.get_by_role("button", name=f"Save the {name} as {kind}").click()
        assert download.value.suggested_filename == f"{name}.{kind.lower()}"
        download.value.save_as(tmp_path / kind)
    root = ElementTree.parse(tmp_path / "SVG").getroot()
    assert float(root.attrib["width"]) == pytest.approx(box["width"], abs=1)
    drawn = [each for each in root.iter() if each.tag in (f"{SVG}path", f"{SVG}rect")]
    assert len(drawn) == shapes + 1, "and a ground"
    assert all(each.get("fill") for each in drawn), "it needs no style sheet"
    pixels = imread(tmp_path / "PNG", format="png")
    assert pixels.shape[:2] == (math.ceil(2 * box["height"]), math.ceil(2 * box["width"]))
    assert np.ptp(pixels[..., :3]) > 0.5, "something is drawn on it"


# --- who may use it, and how --------------------------------------------------------------------------


def test_a_key_is_asked_for_and_kept_for_the_session_only(browser: Any, tiny_model: Path) -> None:
    with (
        serving(tiny_model, api_keys=("sesame",)) as closed,
        opened(browser, f"{closed.url}/", until="#key") as page,
    ):
        page.page.fill("#key", "wrong")
        page.press("Use it")
        page.page.wait_for_selector("[role=alert]:has-text('key')")
        page.page.fill("#key", "sesame")
        page.press("Use it")
        page.page.wait_for_selector("#question")
        page.ask(max_tokens=4)
        assert page.page.evaluate("() => [localStorage.length, document.cookie]") == [0, ""]
        assert all("sesame" not in url for url in page.asked_for)
        page.faults.clear()  # the browser names the refused requests


def test_a_checker_of_accessibility_finds_nothing(browser: Any, served: Served) -> None:
    axe = package("axe_playwright_python.sync_playwright").Axe()
    with opened(browser, f"{served.url}/") as page:
        page.ask(seed=1, deliberate=2)
        page.page.evaluate("() => { for (const each of document.querySelectorAll('details')) each.open = true }")
        page.choose(2)
        for width, scheme in itertools.product((1360, 360), ("light", "dark")):
            page.page.set_viewport_size({"width": width, "height": 800})
            page.page.emulate_media(color_scheme=scheme)
            found = axe.run(page.page, options=CONTRAST if scheme == "dark" else None).response["violations"]
            told = [(each["id"], each["impact"], [node["html"] for node in each["nodes"]][:2]) for each in found]
            assert not told, (width, scheme)
            wide = page.page.evaluate("() => document.documentElement.scrollWidth")
            assert wide <= width, "nothing is cut off at the side"


def test_the_page_is_used_with_the_keyboard_alone(page: Opened) -> None:
    page.begin(seed=1, max_tokens=8, question="")
    page.page.keyboard.press("Tab")
    page.page.locator("#question").press("h")
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector(".t >> nth=7")
    page.ended()
    page.page.locator(".reply").focus()
    for key in ("Home", "ArrowRight", "ArrowRight", "Enter"):
        page.page.keyboard.press(key)
    assert page.page.evaluate("() => document.activeElement.closest('.inspector') !== null")
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")
    page.tried(2)
