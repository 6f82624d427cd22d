"""The real default model: what it says, and that it says it again."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entropix_edge import Engine, EngineConfig, GenerationConfig, Origin, Strategy, load_preset
from entropix_edge.cli import run
from entropix_edge.llama import Context, Model
from entropix_edge.strategy import override
from entropix_edge.types import BranchEvent, Cell, RejectedEvent, RewindEvent, Row

pytestmark = pytest.mark.model

ACTING_PROMPTS = [
    "Tell me a short story about a lighthouse.",
    "Invent ten words that do not exist.",
    "Write a poem about the night.",
    "Describe a fruit that nobody has ever seen.",
]
# thresholds under which the default model forks and goes back within a few dozen tokens
BUSY: dict[str, object] = {
    "branch.entropy_below": 4.0,
    "branch.varentropy_above": 5.0,
    "resample.entropy_above": 4.0,
    "resample.varentropy_above": 8.0,
    "resample.run": 2,
}
SYSTEM = "You are a helpful assistant."


@pytest.fixture(scope="module")
def engine(default_model: Path) -> Iterator[Engine]:
    with Engine.open(default_model) as opened:
        yield opened


@pytest.fixture(scope="module")
def bare(default_model: Path) -> Iterator[Engine]:
    with Engine.open(default_model, EngineConfig(attention="off")) as opened:
        yield opened


def test_why_the_sky_is_blue(default_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "-m", str(default_model), "--sampler", "greedy", "-sys", SYSTEM, "-n", "24"]
    assert run([*arguments, "Why is the sky blue?"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("The sky appears blue")
    assert err == ""


def test_the_prompt_is_the_models_own_template(engine: Engine) -> None:
    tokens = engine.tokenize_prompt("Hi", system=SYSTEM)
    text = "".join(engine.model.vocabulary.label(token) for token in tokens)
    assert text == f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_the_pause_is_three_dots(engine: Engine) -> None:
    assert engine.model.vocabulary.tokenize(" ...") == [4563]
    assert engine.model.vocabulary.tokenize(" Wait") == [22297]


def test_the_same_seed_repeats_and_another_differs(engine: Engine) -> None:
    prompt = "Invent a name for a ship and say why."
    first, again, other = (
        engine.generate(prompt, GenerationConfig(seed=seed, n_predict=60)).text for seed in (11, 11, 12)
    )
    assert first == again
    assert first != other


def test_a_story_traces_finite_metrics(engine: Engine) -> None:
    prompt = "Write a very long story about a dragon, with many chapters."
    reply = engine.generate(prompt, GenerationConfig(seed=3, n_predict=200, preset="article"))
    assert len(reply.events) > 100
    for event in reply.events:
        assert event.metrics is not None
        assert event.metrics.attention is not None
        attention = event.metrics.attention
        values = (event.metrics.entropy, event.metrics.varentropy, attention.varentropy, attention.agreement)
        assert all(math.isfinite(value) and value >= 0 for value in (*values, attention.interaction_strength))
        assert event.metrics.entropy <= math.log2(engine.model.n_vocab)
        assert 0 <= attention.entropy <= math.log2(reply.prompt_tokens + event.index)


def test_several_strategies_occur(engine: Engine) -> None:
    prompts = ["Count from 1 to 20.", "Tell me a story.", "What is 2 + 2?", "Invent ten words that do not exist."]
    seen = {
        event.strategy
        for prompt in prompts
        for event in engine.generate(prompt, GenerationConfig(seed=1, n_predict=60)).events
    }
    assert len(seen & set(Strategy)) >= 3


def test_attention_does_not_change_what_is_said(bare: Engine, engine: Engine) -> None:
    """The tap looks and does not touch."""
    settings = GenerationConfig(sampler="greedy", n_predict=40)
    prompt = "Name three colours."
    tapped, untapped = engine.generate(prompt, settings), bare.generate(prompt, settings)
    assert tapped.text == untapped.text
    for one, other in zip(tapped.events, untapped.events, strict=True):
        assert one.logprob == other.logprob


def test_golden_token_ids(bare: Engine) -> None:
    """Greedy ids, each with how far the two best logits were apart on the machine that wrote them.

    Made by `scripts/golden.py`. Only where that is more than 1 must another machine choose the same; the
    golden token is decoded next whatever was chosen.
    """
    goldens = json.loads((Path(__file__).parent / "golden.json").read_text("utf-8"))
    bare.forget()  # sequence 0 is decoded in below the engine, and must be empty
    compared = 0
    for prompt, golden in goldens.items():
        tokens = bare.tokenize_prompt(prompt, system=SYSTEM)
        bare.context.decode([Cell(token, i, 0, wanted=False) for i, token in enumerate(tokens[:-1])])
        fed = tokens[-1]
        for position, (token, apart) in enumerate(golden, start=len(tokens) - 1):
            rows = bare.context.decode([Cell(fed, position, 0, wanted=True)])
            assert rows is not None
            if apart > 1:
                assert int(rows[0].logits.argmax()) == token
                compared += 1
            fed = token
        bare.context.truncate(0)
    assert compared >= 100


# --- the acts on the real model ---------------------------------------------------------------------


class Recorder:
    """Stands before a context's decode, fork and truncate, and writes down what is asked of them."""

    def __init__(self, context: Context, patch: pytest.MonkeyPatch) -> None:
        self.log: list[tuple[str, Any, Any]] = []
        decode, fork, truncate = context.decode, context.fork, context.truncate

        def recorded_decode(cells: Sequence[Cell]) -> list[Row] | None:
            rows = decode(cells)
            assert rows is not None
            self.log.append(("decode", list(cells), [row.logits.copy() for row in rows]))
            return rows

        def recorded_fork(source: int, target: int) -> None:
            fork(source, target)
            self.log.append(("fork", source, target))

        def recorded_truncate(sequence: int, position: int = 0) -> bool:
            self.log.append(("truncate", sequence, position))
            return truncate(sequence, position)

        patch.setattr(context, "decode", recorded_decode)
        patch.setattr(context, "fork", recorded_fork)
        patch.setattr(context, "truncate", recorded_truncate)

    def kept(self, number: int) -> bool:
        """Whether the cells of the child of the fork at this place in the log went back to its parent."""
        _kind, parent, child = self.log[number]
        for kind, first, second in self.log[number + 1 :]:
            if kind == "fork" and (first, second) == (child, parent):
                return True
            if kind == "truncate" and (first, second) == (child, 0):
                break
        return False


def test_the_cache_after_acts_is_that_of_a_fresh_decode(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row that a reply with forks and rewinds went by, against a context in which nothing is forked.

    llama.cpp's arithmetic depends on the shape of a batch and on the cells' places, so the fresh context
    decodes batches of the same shape: the reply's own tokens in one sequence, and beside them, where there
    were forks, the other branches' tokens in sequences that share nothing with it.
    """
    with monkeypatch.context() as patch:
        recorder = Recorder(engine.context, patch)
        config = GenerationConfig(preset=override(load_preset("edge"), BUSY), seed=1, n_predict=80)
        replies = []
        for prompt in ACTING_PROMPTS[:2]:
            engine.forget()
            replies.append(engine.generate(prompt, config))
        engine.forget()
    kinds = {type(event) for reply in replies for event in reply.side_events}
    assert {BranchEvent, RewindEvent} <= kinds
    context, worst, compared = engine.context, 0.0, 0
    place: dict[int, int] = {}  # a sequence of then: its sequence now
    for number, (kind, first, second) in enumerate(recorder.log):
        if kind == "fork":
            went_back = second == 0  # to the reply's own sequence
            place[second] = place[first] if went_back or recorder.kept(number) else second + 1
        elif kind == "truncate":
            child_took_over = list(place.values()).count(place.get(first, -1)) > 1
            if not child_took_over:
                context.truncate(place.get(first, first), second)
            if not second:
                place.pop(first, None)
        else:
            for cell in first:
                place.setdefault(cell.sequence, 0)  # another reply begins
            rows = context.decode([cell._replace(sequence=place[cell.sequence]) for cell in first])
            assert rows is not None
            wanted = [cell for cell in first if cell.wanted]
            for cell, row, before in zip(wanted, rows, second, strict=True):
                if place[cell.sequence] == 0:
                    worst = max(worst, float(np.abs(row.logits - before).max()))
                    compared += 1
    assert compared > 100
    assert worst < 1e-4


def test_a_real_reply_forks_pauses_rejects_and_rewinds(engine: Engine) -> None:
    seen: Counter[str] = Counter()
    names = ("BranchEvent", "RewindEvent", "atypical", "pause")
    scattered = ["Write a poem in which no two words belong together.", "Continue: xq zvv 9 lorem blau "]
    for seed, prompt in itertools.product(range(20), scattered + ACTING_PROMPTS):
        if all(seen[name] for name in names):
            break
        reply = engine.generate(prompt, GenerationConfig(seed=seed, n_predict=150))
        seen.update(type(event).__name__ for event in reply.side_events)
        seen["pause"] += sum(event.origin is Origin.FORCED for event in reply.events)
        seen["atypical"] += sum(
            isinstance(event, RejectedEvent) and event.limit is not None for event in reply.side_events
        )
    assert all(seen[name] for name in names), seen


def test_a_sliding_window_model_rewinds_and_forks_exactly(default_model: Path) -> None:
    """gemma3: most of its layers attend to a window. Same shapes of batches, so the same numbers."""
    path = default_model.parent / "gemma-3-270m-q4_k_m.gguf"
    if not path.exists():
        pytest.skip("gemma3-270m is not here: `entropix-edge pull gemma3-270m` fetches it (253 MB)")
    with Model(path) as model, Context(model, n_ctx=1024, sequences=2, layers=(model.n_layer - 1,)) as context:
        prompt = model.vocabulary.tokenize("The sea is wide and deep. " * 100, add_bos=True)[:600]
        context.decode([Cell(token, i, 0, wanted=False) for i, token in enumerate(prompt[:300])])
        context.decode([Cell(token, 300 + i, 0, wanted=False) for i, token in enumerate(prompt[300:])])
        end = len(prompt)

        def step(token: int, position: int, sequence: int = 0) -> Row:
            rows = context.decode([Cell(token, position, sequence, wanted=True)])
            assert rows is not None
            return Row(rows[0].logits.copy(), rows[0].attention)

        first = [step(token, end + i) for i, token in enumerate((5, 6, 7, 8))]
        assert context.truncate(0, end + 1)
        again = [step(token, end + 1 + i) for i, token in enumerate((6, 7, 8))]
        context.fork(0, 1)
        forked = step(9, end + 4, sequence=1)
        assert context.truncate(1)  # so that the next token takes the same cell
        unforked = step(9, end + 4, sequence=0)
    for before, after in zip(first[1:], again, strict=True):
        np.testing.assert_allclose(after.logits, before.logits, atol=1e-4)
        assert before.attention == after.attention
    np.testing.assert_allclose(forked.logits, unforked.logits, atol=1e-4)


def test_attention_is_near_what_it_is_without_flash_attention(engine: Engine) -> None:
    """Both ways to compute round differently, layer after layer, and the cache is F16."""
    tokens = engine.tokenize_prompt("Why is the sky blue?", system=SYSTEM)
    cells = [Cell(token, i, 0, wanted=i == len(tokens) - 1) for i, token in enumerate(tokens)]
    seen = []
    for flash in ("on", "off"):
        with Context(engine.model, n_ctx=256, layers=(29,), flash_attention=flash) as context:
            rows = context.decode(cells)
            assert rows
            seen.append(rows[0].attention)
    assert seen[0] is not None
    assert seen[1] is not None
    for name in ("entropy", "varentropy", "agreement", "interaction_strength"):
        assert getattr(seen[0], name) == pytest.approx(getattr(seen[1], name), rel=0.05), name


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_each_library_of_llama_cpp_is_loaded_once(compiled: None) -> None:
    program = """
from entropix_edge.llama import devices, read_header
devices()
names = {line.split()[-1] for line in open("/proc/self/maps") if "/lib/lib" in line and "llama_cpp" in line}
stems = sorted(name.rpartition("/")[2].partition(".so")[0] for name in names)
assert "libggml" in stems and len(set(stems)) == len(stems), names
"""
    subprocess.run([sys.executable, "-c", program], check=True)
