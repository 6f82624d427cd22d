"""The page that `serve` shows, as somebody uses it who knows other ones: written over, kept, deleted, copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browsers import Opened, opened, package
from serving import Served, endless_model, serving

from entropix_edge import EngineConfig


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    model = endless_model(tmp_path_factory.mktemp("page") / "endless.gguf")
    with serving(model, EngineConfig(threads=1), ctx_size=512, parallel=2) as found:
        yield found


def bodies_of(page: Opened) -> list[dict[str, Any]]:
    """What the page asks from now on."""
    found: list[dict[str, Any]] = []
    page.page.on("request", lambda asked: found.append(asked.post_data_json) if asked.method == "POST" else None)
    return found


def notes(page: Opened) -> str:
    told: str = page.page.locator(".notes").last.inner_text()
    return told


# --- what is looked for first -------------------------------------------------------------------------


def test_settings_are_seen_at_once_and_empty_plots_are_not(page: Opened) -> None:
    timeline = page.page.locator("details:has-text('Timeline')")
    assert timeline.is_hidden()
    page.ask(seed=1, max_tokens=8)
    assert timeline.is_visible()
    summary = page.page.locator("summary:has-text('Settings')")
    assert summary.bounding_box()["y"] < 100, "they stand at the top"
    summary.click()
    assert page.page.locator("#setting-system").is_visible()
    page.press("New")
    assert timeline.is_hidden()


def test_pace_and_context_stay_to_be_read(page: Opened) -> None:
    page.ask(seed=1, max_tokens=400, sampler="greedy")
    told = notes(page)
    assert "400 tokens, " in told
    assert " a second" in told
    used = page.page.evaluate("() => window.entropix.tree.current.used")
    assert f"{used} of 512 tokens of the context" in told


def test_a_full_context_is_said_and_not_gone_on_from(page: Opened) -> None:
    page.ask(seed=1, max_tokens=600, sampler="greedy")
    assert "The context is full" in notes(page)
    assert "512 of 512 tokens of the context" in notes(page)
    assert page.page.get_by_role("button", name="Continue", exact=True).is_disabled()


def end_is_seen(page: Opened) -> bool:
    """Whether the last reply's buttons stand above the place where one writes."""
    box = page.page.get_by_role("button", name="Regenerate").bounding_box()
    composer = page.page.locator(".composer").bounding_box()
    return bool(box["y"] > 0 and box["y"] + box["height"] <= composer["y"])


@pytest.mark.parametrize("width", [1360, 390])
def test_the_end_of_what_comes_is_in_sight(browser: Any, served: Served, width: int) -> None:
    with opened(browser, f"{served.url}/", viewport={"width": width, "height": 800}) as page:
        page.ask(seed=1, max_tokens=200, sampler="greedy")
        assert end_is_seen(page)
        page.choose(190)
        token, panel = (page.page.locator(each).bounding_box() for each in (".t.selected", ".inspector"))
        assert token["x"] + token["width"] <= panel["x"] or token["y"] + token["height"] <= panel["y"], "it is seen too"
        if width < 900:
            page.page.get_by_role("button", name="Close", exact=True).click()
        page.ask("and then?", max_tokens=8)
        assert end_is_seen(page)


def test_messages_that_do_not_fit_are_refused_with_a_way_out(page: Opened) -> None:
    page.ask("hello " * 300, seed=1)
    assert "maximum context length is 512 tokens" in notes(page)
    assert notes(page).endswith("Begin a new conversation, or go back to an earlier turn.")
    page.faults.clear()  # the browser names the refused request


def test_a_tooltip_goes_with_its_reply(page: Opened) -> None:
    page.ask(seed=1, max_tokens=8, sampler="greedy")
    place = next(place for place, text in enumerate(page.texts) if text.strip())
    page.page.locator(".t").nth(place).hover()
    assert page.page.locator(".tip").is_visible()
    page.page.get_by_role("button", name="New", exact=True).press("Enter")
    page.page.wait_for_selector(".tip", state="hidden")


def test_settings_outlive_a_reload(page: Opened) -> None:
    page.page.click("summary:has-text('Settings')")
    page.page.fill("#setting-temperature", "0.3")
    page.page.select_option("#setting-sampler", "greedy")
    page.page.reload()
    page.page.wait_for_selector("#question")
    assert page.page.input_value("#setting-temperature") == "0.3"
    assert page.page.input_value("#setting-sampler") == "greedy"


def test_each_line_is_a_stop_text(page: Opened) -> None:
    asked = bodies_of(page)
    page.ask(seed=1, max_tokens=4, stop="END\n\n\\n\\n\na\\\\n")
    assert asked[0]["stop"] == ["END", "\n\n", "a\\n"]


# --- keys ---------------------------------------------------------------------------------------------


def test_raw_text_is_sent_with_control_and_enter(page: Opened) -> None:
    page.page.select_option("#mode", "text")
    page.page.fill("#question", "once")
    page.page.locator("#question").press("Enter")
    assert page.page.input_value("#question") == "once\n"
    page.page.locator("#question").press("Control+Enter")
    page.tried(1)
    assert page.page.evaluate("() => window.entropix.tree.current.reply.header.prompt") == "once\n"


def test_asking_differently_can_be_given_up(page: Opened) -> None:
    page.ask("hello", seed=1, max_tokens=4)
    page.page.fill("#question", "a draft")
    page.page.click(".edit")
    assert page.page.input_value("#question") == "hello"
    assert "Asked differently" in page.page.locator(".editing").inner_text()
    page.page.keyboard.press("Escape")
    assert page.page.input_value("#question") == "a draft"
    page.ask("and then?")
    assert page.page.locator("article").count() == 2, "it follows the first"


# --- written over -------------------------------------------------------------------------------------


def test_a_reply_is_written_over_and_gone_on_from(page: Opened, served: Served) -> None:
    page.ask(seed=1, max_tokens=12, sampler="greedy")
    before, texts = page.ids, page.texts
    kept = next(place for place in range(4, 12) if texts[place - 1].strip() and texts[place].strip())
    page.press("Edit")
    assert page.page.get_by_role("button", name="Regenerate").is_hidden()
    page.page.fill(".rewrite", "".join(texts[:kept]) + "abc")
    page.press("Go on from this")
    page.tried(2)
    put = served.post("/tokenize", content="abc", parse_special=False).json()["tokens"]
    assert page.ids[: kept + len(put)] == before[:kept] + put
    assert len(page.ids) > kept + len(put), "the model went on"


def test_a_reply_is_kept_as_it_was_written(page: Opened) -> None:
    page.ask(seed=1, max_tokens=6, sampler="greedy")
    page.press("Edit")
    page.page.fill(".rewrite", "abc")
    asked = bodies_of(page)
    page.press("Keep as written")
    page.page.wait_for_function("() => window.entropix.tree.nodes.length === 2")
    assert page.page.locator(".reply").last.inner_text() == "abc"
    assert [set(body) for body in asked] == [{"content", "parse_special"}], "nothing was generated"
    page.ask("and then?")
    assert asked[-1]["messages"][1] == {"role": "assistant", "content": "abc"}
    page.press("Edit")
    page.page.keyboard.press("Escape")
    assert page.page.locator(".rewrite").count() == 0
    assert page.page.locator(".reply").count() == 2


def test_a_checker_of_accessibility_finds_nothing_while_one_writes(browser: Any, served: Served) -> None:
    axe = package("axe_playwright_python.sync_playwright").Axe()
    with opened(browser, f"{served.url}/") as page:
        page.ask(seed=1, max_tokens=30, temperature=2, sampler="temperature")
        page.page.click("summary:has-text('Conversations')")
        page.page.click(".edit")
        page.press("Edit")
        for scheme, options in (("light", None), ("dark", {"runOnly": ["color-contrast"]})):
            page.page.emulate_media(color_scheme=scheme)
            found = axe.run(page.page, options=options).response["violations"]
            assert not [(each["id"], [node["html"] for node in each["nodes"]][:2]) for each in found], scheme


# --- what is kept -------------------------------------------------------------------------------------


def test_conversations_outlive_a_reload(page: Opened) -> None:
    page.ask("first", seed=1, max_tokens=8, system="Be brief.")
    page.ask("second")
    first, texts = page.ids, page.texts
    page.press("New")
    page.ask("another", max_tokens=4)
    other = page.ids
    page.page.reload()
    page.page.wait_for_selector(".t")
    assert page.ids == other, "the tab comes back to what it showed"
    page.page.click("summary:has-text('Conversations')")
    page.page.click(".conversations button:has-text('first')")
    page.page.wait_for_selector(".reply >> nth=1")
    assert (page.ids, page.texts) == (first, texts)
    assert page.page.input_value("#setting-system") == "Be brief."
    asked = bodies_of(page)
    place = page.choose(3)
    page.page.locator(".inspector .ways").last.locator("li button").first.click()
    page.tried(3)
    assert asked[-1]["entropix"]["begin_tokens"][:place] == first[:place]
    assert asked[-1]["messages"][0] == {"role": "system", "content": "Be brief."}


def test_two_tabs_add_to_one_conversation(page: Opened, served: Served) -> None:
    page.ask("first", seed=1, max_tokens=4)
    other = Opened(page.page.context.new_page())
    other.page.goto(f"{served.url}/")
    other.page.click("summary:has-text('Conversations')")
    other.page.click(".conversations button:has-text('first')")
    other.page.wait_for_selector(".t")
    other.ask("here", max_tokens=4)
    page.ask("there")
    page.page.wait_for_timeout(200)
    other.page.close()
    page.page.reload()
    page.page.wait_for_selector(".tree li >> nth=2")
    told = page.page.locator(".tree").inner_text()
    assert all(f"“{question}”" in told for question in ("first", "here", "there"))


def test_conversations_and_turns_are_deleted(page: Opened) -> None:
    page.ask("first", seed=1, max_tokens=80)
    page.ask("second")
    page.press("Regenerate")
    page.tried(3)
    assert page.page.evaluate(
        "() => document.querySelector('aside').scrollWidth <= document.querySelector('aside').clientWidth"
    )
    page.page.locator(".tree .remove").nth(1).click()
    page.page.wait_for_function("() => window.entropix.tree.nodes.length === 2")
    page.page.locator(".tree .remove").first.click()
    page.page.wait_for_selector(".welcome")
    page.ask("third")
    page.page.click("summary:has-text('Conversations')")
    assert page.page.locator(".conversations li").count() == 1
    page.page.once("dialog", lambda dialog: dialog.accept())
    page.press("Delete all")
    page.page.wait_for_selector(".welcome")
    page.page.reload()
    page.page.wait_for_selector(".welcome")
    assert page.page.evaluate("() => window.entropix.store.list()") == []


def test_a_browser_that_keeps_nothing_says_so_once(browser: Any, served: Served) -> None:
    profile = browser.new_context()
    try:
        shown = profile.new_page()
        shown.add_init_script(
            "Object.defineProperty(window, 'indexedDB', { value: { open() { throw new Error('no room') } } })"
        )
        shown.goto(f"{served.url}/")
        shown.wait_for_selector("[role=alert]:has-text('This browser does not keep conversations: no room.')")
        shown.get_by_role("button", name="Close the message").click()
        page = Opened(shown)
        page.ask(seed=1, max_tokens=4)
        assert len(page.ids) == 4
        assert shown.locator("[role=alert]").inner_text() == ""
    finally:
        profile.close()


# --- what goes wrong ----------------------------------------------------------------------------------


def test_a_server_that_goes_away_is_named(page: Opened) -> None:
    page.ask(seed=1, max_tokens=4)
    page.page.evaluate(
        """() => { window.fetch = async () => new Response(new ReadableStream({
          start(control) { control.error(new TypeError("network error")) },
        })) }"""
    )
    page.ask("still there?")
    assert "The reply ended: The server has gone away." in notes(page)
    page.page.evaluate("() => { window.fetch = async () => { throw new TypeError('refused') } }")
    page.press("Regenerate")
    page.tried(3)
    assert "The server does not answer." in page.page.locator("[role=alert]").inner_text()


def test_a_wrong_setting_is_one_sentence(page: Opened) -> None:
    page.begin(temperature=-3)
    told = page.page.locator("[role=alert] p").inner_text()
    assert told.startswith("Temperature is not right: ")
    assert not told.endswith("..")


# --- small things -------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["secure", "without TLS"])
def test_a_reply_is_copied(browser: Any, served: Served, origin: str) -> None:
    with opened(browser, f"{served.url}/", permissions=["clipboard-read", "clipboard-write"]) as page:
        if origin == "without TLS":
            page.page.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        page.ask(seed=1, max_tokens=6)
        page.press("Copy")
        page.page.wait_for_selector("button:has-text('Copied')")
        if origin == "secure":
            held = page.page.evaluate("() => navigator.clipboard.readText()")
            assert held == page.page.evaluate("() => window.entropix.tree.current.reply.text")


def test_a_token_without_visible_text_can_be_clicked(page: Opened) -> None:
    page.ask(seed=1, max_tokens=100, temperature=2, sampler="temperature")
    empty = next(place for place, text in enumerate(page.texts) if text == "")
    page.page.locator(".t").nth(empty).click()
    assert f"Token {empty}" in page.page.locator(".inspector").inner_text()
