"""The page that `plot` writes, opened from disk in a browser: it shows the trace, and nothing in one can run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import watched
from test_plot import HAPPENED, plot, token, write

from entropix_edge.render import read_trace
from entropix_edge.strategy import describe_table
from entropix_edge.types import (
    Alternative,
    BranchEvent,
    CandidateEvent,
    ConfidenceEvent,
    CorrectionEvent,
    Event,
    FinishReason,
    Origin,
    RejectedEvent,
    RewindEvent,
    TokenEvent,
)

SKY = Path(__file__).parents[1] / "docs" / "traces" / "sky.jsonl"

EVIL = [
    ["</script><script>document.title='owned'</script>"],
    ["<!--<script>"],
    [
        "<img src=x onerror=\"document.title='owned'\">",
        "]]></style><svg onload=\"document.title='owned'\">",
        "javascript:document.title='owned'",
        "\u2028\u2029'\"`${document.title='owned'}",
    ],
]
"""Texts that would run; each list in a file of its own, since one might undo another."""


@pytest.fixture
def page(tab: Any) -> Iterator[Any]:
    """A page that may ask nothing of anyone."""
    with watched(tab) as found:
        yield tab
    assert {url.partition(":")[0] for url in found.asked_for} <= {"file", "data", "blob"}
    assert len([url for url in found.asked_for if url.startswith("file:")]) == 1, "the file asks for itself only"


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
    meanings = page.locator(".legend .swatch").all_text_contents()
    assert meanings[:4] == ["over 0.5 bits", "over 1.5 bits", "over 3 bits", "over 5 bits"]


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


def test_the_timeline_names_every_threshold(page: Any, tmp_path: Path) -> None:
    opened(page, write(tmp_path / "t.jsonl", HAPPENED), out=tmp_path / "t.html")
    texts = page.locator("svg.timeline text").evaluate_all(
        "all => all.map((each) => [each.textContent, each.getAttribute('y')])"
    )
    limits = [(text, float(y)) for text, y in texts if text.startswith(("<", ">"))]
    assert [text for text, _y in limits] == [
        *("< 0.7 sure", "< 3.0 torn", "> 4.0 lost", "> 5.0 scattered"),
        *("< 4.0 sure", "< 7.0 lost", "> 8.5 torn", "> 12.0 scattered"),
    ]
    for strip in (limits[:4], limits[4:]):
        assert all(lower - upper >= 9 for (_, lower), (_, upper) in itertools.pairwise(strip)), "none hides another"


def test_the_least_sure_tokens_are_jumped_to(page: Any, tmp_path: Path) -> None:
    peaks = {300: 6.5, 4: 6.4, 899: 6.3, 500: 6.2, 100: 6.1}
    reply = [token(place, point=(peaks.get(place, 1.0), 1.0)) for place in range(900)]
    opened(page, write(tmp_path / "t.jsonl", reply), out=tmp_path / "t.html")
    rows = page.locator(".summary ol li button")
    assert rows.locator(".told").all_text_contents() == [f"{entropy:.2f} bits" for entropy in peaks.values()]
    for row, place in enumerate(peaks):
        rows.nth(row).click()
        assert f"Token {place}" in page.locator(".inspector h2").inner_text()
        box = page.locator(".t.selected").bounding_box()
        assert box is not None
        assert 0 < box["y"] < 900


# --- what is said of a token, held against its record --------------------------------------------------

MEANINGS = {"argmax": "sure", "branch": "torn", "pause": "lost", "resample": "scattered"}
READ = """() => [...document.querySelectorAll('.t')].map((span) => {
  span.click();
  const inspector = document.querySelector('.inspector');
  const texts = (parent, query) => [...parent.querySelectorAll(query)].map((each) => each.textContent.trim());
  const names = texts(inspector, '.numbers dt');
  const table = [...inspector.querySelectorAll('.thresholds tr')];
  return {
    why: inspector.querySelector('.why').textContent,
    numbers: Object.fromEntries(texts(inspector, '.numbers dd').map((value, at) => [names[at], value])),
    thresholds: table.map((row) => [texts(row, 'th')[0], ...texts(row, 'td')]),
    others: texts(inspector, '.ways .rest .told')[0],
  };
})"""


def percentage(told: str) -> float:
    return 0.05 if told == "under 0.1 %" else float(told.removesuffix(" %").split()[0])


def rows_of(preset: Any, event: TokenEvent) -> list[list[tuple[str, str, float, bool]]]:
    """The table's conditions at a token: letter, sign, threshold and whether it holds, a list a strategy."""
    assert event.metrics is not None
    rows = []
    for rule in describe_table()["rules"]:
        row = []
        for condition in rule["conditions"]:
            section, key = condition["threshold"].split(".")
            limit, value = preset[section][key], getattr(event.metrics, condition["metric"])
            below = condition["is"] == "below"
            letter = {"entropy": "H", "varentropy": "V"}[condition["metric"]]
            row.append((letter, "<" if below else ">", limit, value < limit if below else value > limit))
        rows.append(row)
    return rows


def test_a_token_is_explained_by_the_numbers_of_its_record(page: Any, tmp_path: Path) -> None:
    opened(page, SKY, out=tmp_path / "sky.html")
    trace = read_trace(SKY)
    strategies = [rule["strategy"] for rule in describe_table()["rules"]]
    seen = set()
    for event, shown in zip(trace.tokens, page.evaluate(READ), strict=True):
        assert event.metrics is not None
        assert event.metrics.attention is not None
        entropy, varentropy = event.metrics.entropy, event.metrics.varentropy
        rows = rows_of(trace.header["preset"], event)
        assert shown["thresholds"] == [
            [
                f"{MEANINGS[name]} ({name})",
                *(f"{a} {sign} {limit:.2f} {'✓' if holds else '✗'}" for a, sign, limit, holds in row),
            ]
            for name, row in zip(strategies, rows, strict=True)
        ]
        values = {"H": f"{entropy:.2f}", "V": f"{varentropy:.2f}"}
        verdict = next((at for at, row in enumerate(rows) if all(holds for *_, holds in row)), None)
        seen.add(verdict)
        if verdict is None:
            reason = f"H {entropy:.2f} and V {varentropy:.2f} lie in none of the four quadrants: in between, "
        else:
            (a, first, limit, _), (b, second, other, _) = rows[verdict]
            words = {"<": "under", ">": "above"}
            reason = (
                f"{a} {values[a]} is {words[first]} {limit:.2f} and {b} {values[b]} {words[second]} {other:.2f}: "
                f"{MEANINGS[strategies[verdict]]}, "
            )
        assert shown["why"].startswith(reason)
        numbers = shown["numbers"]
        assert numbers["entropy H"].startswith(f"{entropy:.2f} bits, as unsure as among ")
        assert numbers["varentropy V"] == f"{varentropy:.2f} bits²"
        assert numbers["attention entropy"] == f"{event.metrics.attention.entropy:.2f} bits"
        assert numbers["agreement"] == f"{event.metrics.attention.agreement:.4f}"
        assert numbers["token id"] == str(event.token_id)
        assert percentage(numbers["probability"]) == pytest.approx(100 * math.exp(event.logprob or 0), abs=0.51)
        listed = [each.token_id for each in event.alternatives]
        rank = str(listed.index(event.token_id) + 1) if event.token_id in listed else "not among the 3 most probable"
        assert numbers["rank"] == rank
        share = 100 * (1 - sum(math.exp(each.logprob) for each in event.alternatives))
        assert percentage(shown["others"]) == pytest.approx(share, abs=0.51), "what is left for all other tokens"
    assert len(seen) >= 3, "several quadrants were there"


def test_rejected_draws_are_listed_with_their_limits(page: Any, tmp_path: Path) -> None:
    events: list[Event] = [
        token(0),
        RejectedEvent(1, 5, " zebra", 9.04, 6.0),
        RejectedEvent(1, 6, " la", 0.1, None),
        token(1),
    ]
    opened(page, write(tmp_path / "t.jsonl", events), out=tmp_path / "t.html")
    page.get_by_role("button", name="2 rejected draws at token 1").click()
    inspector = page.locator(".inspector")
    rows = inspector.locator("h3:has-text('Rejected draws') + ul > li")
    assert rows.locator("code").all_text_contents() == [" zebra", " la"]
    assert rows.locator(".told").all_text_contents() == [
        "9.0 bits, the limit was 6.0",
        "would have gone round in a loop",
    ]
    rejected = "Rejected “ zebra” as atypical: 9.0 bits, the limit was 6.0."
    looping = "Rejected “ la”, which would have gone round in a loop."
    assert inspector.locator(".why").inner_text().startswith(f"{rejected} {looping} H ")


def test_a_chip_opens_a_fork_with_the_scores_of_its_branches(page: Any, tmp_path: Path) -> None:
    branches = [
        BranchEvent(1, (2, 3), " second one", -0.9, kept=False),
        BranchEvent(1, (1,), " first", -0.4, kept=True),
        BranchEvent(1, (4, 5, 6), " third of all", -1.25, kept=False),
    ]
    events: list[Event] = [token(0), *branches, token(1, " first", origin=Origin.BRANCH), token(2)]
    opened(page, write(tmp_path / "t.jsonl", events), out=tmp_path / "t.html")
    chip = page.locator(".chip")
    assert chip.all_text_contents() == ["3"]
    assert chip.get_attribute("aria-label") == "Fork of 3 branches at token 1"
    chip.click()
    rows = page.locator(".inspector h3:has-text('Fork: 3 branches') + ul > li")
    assert rows.locator("code").all_text_contents() == [" first", " second one", " third of all"], "the best first"
    assert rows.locator(".told").all_text_contents() == [
        "kept, score -0.40",
        "not taken, score -0.90",
        "not taken, score -1.25",
    ]
    assert rows.and_(page.locator(".marked")).locator("code").all_text_contents() == [" first"]
    assert "looked 1 to 3 tokens down 3 branches, kept “ first”." in page.locator(".inspector .why").inner_text()


def test_candidates_stand_side_by_side_with_their_votes(page: Any, tmp_path: Path) -> None:
    votes = [("41", 0.7), ("42", 0.6), (None, 0.9), ("42", 0.5)]
    events: list[Event] = [
        CandidateEvent(at, (at,), f"reply {at}", confidence, answer, kept=at == 1)
        for at, (answer, confidence) in enumerate(votes)
    ]
    opened(page, write(tmp_path / "t.jsonl", [*events, token(0, "reply 1")]), out=tmp_path / "t.html")
    assert page.locator(".candidates > ul > li").all_text_contents() == [
        "42 2 votes, confidence 1.10 in all",
        "41 1 vote, confidence 0.70 in all",
    ]
    cards = page.locator("article.candidate")
    assert cards.locator("h2").all_text_contents() == [
        "1: confidence 0.70",
        "2, kept: confidence 0.60",
        "3: confidence 0.90",
        "4: confidence 0.50",
    ]
    assert cards.locator("p").all_text_contents() == ["votes for 41", "votes for 42", "no vote", "votes for 42"]
    assert cards.locator(".text").all_text_contents() == [f"reply {at}" for at in range(4)]
    tops = {each["y"] for each in cards.evaluate_all("all => all.map((each) => each.getBoundingClientRect())")}
    assert len(tops) < len(votes), "side by side"


def test_several_traces_are_chosen_from(page: Any, tmp_path: Path) -> None:
    first = write(tmp_path / "first.jsonl", [token(0, "one")])
    second = write(tmp_path / "second.jsonl", [token(0, "two"), token(1, " more")])
    opened(page, first, second, out=tmp_path / "both.html")
    assert page.locator(".t").all_text_contents() == ["one"]
    page.locator("header select").select_option(label="second.jsonl")
    assert page.locator(".t").all_text_contents() == ["two", " more"]


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


def evil_events(evil: str, index: int) -> list[Event]:
    alternatives = (Alternative(7, evil, -0.5), Alternative(8, evil * 2, -1.5))
    return [
        CandidateEvent(0, (1,), evil, 0.5, evil, kept=False),
        BranchEvent(index, (1,), evil, -0.5, kept=False),
        BranchEvent(index, (7,), evil, -0.2, kept=True),
        RejectedEvent(index, 5, evil, 9.0, 6.0),
        token(index, evil, alternatives=alternatives),
        RewindEvent(index + 1, (1,), evil),
        CorrectionEvent(index + 1, (1,), evil, evil, evil, evil),
        token(index + 1, evil),
    ]


@pytest.mark.parametrize("evils", EVIL)
def test_a_hostile_trace_runs_nothing(page: Any, tmp_path: Path, evils: list[str]) -> None:
    events = [event for at, evil in enumerate(evils) for event in evil_events(evil, 2 * at)]
    header = {evil: evil for evil in evils} | {"argmax": evils[0]}
    path = write(tmp_path / "<img src=x onerror=alert(1)>&amp;.jsonl", events, header)
    opened(page, path, out=tmp_path / "evil.html")
    for span in page.locator(".t").all():
        span.click()
        assert "owned" not in page.title()
        assert page.locator("#app img, #app script, #app svg[onload], #app a[href^=javascript]").count() == 0
        assert page.evaluate("() => document.scripts.length") == 2
    page.wait_for_timeout(200)
    assert "owned" not in page.title()
    assert page.locator(".t").all_text_contents() == [evil for evil in evils for _ in range(2)]
