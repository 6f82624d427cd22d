"""The page that `plot` writes, opened from disk in a browser: it shows the trace, and nothing in one can run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import PATIENCE
from test_plot import HAPPENED, plot, token, write

from entropix_edge.types import (
    Alternative,
    BranchEvent,
    CandidateEvent,
    ConfidenceEvent,
    CorrectionEvent,
    Event,
    FinishReason,
    Origin,
    RewindEvent,
)

EVIL = [
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<!--<script>",
    "]]></style><svg onload=\"document.title='owned'\">",
    "javascript:document.title='owned'",
    "\u2028\u2029'\"`${document.title='owned'}",
]


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that may ask nothing of anyone."""
    profile = browser.new_context(viewport={"width": 1360, "height": 900})
    found = profile.new_page()
    found.set_default_timeout(PATIENCE)
    asked: list[str] = []
    found.on("request", lambda request: asked.append(request.url))
    found.faults = []
    found.on("pageerror", lambda error: found.faults.append(str(error)))
    found.on("console", lambda message: found.faults.append(message.text) if message.type == "error" else None)
    yield found
    profile.close()
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}
    assert len([url for url in asked if url.startswith("file:")]) == 1, "the file asks for itself only"


def opened(page: Any, *arguments: object, out: Path) -> Any:
    assert plot(*arguments, "--out", out) == 0
    page.goto(out.as_uri())
    page.wait_for_selector(".t")
    return page


def test_the_page_shows_the_trace_from_disk(page: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "trace.jsonl", HAPPENED)
    opened(page, path, out=tmp_path / "trace.html")
    assert page.locator(".t").count() == 20
    page.locator(".t").nth(4).click()
    assert "H 6" in page.locator(".inspector").inner_text().replace("\u00a0", " ")
    assert page.locator("textarea, input[type=file], #question").count() == 0, "nothing can be asked here"
    assert page.faults == []


def test_what_was_done_is_marked_by_more_than_colour(page: Any, tmp_path: Path) -> None:
    pause = token(20, " ...", point=(4.5, 5.0), origin=Origin.FORCED)
    opened(page, write(tmp_path / "t.jsonl", [*HAPPENED[:-1], pause]), out=tmp_path / "t.html")
    line = "each => getComputedStyle(each).textDecorationStyle + getComputedStyle(each).textDecorationLine"
    strategies = ("adaptive", "branch", "pause", "resample")
    lines = {name: page.locator(f".t.s-{name}").first.evaluate(line) for name in strategies}
    assert len(set(lines.values())) == len(strategies)
    assert all(each.endswith("underline") for each in lines.values())
    assert page.locator(".t.s-argmax").first.evaluate(line).endswith("none"), "sure tokens stay plain"
    assert page.locator(".t.corrected").all_text_contents() == [" 42"]
    assert page.locator(".t.paused").all_text_contents() == [" ..."]
    assert page.locator(".chip").count() == 2, "a fork, and a corrected number with all before it"
    page.locator("select").first.select_option(label="entropy")
    assert page.locator(".t.h4").count() > 0
    assert page.locator(".t[class*=' s-']").count() == 0


def test_text_timeline_and_plane_follow_each_other(page: Any, tmp_path: Path) -> None:
    opened(page, write(tmp_path / "t.jsonl", HAPPENED), out=tmp_path / "t.html")
    for mark in (".cursor.hover", ".mark.hover"):
        assert page.locator(mark).get_attribute("visibility") == "hidden"
    page.locator(".t").nth(4).hover()
    for mark in (".cursor.hover", ".mark.hover"):
        assert page.locator(mark).get_attribute("visibility") == "visible"
    page.locator("svg.timeline").hover()
    assert page.locator(".t.hovered").count() == 1
    page.locator(".plane .point[data-place='17']").hover()
    assert page.locator(".t.hovered").count() == 1
    assert page.locator(".plane .region").count() >= 5


def test_the_least_sure_tokens_are_jumped_to(page: Any, tmp_path: Path) -> None:
    opened(page, write(tmp_path / "t.jsonl", [token(place) for place in range(900)]), out=tmp_path / "t.html")
    rows = page.locator(".summary ol li button")
    assert rows.count() == 5
    rows.last.click()
    chosen = page.locator(".t.selected")
    assert "6.00" in page.locator(".inspector .numbers").inner_text(), "the greatest entropy there is"
    box = chosen.bounding_box()
    assert box is not None
    assert 0 < box["y"] < 900


def test_several_traces_are_chosen_from(page: Any, tmp_path: Path) -> None:
    first = write(tmp_path / "first.jsonl", [token(0, "one")])
    second = write(tmp_path / "second.jsonl", [token(0, "two"), token(1, " more")])
    opened(page, first, second, out=tmp_path / "both.html")
    assert page.locator(".t").all_text_contents() == ["one"]
    page.locator("header select").select_option(label="second.jsonl")
    assert page.locator(".t").all_text_contents() == ["two", " more"]
    assert page.faults == []


def test_a_probability_names_the_least_sure_tokens_of_the_answer(page: Any, tmp_path: Path) -> None:
    others = (Alternative(7, "36", -0.9), Alternative(8, "38", -1.2), Alternative(9, "40", -9.0))
    events: list[Event] = [
        token(0, "It is "),
        token(1, "36", alternatives=others),
        token(2, ".", finish_reason=FinishReason.STOP),
        ConfidenceEvent(2, "probability", 0.62, "36", 295, (1,)),
    ]
    opened(page, write(tmp_path / "t.jsonl", events), out=tmp_path / "t.html")
    told = page.locator(".summary .confidence").inner_text()
    assert "62 % likely to be right" in told
    assert "fitted to 295 answers of its kind. Least sure of “36” (also “38” 30 %)." in told
    assert page.faults == []


@pytest.mark.parametrize("evil", EVIL)
def test_a_hostile_trace_runs_nothing(page: Any, tmp_path: Path, evil: str) -> None:
    alternatives = (Alternative(7, evil, -0.5), Alternative(8, evil * 2, -1.5))
    events: list[Event] = [
        CandidateEvent(0, (1,), evil, 0.5, evil, kept=False),
        BranchEvent(0, (1,), evil, -0.5, kept=False),
        BranchEvent(0, (7,), evil, -0.2, kept=True),
        token(0, evil, alternatives=alternatives),
        RewindEvent(1, (1,), evil),
        CorrectionEvent(1, (1,), evil, evil, evil, evil),
        token(1, evil),
    ]
    path = write(tmp_path / "<img src=x onerror=alert(1)>&amp;.jsonl", events, {evil: evil, "argmax": evil})
    opened(page, path, out=tmp_path / "evil.html")
    page.locator(".t").first.click()
    for _ in range(2):
        assert "owned" not in page.title()
        assert page.locator("#app img, #app script, #app svg[onload], #app a[href^=javascript]").count() == 0
        assert page.evaluate("() => document.scripts.length") == 2
        page.wait_for_timeout(200)
    assert page.locator(".t").first.text_content() == evil
    assert page.faults == []
