"""The second model, which is asked where the first one's answer is doubted."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from ..errors import EntropixError
from ..types import FinishReason
from .console import console
from .session import Session, fetch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..config import EngineConfig
    from ..text import Message
    from .engine_options import EngineOptions
    from .verdict import Generate, VerdictOptions


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

    @classmethod
    def of(cls, verdict: VerdictOptions, engine: EngineOptions, generate: Generate, *, offline: bool) -> Second:
        """The model that the options of a command name."""
        return cls(str(verdict.escalate), verdict.server is not None, offline, engine.config("off"), generate)

    def ask(self, system: str | None, messages: Sequence[Message], *, raw: str | None = None) -> str | None:
        """Its answer; None where it fails, or Ctrl-C ends it, which is said.

        Args:
            system: a system message.
            messages: the conversation.
            raw: a text to go on from instead, without a chat template.
        """
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages]
        try:
            with console().status(f"Asking {self.name}"):
                return self._from_server(messages) if self.is_server else self._from_model(messages, raw)
        except (EntropixError, OSError) as error:
            console().print(f"{self.name} gave no answer: {error}. The first reply stands.", markup=False)
        except KeyboardInterrupt:
            console().print("Stopped. The first reply stands.")
        return None

    def _from_server(self, messages: Sequence[Message]) -> str:
        from ..strategy import load_preset
        from . import remote

        most = self.generate(load_preset).n_predict
        return remote.complete(self.name, messages, max_tokens=most if most > 0 else None)

    def _from_model(self, messages: Sequence[Message], raw: str | None) -> str:
        config = dataclasses.replace(self.engine, sequences=1, attention="off")
        with Session() as session:
            path = fetch(self.name, offline=self.offline)
            with session.engine(path, config) as engine:
                prompt: Any = messages if raw is None else raw
                reply = engine.generate(prompt, self.generate(engine.preset), raw=raw is not None)
        if reply.finish_reason is FinishReason.CANCELLED:
            raise KeyboardInterrupt
        return reply.text
