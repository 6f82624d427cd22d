"""The turns of a conversation, and the file that keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..errors import ContextError
from ..storage import write_whole
from ..types import FinishReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..engine import Reply
    from ..text import Message
    from ..types import Event

_FORMAT = "entropix-edge conversation 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A question and its reply.

    Attributes:
        question: what the user said.
        text: what the model said.
        prompt_ids: the tokens of the whole prompt that the question ended; empty where a saved file left them out.
        reply_ids: the tokens of the reply, the one that ended it included.
        seed: that repeats it.
        finish_reason: why the reply ended.
        events: what happened, in order, from the first token on, also where the reply goes on from an earlier one's
            tokens; empty for a turn that was loaded from a file and not measured again.
        reply: what was generated; None for a turn that was loaded from a file.
    """

    question: str
    text: str
    prompt_ids: tuple[int, ...]
    reply_ids: tuple[int, ...]
    seed: int
    finish_reason: FinishReason | None
    events: tuple[Event, ...] = ()
    reply: Reply | None = None


def as_messages(turns: Sequence[Turn]) -> list[Message]:
    """What was said, as messages."""
    messages: list[Message] = []
    for turn in turns:
        messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.text}]
    return messages


def as_texts(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns as text alone."""
    return tuple(replace(turn, prompt_ids=(), reply_ids=(), events=(), reply=None) for turn in turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedConversation:
    """What a file keeps of a conversation.

    Attributes:
        model: the file of the model; it may be gone by now.
        fingerprint: of that file.
        system: the system message.
        chat_template_kwargs: variables for the chat template.
        turns: without their events.
    """

    model: Path
    fingerprint: str
    system: str | None
    chat_template_kwargs: Mapping[str, Any]
    turns: tuple[Turn, ...]

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        last = self.turns[-1].prompt_ids if self.turns else ()
        record = {
            "format": _FORMAT,
            "model": str(self.model),
            "fingerprint": self.fingerprint,
            "system": self.system,
            "chat_template_kwargs": dict(self.chat_template_kwargs),
            "turns": [_record(turn, () if turn is self.turns[-1] else last) for turn in self.turns],
        }
        write_whole(path, [json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace")])

    @classmethod
    def read(cls, path: Path) -> Self:
        """What is in a file.

        Raises:
            OSError: it cannot be read.
            ContextError: it is not a conversation.
        """
        try:
            record = json.loads(path.read_bytes())
            if record["format"] != _FORMAT:
                raise ValueError(record["format"])
            last = record["turns"][-1]["prompt_ids"] if record["turns"] else ()
            return cls(
                model=Path(record["model"]),
                fingerprint=str(record["fingerprint"]),
                system=None if record["system"] is None else str(record["system"]),
                chat_template_kwargs=dict(record["chat_template_kwargs"]),
                turns=tuple(_turn(turn, last) for turn in record["turns"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ContextError(f"{path} is not a conversation: give a file that was saved by this program") from error


def _record(turn: Turn, last: Sequence[int]) -> dict[str, Any]:
    """A turn for the file.

    Args:
        turn: any.
        last: the tokens of the last turn's prompt: those that begin it are not repeated.
    """
    record = asdict(replace(turn, reply=None, events=()))
    del record["reply"], record["events"]
    count = len(turn.prompt_ids)
    if count > 0 and turn.prompt_ids == last[:count]:
        record["prompt_ids"] = count
    return record


def _turn(record: Any, last: Sequence[int]) -> Turn:
    """A turn from a saved file; raises where it is none.

    Args:
        record: its fields.
        last: the ids of the last turn's prompt.
    """
    finish, ids = record["finish_reason"], record["prompt_ids"]
    turn = Turn(
        question=record["question"],
        text=record["text"],
        prompt_ids=tuple(map(int, last[:ids] if isinstance(ids, int) else ids)),
        reply_ids=tuple(map(int, record["reply_ids"])),
        seed=int(record["seed"]),
        finish_reason=FinishReason(finish) if finish is not None else None,
    )
    if not isinstance(turn.question, str) or not isinstance(turn.text, str):
        raise TypeError(turn)
    return turn
