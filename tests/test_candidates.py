"""Candidates that vote, on a tiny model: which is chosen, what it costs, when it stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_corrections import write_letters

from entropix_edge.config import EngineConfig, GenerationConfig
from entropix_edge.engine import Engine
from entropix_edge.errors import ConfigError, ContextError
from entropix_edge.sessions import Deliberation, VotingConfig
from entropix_edge.text import extract
from entropix_edge.types import CandidateEvent, FinishReason, TokenEvent

ANYTHING = tuple("abcdefghijklmnopqrstuvwxyz 0123456789")
"""Stop texts: with the random letters of the tiny model a reply ends soon."""
CONFIG = GenerationConfig(preset="article", sampler="temperature", seed=7, n_predict=24)


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[Engine]:
    config = EngineConfig(ctx_size=512, sequences=4, forks=0, threads=1, attention="off")
    with Engine.open(tiny_model, config) as opened:
        yield opened


def deliberate(
    engine: Engine, voting: VotingConfig, answer_of: Callable[[str], str | None] = lambda text: text[:1] or None
) -> Deliberation:
    return Deliberation(engine, engine.tokenize_prompt("ab", raw=True), CONFIG, voting, answer_of)


def test_a_candidate_is_what_the_engine_would_have_said_alone(engine: Engine) -> None:
    tokens = engine.tokenize_prompt("ab", raw=True)
    alone = engine.stream_tokens(tokens, CONFIG).reply()
    with deliberate(engine, VotingConfig(candidates=1, early_stopping=False)) as deliberation:
        reply = deliberation.reply()
    assert reply.text == alone.text
    assert reply.decoded_tokens == alone.decoded_tokens


def test_every_candidate_is_told_and_one_is_kept(engine: Engine) -> None:
    with deliberate(engine, VotingConfig(candidates=4, early_stopping=False)) as deliberation:
        events = list(deliberation.everything())
        reply = deliberation.reply()
    candidates = [event for event in events if isinstance(event, CandidateEvent)]
    assert len(candidates) == 4
    assert [candidate.kept for candidate in candidates].count(True) == 1
    assert next(candidate.text for candidate in candidates if candidate.kept) == reply.text
    assert "".join(event.text for event in events if isinstance(event, TokenEvent)) == reply.text
    assert len({candidate.token_ids for candidate in candidates}) > 1, "the candidates' seeds must differ"


def test_all_candidates_are_paid_for(engine: Engine) -> None:
    with deliberate(engine, VotingConfig(candidates=3, early_stopping=False)) as deliberation:
        reply = deliberation.reply()
        votes = deliberation.votes
    assert reply.decoded_tokens == sum(vote.decoded_tokens for vote in votes)
    assert len(votes) == 3


def test_the_same_seed_says_the_same(engine: Engine) -> None:
    texts = []
    for _ in range(2):
        with deliberate(engine, VotingConfig(candidates=4)) as deliberation:
            texts.append(deliberation.reply().text)
    assert texts[0] == texts[1]


def test_without_answers_the_most_confident_candidate_is_kept(engine: Engine) -> None:
    with deliberate(engine, VotingConfig(candidates=4, early_stopping=False), lambda _: None) as deliberation:
        deliberation.reply()
        finished = [vote for vote in deliberation.votes if vote.finish is FinishReason.STOP]
        best = max(finished or deliberation.votes, key=lambda vote: vote.confidence)
        kept = next(
            event for event in deliberation.reply().side_events if isinstance(event, CandidateEvent) and event.kept
        )
    assert kept.confidence == best.confidence


def test_nothing_is_left_in_the_context(engine: Engine) -> None:
    before = engine.free
    with deliberate(engine, VotingConfig(candidates=4)) as deliberation:
        engine.step()
        deliberation.cancel()
        reply = deliberation.reply()
    assert reply.finish_reason in (FinishReason.CANCELLED, FinishReason.STOP, FinishReason.LENGTH)
    assert engine.free == before


@pytest.mark.parametrize(
    ("answers", "used"),
    [
        ("aa", 2),
        ("abaa", 4),
        ("abab" + "aa", 6),
        ("abcdefgh", 8),
        ("a-a", 4),
        ("a" + "-" * 7, 8),
        ("-" * 8, 8),
        ("ab" * 3 + "a" * 2, 8),
    ],
)
def test_two_more_are_generated_while_no_answer_is_two_votes_ahead(engine: Engine, answers: str, used: int) -> None:
    """A letter is the answer of the next candidate that finishes, a hyphen none."""
    coming = iter(answers.ljust(8, "a"))

    def answer_of(text: str) -> str | None:
        return next(coming).replace("-", "") or None

    tokens = engine.tokenize_prompt("ab", raw=True)
    short = replace(CONFIG, n_predict=-1, stop=ANYTHING)
    with Deliberation(engine, tokens, short, VotingConfig(), answer_of) as deliberation:
        assert len(deliberation.votes) == 2
        deliberation.reply()
        votes = deliberation.votes
    assert [vote.finish for vote in votes] == [FinishReason.STOP] * used
    assert len(votes) == used


@pytest.mark.parametrize(("letters", "kind"), [("0123456789", "last-number"), ("abc", "exact"), ("abcĠĊ", None)])
def test_by_which_answers_candidates_vote_is_seen_from_them(
    tmp_path_factory: pytest.TempPathFactory, letters: str, kind: str | None
) -> None:
    """A model that writes nothing but these letters, up to a semicolon."""
    path = write_letters(tmp_path_factory.mktemp("letters"), f"{letters};")
    with Engine.open(path, EngineConfig(ctx_size=1024, sequences=2, threads=1, attention="off")) as engine:
        tokens = engine.tokenize_prompt("ab", raw=True)
        config = replace(CONFIG, n_predict=400, stop=(";",))
        with Deliberation(engine, tokens, config, VotingConfig()) as deliberation:
            assert deliberation.detects
            assert deliberation.kind is None
            reply = deliberation.reply()
            finished = [each for each in deliberation.votes if each.finish is FinishReason.STOP]
            texts = [each.text for each in deliberation.replies if each.finish_reason is FinishReason.STOP]
            assert len(finished) > 1
            assert deliberation.kind == kind
            assert [vote.answer for vote in finished] == [kind and extract(text, kind) for text in texts]
        told = [event for event in reply.side_events if isinstance(event, CandidateEvent)]
        assert [each.answer for each in told] == [vote.answer for vote in deliberation.votes]


@pytest.mark.parametrize("second", range(4))
def test_a_lead_of_two_seldom_is_lost_among_eight(second: int) -> None:
    """What docs/EVALUATION.md says: the posterior chance that the others would have decided otherwise."""
    first, left = second + 2, 8 - 2 * second - 2
    lost = 0.0
    for against in range(left + 1):
        chance = math.comb(left, against) * beta(second + 1 + against, first + 1 + left - against)
        margin = (first + left - against) - (second + against)
        lost += chance / beta(second + 1, first + 1) * (1 if margin < 0 else 0.5 if margin == 0 else 0)
    assert lost < 0.104


def beta(a: int, b: int) -> float:
    return math.factorial(a - 1) * math.factorial(b - 1) / math.factorial(a + b - 1)


@pytest.mark.parametrize("candidates", [0, 65, 2.5])
def test_candidates_are_counted(candidates: int) -> None:
    with pytest.raises(ConfigError, match="candidates"):
        VotingConfig(candidates=candidates)


def test_a_prompt_that_leaves_no_room(engine: Engine) -> None:
    with pytest.raises(ContextError, match="no room"):
        Deliberation(engine, [5] * 300, CONFIG, VotingConfig(candidates=8))


def test_an_engine_that_is_asked_to_stop_ends_all_candidates(tiny_model: Path) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 200

    endless = replace(CONFIG, n_predict=-1)
    config = EngineConfig(ctx_size=65536, sequences=2, forks=0, threads=1, attention="off")
    with Engine.open(tiny_model, config, cancelled=cancelled) as engine:
        tokens = engine.tokenize_prompt("ab", raw=True)
        with Deliberation(engine, tokens, endless, VotingConfig(candidates=4)) as deliberation:
            reply = deliberation.reply()
    assert reply.finish_reason is FinishReason.CANCELLED
    assert len(reply.events) < 300
