"""Fixtures that many tests share. Nothing here touches the user's own folders."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tiny_gguf
from browsers import WIDE, Opened, chromium, forget, visited
from hypothesis import settings

from entropix_edge.config import EngineConfig
from entropix_edge.engine import prepare

if TYPE_CHECKING:
    from serving import Served

os.environ.setdefault("GGML_NO_BACKTRACE", "1")
settings.register_profile("patient", deadline=None)  # how long an example takes says nothing on a busy machine
settings.load_profile("patient")

CHECKOUT = Path(__file__).parents[1]
DEFAULT_MODEL_FILE = CHECKOUT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to a job in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else no process of the suite could be interrupted


@pytest.fixture(scope="session")
def tiny_shape() -> tiny_gguf.Shape:
    return tiny_gguf.Shape()


@pytest.fixture(scope="session")
def tiny_weights(tiny_shape: tiny_gguf.Shape) -> tiny_gguf.Weights:
    return tiny_gguf.random_weights(tiny_shape)


@pytest.fixture(scope="session")
def tiny_model(
    tmp_path_factory: pytest.TempPathFactory, tiny_shape: tiny_gguf.Shape, tiny_weights: tiny_gguf.Weights
) -> Path:
    return tiny_gguf.write_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf", tiny_shape, tiny_weights)


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The real model. `scripts/test` fetches it; its tests fail, rather than pass unseen, without it."""
    assert DEFAULT_MODEL_FILE.exists(), "the default model is missing: run scripts/test, or `entropix-edge pull`"
    return DEFAULT_MODEL_FILE


@pytest.fixture(scope="session")
def compiled() -> None:
    """The kernels are there, so that no command says that it compiles them."""
    prepare(EngineConfig())


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Undo what a command set up for its own standard error."""
    logger = logging.getLogger("entropix_edge")
    handlers, propagate, level = list(logger.handlers), logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests out of the user's data folder and away from the network."""
    monkeypatch.setenv("ENTROPIX_EDGE_HOME", str(tmp_path / "home"))
    for name in os.environ:
        if name.startswith(("ENTROPIX_EDGE_MODEL", "LLAMA_ARG_", "LLAMA_API_KEY")):
            monkeypatch.delenv(name)


# --- a browser, and the page of the server that a module's `served` is ----------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def tab(browser: Any) -> Iterator[Any]:
    """One tab for a module's tests: see `forget`."""
    profile = browser.new_context(viewport=WIDE)
    yield profile.new_page()
    profile.close()


@pytest.fixture
def page(tab: Any, served: Served) -> Iterator[Opened]:
    with visited(tab, f"{served.url}/") as found:
        try:
            yield found
        finally:
            forget(tab, served.url)
