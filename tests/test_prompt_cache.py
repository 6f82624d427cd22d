"""What one prompt leaves in the cache, and the file that keeps it for another process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entropix_edge import Engine, EngineConfig, GenerationConfig
from entropix_edge.cli import run
from entropix_edge.errors import ContextError

LONG = "a long prompt, of which much is in common with the next one. "
CONFIG = GenerationConfig(seed=3, n_predict=12)


def opened(model: Path, **changes: Any) -> Engine:
    return Engine.open(model, EngineConfig(**{"ctx_size": 512, "threads": 1, "exact": True} | changes))


def ids(engine: Engine, prompt: str) -> tuple[int | None, ...]:
    return tuple(event.token_id for event in engine.generate(prompt, CONFIG, raw=True).events)


def test_a_prompt_that_begins_alike_goes_on_from_the_cache(tiny_model: Path) -> None:
    with opened(tiny_model) as engine:
        first = engine.generate(LONG, CONFIG, raw=True)
        again = engine.generate(LONG, CONFIG, raw=True)
        longer = engine.generate(LONG + first.text + " More.", CONFIG, raw=True)
    assert first.cached_tokens == 0
    assert again.cached_tokens == again.prompt_tokens
    assert again.text == first.text
    assert longer.cached_tokens >= first.prompt_tokens
    with opened(tiny_model) as engine:
        assert engine.generate(LONG + first.text + " More.", CONFIG, raw=True).text == longer.text


@pytest.mark.model
def test_the_same_prompt_again_has_the_same_numbers_to_the_last_digit(default_model: Path) -> None:
    """In quantised arithmetic, where the last token of a prompt decoded alone would have others."""
    with Engine.open(default_model, EngineConfig(ctx_size=512, threads=1)) as engine:
        first = engine.generate("Why is the sky blue?", CONFIG)
        again = engine.generate("Why is the sky blue?", CONFIG)
        together = [engine.stream("Why is the sky blue?", CONFIG) for _ in range(2)]
        starts = [next(stream) for stream in together]
    assert again.cached_tokens == again.prompt_tokens
    assert again.events == first.events
    assert starts == [first.events[0]] * 2


def test_a_file_carries_the_cells_to_another_process(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "cache"
    with opened(tiny_model) as engine:
        assert engine.save_prompt_cache(file) == 0
        assert not file.exists()
        wanted = ids(engine, LONG)
        held = engine.save_prompt_cache(file)
    with opened(tiny_model) as engine:
        assert engine.load_prompt_cache(file) == held
        reply = engine.generate(LONG, CONFIG, raw=True)
    assert reply.cached_tokens == reply.prompt_tokens - 1 < held
    assert tuple(event.token_id for event in reply.events) == wanted
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["cache"]


def test_a_file_of_another_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    other = tiny_gguf.write_llama(tmp_path / "other.gguf", tiny_gguf.Shape(n_layer=1))
    with opened(tiny_model) as engine:
        ids(engine, LONG)
        engine.save_prompt_cache(tmp_path / "cache")
    with opened(other) as engine, pytest.raises(ContextError, match=r"cache is of another model .* a file of its own"):
        engine.load_prompt_cache(tmp_path / "cache")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exact": False}, "does not fit: open the model with"),
        ({"ctx_size": 32}, r"holds \d+ tokens and the context 32: raise ctx_size"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with opened(tiny_model) as engine:
        ids(engine, LONG)
        engine.save_prompt_cache(tmp_path / "cache")
    with opened(tiny_model, **changes) as engine:
        before = engine.free
        with pytest.raises(ContextError, match=message):
            engine.load_prompt_cache(tmp_path / "cache")
        assert engine.free == before
        assert ids(engine, "and on it goes")


@pytest.fixture(scope="module")
def kept(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("kept") / "cache"
    with opened(tiny_model) as engine:
        ids(engine, LONG)
        engine.save_prompt_cache(file)
    return file.read_bytes()


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Any:
    with opened(tiny_model) as engine:
        yield engine


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_refused(engine: Engine, kept: bytes, tmp_path: Path, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(kept) - 1))
    if data.draw(st.booleans()):
        damaged = kept[: max(place, 1)]
    else:
        damaged = kept[:place] + bytes([kept[place] ^ (1 << data.draw(st.integers(0, 7)))]) + kept[place + 1 :]
    file = tmp_path / "cache"
    file.write_bytes(damaged)
    with pytest.raises(ContextError, match=r"cache"):
        engine.load_prompt_cache(file)


def test_an_empty_file_is_a_cache_not_begun(tiny_model: Path, tmp_path: Path) -> None:
    """As `mktemp` makes one."""
    file = tmp_path / "cache"
    file.touch(0o600)
    options = ["-m", str(tiny_model), "-c", "256", "-t", "1", "-s", "1", "-n", "8"]
    assert run(["generate", *options, "hello you", "--prompt-cache", str(file)]) == 0
    assert file.stat().st_size
    assert file.stat().st_mode & 0o777 == 0o600
    with opened(tiny_model) as engine:
        file.write_bytes(b"")
        assert engine.load_prompt_cache(file) == 0
        file.write_bytes(b"notes")
        with pytest.raises(ContextError, match="is not a prompt cache: give one that was saved, an empty file"):
            engine.load_prompt_cache(file)


def test_the_command_keeps_and_takes_up(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cache"
    arguments = ["generate", "-m", str(tiny_model), "-c", "256", "-t", "1", "-s", "1", "-n", "8", "--json", "hello you"]
    said = []
    for _ in range(2):
        assert run([*arguments, "--prompt-cache", str(file)]) == 0
        said.append(capsys.readouterr().out)
    assert '"cached_tokens": 0' in said[0]
    assert '"cached_tokens": 0' not in said[1]
    before = file.read_bytes()
    file.write_bytes(before[:-1])
    assert run([*arguments, "--prompt-cache", str(file)]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.strip() == f"Error: the prompt cache {file} is damaged (its checksum differs): remove the file"
    assert file.read_bytes() == before[:-1]
    assert run([*arguments, "--prompt-cache", str(tmp_path / "none" / "cache")]) == 2


def test_a_cache_is_not_written_over_something_else(tiny_model: Path, tmp_path: Path) -> None:
    with opened(tiny_model) as engine:
        ids(engine, LONG)
        for name, held in (("model.gguf", tiny_model.read_bytes()), ("notes.txt", b"mine\n"), ("line", b"{}")):
            file = tmp_path / name
            file.write_bytes(held)
            with pytest.raises(ContextError, match="is not a prompt cache"):
                engine.save_prompt_cache(file)
            assert file.read_bytes() == held
        file = tmp_path / "empty"
        file.touch()
        assert engine.save_prompt_cache(file) == engine.save_prompt_cache(file) > 0
