"""How sure of a reply one may be: features, fits, ranks, and when there is no probability."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropix_edge import confidence
from entropix_edge.confidence import (
    QUANTILES,
    SIGNS,
    Fit,
    Fits,
    Judge,
    Rank,
    as_toml,
    carrying,
    features,
    load_fits,
    may_ask_for,
    measured,
    policy_name,
    read_fits,
    vote_features,
)
from entropix_edge.config import EngineConfig, GenerationConfig
from entropix_edge.engine import Engine
from entropix_edge.errors import ConfigError
from entropix_edge.render import confidence_record, in_short, told
from entropix_edge.sessions import Deliberation, VotingConfig
from entropix_edge.storage import config_folder, fingerprint
from entropix_edge.strategy import load_preset, override
from entropix_edge.text import extract
from entropix_edge.types import (
    Alternative,
    AttentionMetrics,
    ConfidenceEvent,
    FinishReason,
    Metrics,
    TokenEvent,
)

NUMBERS = Fit(
    answer="last-number",
    policy="greedy",
    problems=300,
    right=0.25,
    auroc=0.85,
    calibration_error=0.04,
    intercept=0.5,
    weights={"summed_entropy": -1.0, "answer_logprob": 0.5},
    ranges={"length": (3.0, 400.0), "result_count": (1.0, 12.0), "summed_entropy": (0.0, 300.0)},
)
RANK = Rank(40, (8, 32), (tuple(percent / 50 for percent in QUANTILES), tuple(percent / 100 for percent in QUANTILES)))


def event(index: int, text: str, entropy: float = 0.1, **fields: object) -> TokenEvent:
    attention = AttentionMetrics(1.0, 0.5, 0.1, 2.0)
    made = TokenEvent(index, index + 5, text, -entropy, Metrics(entropy, entropy / 2, attention))
    return made._replace(**fields)  # type: ignore[arg-type]


def reply(
    texts: Sequence[str], entropies: Sequence[float] = (), finish: FinishReason | None = None
) -> list[TokenEvent]:
    """The events of a reply; one token for each text, with an entropy of 0.1 bits where none is given."""
    given_entropies = [*entropies, *([0.1] * len(texts))]
    events = [event(index, text, given_entropies[index]) for index, text in enumerate(texts)]
    events[-1] = events[-1]._replace(finish_reason=finish or FinishReason.STOP)
    return events


ASKED = partial(str, "He works 4 days for 9 dollars. How much is that?")
WORKED = ["He", " has", " 4", " *", " 9", " =", " 36", ".", " So", " 36", ""]


# --- features -------------------------------------------------------------------------------------


def test_features_are_those_of_the_tokens() -> None:
    events = reply(WORKED, [1.0, 0.5, 0, 0, 0, 0, 2.0, 0, 0, 0.25, 0])
    text = "".join(each.text for each in events)
    start = text.rindex("36")
    found = features(measured(events), text, (start, start + 2))
    assert found.keys() == SIGNS.keys()
    assert found["length"] == 11
    assert found["summed_entropy"] == pytest.approx(3.75)
    assert found["lowest_logprob"] == pytest.approx(-2.0)
    assert found["result_count"] == 1
    assert found["wrong_results"] == 0
    assert found["result_greatest_entropy"] == pytest.approx(2.0)
    assert found["answer_greatest_entropy"] == pytest.approx(0.25)
    assert found["number_share"] == pytest.approx(4 / 11)
    assert found["mean_attention_entropy"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("4 * 9 = 36. So 36", 0), ("4 * 9 = 35. So 35", 1), ("2+2=5\n3 + 3 = 7\n1 + 1 = 2", 2), ("x = 2 * 7 = 14", 0)],
)
def test_results_that_are_wrong_are_counted(text: str, wrong: int) -> None:
    assert features(measured(reply(list(text))), text)["wrong_results"] == wrong


def test_what_was_not_measured_is_left_out() -> None:
    events = [TokenEvent(0, 5, "a"), event(1, "b", 2.0), TokenEvent(2, None, "", finish_reason=FinishReason.STOP)]
    found = features(measured(events), "ab")
    assert found["length"] == 2
    assert found["summed_entropy"] == 2.0
    assert math.isnan(found["answer_logprob"])
    assert all(math.isnan(value) for value in features(measured([]), "").values())


def test_a_number_is_carried_by_all_that_were_worked_out() -> None:
    events = reply(WORKED)
    text = "".join(each.text for each in events)
    start = text.rindex("36")
    carried = carrying(measured(events), text, (start, start + 2))
    assert [WORKED[place] for place in carried.nonzero()[0]] == [" 36", " 36"]
    word = carrying(measured(events), text, (0, 2))
    assert [WORKED[place] for place in word.nonzero()[0]] == ["He"]


def test_features_of_a_vote() -> None:
    found = vote_features(["4", "5", "4", None, "4"], [(10.0, 100), (20.0, 100), (10.0, 100), (99.0, 1), (20.0, 50)])
    assert found["agreement"] == 0.75
    assert found["vote_entropy"] == pytest.approx(0.8112781)
    assert found["mean_summed_entropy"] == 15.0
    assert found["mean_mean_entropy"] == pytest.approx(0.2)
    assert all(math.isnan(value) for value in vote_features([None], [(1.0, 1)]).values())
    assert vote_features(["4", "4"], [(1.0, 1)] * 2)["vote_entropy"] == 0


# --- fits -----------------------------------------------------------------------------------------


def test_a_probability_is_the_logistic_of_the_weighted_features() -> None:
    known = {"length": 10.0, "result_count": 1.0, "summed_entropy": 4.0, "answer_logprob": -1.0}
    odds = 0.5 - math.log(4.01) - 0.5
    assert NUMBERS.probability(known) == pytest.approx(1 / (1 + math.exp(-odds)))


@pytest.mark.parametrize(
    "change", [{"length": 2.0}, {"length": 500.0}, {"result_count": 0.0}, {"summed_entropy": math.nan}]
)
def test_outside_of_what_was_fitted_there_is_no_probability(change: dict[str, float]) -> None:
    known = {"length": 10.0, "result_count": 1.0, "summed_entropy": 4.0, "answer_logprob": -1.0}
    assert NUMBERS.probability(known | change) is None


def test_a_feature_that_was_not_measured_gives_no_probability() -> None:
    assert NUMBERS.probability({"length": 10.0, "result_count": 1.0, "summed_entropy": 4.0}) is None


def test_files_hold_what_was_fitted() -> None:
    others = (replace(NUMBERS, answer=answer, policy="edge 1234") for answer in ('regex:"(\\d)"', "regex:(🙂|\x7f)"))
    fits = Fits(RANK, (NUMBERS, *others))
    assert read_fits(as_toml(fits, "a model\n")) == fits
    assert read_fits(as_toml(Fits(), "none")) == Fits()
    odd = Fits(None, (replace(NUMBERS, tasks="sums\n🙂\ud800.jsonl"),))
    assert read_fits(as_toml(odd, "").encode().decode()).fits[0].tasks == "sums?🙂?.jsonl"


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "[rank]\nreplies = 3\nlengths = []\nbounds = []",
        "[rank]\nreplies = 3\nlengths = [8]\nbounds = [[1, 2]]",
        "[[fit]]\nanswer = 'last-number'",
        as_toml(Fits(None, (NUMBERS,)), "").replace("intercept = 0.5", "intercept = inf"),
        as_toml(Fits(None, (NUMBERS,)), "").replace("intercept = 0.5", "intercept = '0.5'"),
        as_toml(Fits(None, (NUMBERS,)), "").replace("length = [3, 400]", "length = 3"),
        "fit = 3",
    ],
)
def test_damaged_files_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        read_fits(text)


def test_a_damaged_file_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "abc.toml").write_text("[[fit]]\n")
    assert load_fits("abc", tmp_path) == Fits()
    assert "is left out" in caplog.text
    assert load_fits("abc", None) == load_fits("abd", tmp_path) == Fits()


def test_the_newer_fit_of_a_kind_and_policy_holds() -> None:
    other = replace(NUMBERS, problems=500)
    edge = replace(NUMBERS, policy="edge 1")
    assert Fits(None, (NUMBERS, edge)).with_fit(other).fits == (edge, other)
    assert Fits(None, (other,)).over(Fits(RANK, (NUMBERS, edge))) == Fits(RANK, (edge, other))
    assert Fits(None, (NUMBERS, edge)).of("greedy") == (NUMBERS,)


def test_policies_that_differ_have_other_names() -> None:
    edge = load_preset("edge")
    warmer = override(edge, {"sampler.temperature": 0.9})
    names = [
        policy_name("greedy", edge),
        policy_name("temperature", edge),
        policy_name("temperature", warmer),
        policy_name("entropix", edge),
        policy_name("entropix", warmer),
        policy_name("entropix", load_preset("article")),
    ]
    assert len(set(names)) == len(names)
    assert policy_name("greedy", warmer) == names[0]
    assert policy_name("entropix", replace(edge, name="other")).split()[1] == names[3].split()[1]


# --- the rank -------------------------------------------------------------------------------------


def test_a_rank_is_among_replies_of_that_length() -> None:
    assert RANK.share_below(1.0, 10) == pytest.approx(0.5)
    assert RANK.share_below(0.5, 100) == pytest.approx(0.5)
    assert RANK.share_below(0.5, 31) == pytest.approx(0.75)
    assert RANK.share_below(0.5, 1) == pytest.approx(0.75)
    assert RANK.share_below(99, 10) == pytest.approx(0.05)
    assert RANK.share_below(0, 10) == pytest.approx(0.95)


# --- judging --------------------------------------------------------------------------------------


def test_a_fitted_kind_has_a_probability_and_names_what_carries_it() -> None:
    events = reply(WORKED, [1.0, 0.5, 0, 0, 0, 0, 2.0, 0, 0, 0.75, 0])
    events[6] = events[6]._replace(alternatives=(Alternative(11, " 36", -0.5), Alternative(9, " 42", math.log(0.31))))
    judged = Judge([NUMBERS], RANK, ASKED)(events)
    assert judged
    assert (judged.kind, judged.answer, judged.compared, judged.index) == ("probability", "36", 300, 10)
    assert judged.least_sure == (6, 9)
    said = told(judged, events)
    assert f"{100 * judged.value:.0f} % likely to be right: `36`" in said
    assert "least sure of ` 36`: also ` 42` 31 %" in said
    assert in_short(judged) == f"{100 * judged.value:.0f} % likely right"
    record = confidence_record(judged, events)
    assert record
    assert record["least_sure"][0]["also"] == [{"text": " 42", "probability": pytest.approx(0.31)}]
    json.dumps(record)


@pytest.mark.parametrize("finish", [each for each in FinishReason if each is not FinishReason.STOP])
def test_a_reply_that_was_cut_has_none(finish: FinishReason) -> None:
    assert Judge([NUMBERS], RANK, ASKED)(reply(WORKED, finish=finish)) is None


def test_a_reply_of_no_fitted_kind_has_a_rank() -> None:
    judged = Judge([NUMBERS], RANK, ASKED)(reply(["It", " was", " in", " 1871", "."]))
    assert judged
    assert (judged.kind, judged.answer, judged.least_sure) == ("rank", None, ())
    assert told(judged, []).startswith("surer than 95 % of this model's replies")
    assert told(replace(judged, value=0.2), []).startswith("less sure than 80 % of this model's replies")
    assert Judge([NUMBERS], None, ASKED)(reply(["It", " was"])) is None


def test_a_reply_of_two_kinds_at_once_has_a_rank() -> None:
    both = [NUMBERS, replace(NUMBERS, answer="exact")]
    judged = Judge(both, RANK, ASKED)(reply(WORKED))
    assert judged
    assert judged.kind == "rank"


@given(
    st.lists(st.sampled_from(["a ", "the ", "in ", "12 ", "1871", "\n", "- ", "so ", ". "]), min_size=1, max_size=60)
)
def test_a_reply_that_works_nothing_out_is_never_given_a_probability(texts: list[str]) -> None:
    judged = Judge([NUMBERS], RANK, ASKED)(reply(texts))
    assert judged
    assert judged.kind == "rank"


@pytest.mark.parametrize(
    ("question", "kinds"),
    [
        ("He has 4 bags of 9 apples. How many?", {"last-number", "choice", "exact"}),
        ("I have three yams, a lettuce head and an onion. How many vegetables do I have?", {"choice", "exact"}),
        ("Today is 7/9/1972. What was it a week ago?\nOptions:\n(A) 02/07/1972\n(B) 06/08/1972", {"choice"}),
        ("What is 3 and 4?\nA. 7\nB. 8", {"choice"}),
        ("The set (A) has 3 elements.", {"last-number", "choice", "exact"}),
    ],
)
def test_what_a_question_may_ask_for(question: str, kinds: set[str]) -> None:
    assert {kind for kind in ("last-number", "choice", "exact") if may_ask_for(question, kind)} == kinds


@pytest.mark.parametrize("question", ["I have three yams and an onion. How many?", "Is 3 more? (A) yes (B) no"])
def test_a_question_of_another_kind_has_a_rank_however_it_is_answered(question: str) -> None:
    judged = Judge([NUMBERS], RANK, partial(str, question))(reply(WORKED))
    assert judged
    assert judged.kind == "rank"


# --- an engine ------------------------------------------------------------------------------------

ANY = replace(NUMBERS, answer="exact", weights={"mean_entropy": -1.0}, ranges={"length": (1.0, 99.0)})
CONFIG = GenerationConfig(preset="article", sampler="greedy", seed=7, n_predict=60)


def write_fits(model: Path, *fits: Fit, rank: Rank | None = RANK) -> None:
    folder = config_folder() / "confidence"
    folder.mkdir(parents=True)
    (folder / f"{fingerprint(model)}.toml").write_text(as_toml(Fits(rank, fits), model.name), "utf-8")


@pytest.fixture
def engine(tiny_model: Path) -> Iterator[Engine]:
    write_fits(tiny_model, ANY, replace(ANY, policy=f"{policy_name('temperature', load_preset('article'))}, best of 3"))
    config = EngineConfig(ctx_size=512, sequences=4, forks=0, threads=1, attention="off")
    with Engine.open(tiny_model, config) as opened:
        yield opened


def first_letter(engine: Engine) -> str:
    """A text that the greedy reply says early, to end it."""
    said = engine.generate("ab", CONFIG, raw=True).text
    return next(letter for letter in said[3:] if letter.isprintable())


def test_a_reply_carries_its_confidence_before_its_last_token(engine: Engine) -> None:
    config = replace(CONFIG, stop=(first_letter(engine),))
    stream = engine.stream("ab", config, raw=True)
    events = list(stream.everything())
    whole = stream.reply()
    assert whole.finish_reason is FinishReason.STOP
    assert isinstance(events[-2], ConfidenceEvent)
    assert whole.confidence == events[-2]
    assert whole.confidence.kind == "probability"
    assert whole.confidence.index == whole.events[-1].index
    known = features(measured(whole.events), whole.text)
    assert whole.confidence.value == pytest.approx(ANY.probability(known))


def test_one_that_was_cut_or_begun_by_somebody_has_none(engine: Engine) -> None:
    assert engine.generate("ab", replace(CONFIG, n_predict=3), raw=True).confidence is None
    config = replace(CONFIG, stop=(first_letter(engine),))
    ended = engine.generate("ab", config, raw=True)
    begun = tuple(event.token_id for event in ended.events[:1] if event.token_id is not None)
    again = engine.generate("ab", config, raw=True, begin_tokens=begun)
    assert again.finish_reason is FinishReason.STOP
    assert again.confidence is None


def test_another_policy_has_a_rank(engine: Engine) -> None:
    config = replace(CONFIG, stop=(first_letter(engine),))
    for other in (replace(config, sampler="temperature"), replace(config, sampler="entropix")):
        judged = engine.generate("ab", other, raw=True).confidence
        assert judged is None or judged.kind == "rank"


def test_the_best_of_several_is_judged_by_the_vote(engine: Engine) -> None:
    config = replace(CONFIG, sampler="temperature", stop=("e", "a", "o", " "))
    tokens = engine.tokenize_prompt("ab", raw=True)
    with Deliberation(engine, tokens, config, VotingConfig(candidates=3), lambda text: text[:1] or None) as best:
        events = list(best.everything())
        confidence = best.reply().confidence
    assert confidence
    assert confidence.kind == "probability"
    assert [each for each in events if isinstance(each, ConfidenceEvent)] == [confidence]
    with Deliberation(engine, tokens, config, VotingConfig(candidates=4), lambda text: text[:1] or None) as best:
        other = best.reply().confidence
    assert other
    assert other.kind == "rank"


@pytest.mark.parametrize("sign", [1, -1])
def test_votes_are_weighed_by_how_likely_each_answer_is_right(tiny_model: Path, sign: int) -> None:
    fit = replace(ANY, intercept=0.0, weights={"length": 3.0 * sign}, ranges={"length": (900.0, 901.0)})
    write_fits(tiny_model, fit)
    config = replace(CONFIG, sampler="temperature", stop=("e", "a", "o", " "))
    voting = VotingConfig(candidates=6, early_stopping=False)
    kept = {}
    with Engine.open(
        tiny_model, EngineConfig(ctx_size=512, sequences=6, forks=0, threads=1, attention="off")
    ) as engine:
        tokens = engine.tokenize_prompt("ab", raw=True)
        for weighted in True, False:
            with Deliberation(
                engine, tokens, config, replace(voting, weighted=weighted), partial(extract, extractor="exact")
            ) as best:
                best.reply()
                kept[weighted] = best.kept
                votes, replies = best.votes, best.replies
        with Deliberation(engine, tokens, config, voting, lambda text: text[:1] or None) as best:
            best.reply()
            first_letter = best.kept  # an answer of a kind that nothing was fitted to
            surer: Counter[str | None] = Counter()
            for vote in best.votes:
                surer[vote.answer] += vote.confidence  # type: ignore[assignment]
    likely: Counter[str | None] = Counter()
    for vote, reply in zip(votes, replies, strict=True):
        likely[vote.answer] += fit.estimate({"length": float(len(reply.events))})  # type: ignore[assignment, operator]
    del likely[None], surer[None]
    assert len(likely) > 2
    assert kept[True] == likely.most_common(1)[0][0], "also for replies that are none like those that were fitted"
    assert first_letter == surer.most_common(1)[0][0]
    assert kept[False] in likely


# --- what ships -----------------------------------------------------------------------------------

FILES = sorted((Path(str(confidence.__file__)).parent / "fitted").glob("*.toml"))
SHIPPED = [fit for file in FILES for fit in load_fits(file.stem, None).fits]
STEP = ["So", " he", " has", " 4", " *", " 9", " =", " 36", " of", " them", ",", *([" and", " on", " it", " goes"] * 6)]
LONG = [*(STEP * 6), " So", " 36", ""]


def judged_by(fit: Fit, texts: Sequence[str], question: str = ASKED()) -> str:
    """The kind of confidence that a reply to a question has by a fit."""
    judged = Judge([fit], RANK, partial(str, question))(reply(texts, [0.4] * len(texts)))
    assert judged
    return judged.kind


@pytest.mark.parametrize("fit", SHIPPED, ids=lambda fit: f"{fit.policy} of {fit.problems}")
def test_a_reply_of_an_unfitted_kind_is_given_no_probability_by_what_ships(fit: Fit) -> None:
    assert judged_by(fit, LONG) == "probability"
    assert judged_by(fit, [" is" if text == " =" else text for text in LONG]) == "rank"
    assert judged_by(fit, [text for text in LONG if not text.strip().isdigit()]) == "rank"
    assert judged_by(fit, STEP) == judged_by(fit, LONG * 4) == "rank"
    assert judged_by(fit, LONG, "I have three yams and an onion. How many?") == "rank"
    assert judged_by(fit, LONG, "4 bags of 9 are how many?\n(A) 36\n(B) 13") == "rank"


def test_the_fits_that_ship_hold() -> None:
    assert len(SHIPPED) >= 4
    for file in FILES:
        fits = read_fits(file.read_text("utf-8"))
        assert fits == load_fits(file.stem, None)
        assert fits.rank or fits.fits
        assert as_toml(fits, "a model").splitlines()[1:] == file.read_text("utf-8").splitlines()[1:]
        for fit in fits.fits:
            assert fit.tasks
            assert fit.problems >= 290
            assert fit.weights.keys() <= SIGNS.keys() >= fit.ranges.keys()
