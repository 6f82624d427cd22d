"""What happened in a reply, in words; and the other ways on from it."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Console, RenderableType

from entropix_edge.render.ways import listing, ways
from entropix_edge.render.why import (
    closer,
    end_of,
    overview,
    places,
    places_of,
    told,
    unsure_first,
    walk,
)
from entropix_edge.render.words import percent, quoted
from entropix_edge.types import (
    Alternative,
    AttentionMetrics,
    BranchEvent,
    CandidateEvent,
    ConfidenceEvent,
    CorrectionEvent,
    Event,
    FallbackEvent,
    FinishReason,
    Metrics,
    Origin,
    RejectedEvent,
    RewindEvent,
    Strategy,
    TokenEvent,
)


def token(index: int, text: str, entropy: float = 0.01, *others: tuple[int, str, float], **fields: Any) -> TokenEvent:
    """A token whose id is 100 and its index; others are ids, texts and probabilities, its own first."""
    chance = others[0][2] if others else 0.99
    event = TokenEvent(
        index,
        100 + index,
        text,
        math.log(chance),
        Metrics(entropy, 2 * entropy, AttentionMetrics(1.5, 0.2, 0.01, 2.0)),
        Strategy.ARGMAX if entropy < 0.1 else Strategy.ADAPTIVE,
        Origin.SAMPLED,
        alternatives=tuple(Alternative(number, word, math.log(share)) for number, word, share in others),
    )
    return event._replace(**fields)


KEPT: dict[str, Any] = {"strategy": Strategy.BRANCH, "origin": Origin.BRANCH}
TORN: list[Event] = [
    token(0, "It"),
    token(1, " is"),
    BranchEvent(2, (102, 103, 7, 8, 9, 10), " 12 o'clock.", -0.31, True),
    BranchEvent(2, (55, 7, 7, 8, 9, 10), " 15 minutes.", -0.9, False),
    token(2, " 12", 1.4, (102, " 12", 0.5), (55, " 15", 0.3), (56, " 9", 0.1), **KEPT),
    token(3, " o'clock", 0.7, (103, " o'clock", 0.8), (57, ".", 0.15), **KEPT),
    token(4, ".", finish_reason=FinishReason.STOP),
]


def said(renderable: RenderableType, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def sentence(*events: Event) -> str:
    """What is told of the last token."""
    return told(places(events)[-1])


def test_a_fork_is_told_with_what_it_was_between() -> None:
    place = places(TORN)[2]
    assert told(place) == "torn between ` 12` and ` 15`: looked 6 tokens down each, kept ` 12`"


def test_branches_of_several_lengths_and_more_than_two() -> None:
    third = BranchEvent(2, (56, 7), " 9 or", -2.0, False)
    place = places([*TORN[:4], third, *TORN[4:]])[2]
    assert told(place) == "torn between ` 12`, ` 15` and ` 9`: looked 2 to 6 tokens down each, kept ` 12`"


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([token(0, " yes")], "sure of ` yes` 99 %"),
        (
            [token(0, "a", 1.0, (100, "a", 0.6), (1, "b", 0.3), (2, "\n", 0.05))],
            "in between: took `a` 60 %; also `b` 30 %, `\\n` 5.0 %",
        ),
        (
            [token(0, "a", 1.0, (100, "a", 0.6), (1, "b", 0.3), strategy=Strategy.BRANCH)],
            "torn: took `a` 60 %; also `b` 30 %",
        ),
        (
            [
                FallbackEvent(0, Strategy.BRANCH, "the budget is spent"),
                token(0, "a", 1.0, (100, "a", 0.6), strategy=Strategy.BRANCH),
            ],
            "could not fork: the budget is spent; torn: took `a` 60 %",
        ),
        (
            [RejectedEvent(0, 9, " xyz", 12.34, 9.1), token(0, "a", 6.0, (100, "a", 0.03), strategy=Strategy.RESAMPLE)],
            "rejected ` xyz` as atypical (12.3 bits, the limit was 9.1); scattered: took `a` 3.0 %",
        ),
        (
            [RejectedEvent(0, 9, " la", 0.1, None), token(0, "a")],
            "rejected ` la`, which would have gone round in a loop; sure of `a` 99 %",
        ),
        (
            [RewindEvent(0, (1, 2), " um ah"), token(0, "a")],
            "took ` um ah` back, which was scattered, and began again here; sure of `a` 99 %",
        ),
        ([token(0, " ...", 4.0, strategy=Strategy.PAUSE, origin=Origin.FORCED)], "lost: put ` ...` in, to think on"),
        (
            [token(0, "b", 1.0, (100, "b", 0.3), (1, "a", 0.6), origin=Origin.FORCED)],
            "chosen by you: `b` 30 %; also `a` 60 %",
        ),
        (
            [
                CorrectionEvent(0, (1,), " 35", "3*12", "35", "36"),
                token(0, " 36", 1.5, (100, " 36", 0.4), origin=Origin.FORCED),
            ],
            "took ` 35` back: 3*12 is 36, not 35, and the model was not sure of it; put in as right: ` 36` 40 %",
        ),
        ([TokenEvent(0, 100, "a", origin=Origin.FORCED)], "chosen by you: `a` ?"),
    ],
)
def test_what_happened_is_told(events: list[Event], expected: str) -> None:
    assert sentence(*events) == expected


def test_the_rest_of_a_correction_is_no_choice_of_the_users() -> None:
    forced: dict[str, Any] = {"origin": Origin.FORCED}
    events: list[Event] = [
        CorrectionEvent(0, (1,), " 35", "6*6", "35", "36"),
        token(0, " 3", **forced),
        token(1, "6", **forced),
    ]
    assert told(places(events)[1]).startswith("put in as right: `6`")
    assert told(places([*events, token(2, "."), token(3, "x", **forced)])[3]).startswith("chosen by you")


def test_the_unsure_places_come_first() -> None:
    assert [place.token.index for place in unsure_first(places(TORN))] == [2, 3]
    seen = said(overview(TORN))
    assert seen.startswith("5 tokens: sure 3, torn 2. 1 fork.\nThe least sure places first:\n")
    assert "   2  It is[ 12] o'clock.\n" in seen
    assert "      torn between ` 12` and ` 15`: looked 6 tokens down each, kept ` 12`\n" in seen
    assert "      on the branch that was kept: ` o'clock` 80 %; also `.` 15 %\n" in seen
    assert seen.index("looked 6") < seen.index("on the branch")


def test_only_the_first_places_are_listed() -> None:
    events: list[Event] = [token(index, "x", 1 + index / 10) for index in range(9)]
    seen = said(overview(events, most=2))
    assert seen.index("   8  ") < seen.index("   7  ")
    assert "   6  " not in seen
    assert "7 more places above 0.5 bits of entropy." in seen
    events.insert(0, RejectedEvent(0, 9, " la", 0.1, None))
    seen = said(overview(events, most=2))
    assert seen.index("More than a draw was done here too:") < seen.index("which would have gone round in a loop")
    assert "6 more places above" in seen
    assert "The model was sure all along." in said(overview([token(0, "a")]))


def test_long_lines_stay_below_their_place() -> None:
    lines = said(overview(TORN), width=48).splitlines()
    assert lines[5:7] == ["      torn between ` 12` and ` 15`: looked 6", "      tokens down each, kept ` 12`"]


def test_candidates_are_told() -> None:
    candidates = [
        CandidateEvent(0, (1,), "It is\n11.", 0.51, "11", False),
        CandidateEvent(1, (2,), "It is 12.", 0.83, "12", True),
    ]
    seen = said(overview([*candidates, *TORN]))
    assert "Chosen from 2 candidates:\n" in seen
    assert "        1  confidence 0.51, answers `11`  It is 11.\n" in seen
    assert "  kept  2  confidence 0.83, answers `12`  It is 12.\n" in seen
    assert len(places([*candidates, *TORN])) == 5


def test_one_place_is_told_in_full() -> None:
    seen = said(closer(TORN, 2))
    assert "entropy 1.40 bits, varentropy 2.80 bits²: as unsure as among 2.6 equal choices" in seen
    assert "attention: entropy 1.50 bits" in seen
    assert "kept  -0.31  ` 12 o'clock.`" in seen
    assert "-0.90  ` 15 minutes.`" in seen
    assert "50 %  ` 12`  taken\n" in seen
    assert "30 %  ` 15`\n" in seen
    with pytest.raises(IndexError):
        closer(TORN, 5)


def test_a_walk_has_a_line_for_each_token() -> None:
    lines = said(walk(TORN), width=150).splitlines()
    assert len(lines) == 6
    assert "torn between ` 12` and ` 15`" in lines[3]


def test_a_word_is_found_wherever_tokens_cut_it() -> None:
    reply = places(TORN)
    assert [place.token.index for place in places_of(reply, "12 O'CLOCK")] == [2, 3]
    assert [place.token.index for place in places_of(reply, "is 1")] == [2, 1]
    assert places_of(reply, "noon") == []
    assert places_of(reply, "") == []


def test_tokens_that_say_nothing_are_named() -> None:
    assert quoted("") == "the end of the reply"
    assert quoted("\x1b[2J") == "`␛[2J`"
    assert percent(math.log(0.0005)) == "under 0.1 %"
    assert percent(None) == "?"
    assert percent(-math.inf) == "under 0.1 %"


def test_other_ways_are_branches_first_and_then_alternatives() -> None:
    found = ways(TORN)
    assert [(way.place, way.token_ids, way.text) for way in found] == [
        (2, (55, 7, 7, 8, 9, 10), " 15 minutes."),
        (3, (57,), "."),
        (2, (56,), " 9"),
    ]
    seen = said(listing(TORN, found))
    assert "  1  It is[ 15 minutes.] instead of ` 12`: branch, score -0.90 (kept: -0.31)\n" in seen
    assert "  2  It is 12[.] instead of ` o'clock`: 15 % (taken: 80 %)\n" in seen
    assert len(ways(TORN, most=1)) == 1


def test_an_alternative_that_ends_the_reply_is_no_way_on() -> None:
    event = token(0, "a", 1.0, (100, "a", 0.6), (1, "", 0.3), (2, "b", 0.01))
    assert ways([event]) == []


def test_a_reply_without_measurements_is_told_too() -> None:
    event = token(0, "a", 1.0, (100, "a", 0.6))._replace(metrics=None)
    assert "not measured" not in said(overview([event]))
    assert "took `a` 60 %" in said(closer([event], 0))


def test_the_text_around_a_place_begins_with_a_word() -> None:
    assert end_of("a short text", 12) == "a short text"
    assert end_of("not such a short text", 12) == "… short text"
    assert end_of("x" * 20, 5) == "…xxxxx"


def test_how_sure_of_the_whole_reply_one_may_be_stands_above() -> None:
    rank = ConfidenceEvent(4, "rank", 0.2, None, 42)
    assert said(overview([*TORN, rank])).startswith("Less sure than 80 % of this model's replies (a rank:")
    likely = ConfidenceEvent(4, "probability", 0.84, "12", 300, (2,))
    seen = " ".join(said(overview([*TORN, likely])).split())
    assert seen.startswith("84 % likely to be right: `12`; least sure of ` 12")
    assert "also ` 15`" in seen
    assert len(places([*TORN, rank])) == 5
