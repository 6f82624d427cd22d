"""The second model, which is asked where the first one's answer is doubted."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, NamedTuple

from ..errors import EntropixError
from ..types import FinishReason
from .console import console
from .session import Session, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..config import EngineConfig, GenerationConfig, Preset
    from ..text import Message

    Generate = Callable[[Callable[[str], Preset]], GenerationConfig]


class Answer(NamedTuple):
    """What the second model said, and what it took.

    Attributes:
        text: the whole of it.
        seconds: until it was there.
        tokens: of it; None where only a server knows.
    """

    text: str
    seconds: float
    tokens: int | None


class Second(NamedTuple):
    """A model to ask.

    Attributes:
        name: of a model on this machine, or the URL of a server.
        is_server: which of the two.
        offline: whether the network is forbidden.
        engine: how a model on this machine is opened.
        generate: how it generates, with presets from its argument.
    """

    name: str
    is_server: bool
    offline: bool
    engine: EngineConfig
    generate: Generate

    def ask(self, messages: Sequence[Message], *, raw: str | None = None) -> Answer | None:
        """Its answer; None where it fails, or Ctrl-C ends it, which is said.

        Args:
            messages: the conversation, the system message included.
            raw: a text to go on from instead, without a chat template.
        """
        start = time.perf_counter()
        try:
            with console().status(f"Asking {self.name}"):
                text, tokens = self._from_server(messages) if self.is_server else self._from_model(messages, raw)
            return Answer(text, time.perf_counter() - start, tokens)
        except (EntropixError, OSError) as error:
            console().print(f"{self.name} gave no answer: {error}. The first reply stands.", markup=False)
        except KeyboardInterrupt:
            console().print("Stopped. The first reply stands.")
        return None

    def _from_server(self, messages: Sequence[Message]) -> tuple[str, None]:
        from ..strategy import load_preset
        from . import remote

        most = self.generate(load_preset).n_predict
        return remote.complete(self.name, messages, max_tokens=most if most > 0 else None), None

    def _from_model(self, messages: Sequence[Message], raw: str | None) -> tuple[str, int]:
        config = dataclasses.replace(self.engine, sequences=1, attention="off")
        with Session() as session:
            path = fetch(self.name, offline=self.offline)
            with session.engine(path, config) as engine:
                prompt: Any = messages if raw is None else raw
                reply = engine.generate(prompt, self.generate(engine.preset), raw=raw is not None)
        if reply.finish_reason is FinishReason.CANCELLED:
            raise KeyboardInterrupt
        return reply.text, len(reply.events)
