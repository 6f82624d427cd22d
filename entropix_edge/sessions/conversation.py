"""A conversation: its turns, their exact token ids, and the way back from each step.

A turn decodes only what is new: what was said before keeps its tokens as far as the chat template renders it as it
was, and the KV cache still holds them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from ..config import GenerationConfig
from ..errors import ContextError, PromptError
from ..storage import fingerprint, write_whole
from ..types import FinishReason, TokenEvent
from .candidates import Deliberation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ..engine import Engine, Reply, ReplyStream
    from ..text import Message
    from ..types import Event
    from .candidates import VotingConfig

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
        reply: the whole reply, with its events; None for a turn that was loaded from a file.
    """

    question: str
    text: str
    prompt_ids: tuple[int, ...]
    reply_ids: tuple[int, ...]
    seed: int
    finish_reason: FinishReason | None
    reply: Reply | None = None


class Conversation:
    """Turns of one conversation with one engine.

    Every step (a question, another reply, a turn dropped) makes new turns out of the old ones; `undo` goes back.

    Args:
        engine: stays open as long as something is asked.
        system: a system message.
        chat_template_kwargs: variables for the chat template, as `enable_thinking`.

    Attributes:
        turns: what was said, the oldest first.
    """

    def __init__(
        self, engine: Engine, *, system: str | None = None, chat_template_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self.system = system
        self.chat_template_kwargs = dict(chat_template_kwargs or {})
        self.turns: tuple[Turn, ...] = ()
        self._engine = engine
        self._before: list[tuple[Turn, ...]] = []

    @property
    def messages(self) -> list[Message]:
        """What was said, as messages; the system message is not among them."""
        return _messages(self.turns)

    # --- asking -------------------------------------------------------------------------------------

    def ask(
        self,
        question: str,
        config: GenerationConfig | None = None,
        *,
        voting: VotingConfig | None = None,
        answer_of: Callable[[str], str | None] | None = None,
    ) -> PendingTurn:
        """Ask something; the turn is kept when the pending turn is closed.

        Args:
            question: what the user says.
            config: how to generate.
            voting: generate several candidates and keep the best.
            answer_of: the answer by which a candidate votes: see `Deliberation`.

        Raises:
            PromptError: the question is empty, or the conversation no longer fits the context; it is as it was.
            TemplateError: the chat template fails.
        """
        return self._begin(self.turns, question, config or GenerationConfig(), (), voting, answer_of)

    def regenerate(
        self,
        config: GenerationConfig | None = None,
        *,
        voting: VotingConfig | None = None,
        answer_of: Callable[[str], str | None] | None = None,
    ) -> PendingTurn:
        """Ask the last question again; arguments and errors as for `ask`."""
        last = self._last()
        return self._begin(self.turns[:-1], last.question, config or GenerationConfig(), (), voting, answer_of)

    def go_on_from(self, index: int, tokens: Sequence[int], config: GenerationConfig | None = None) -> PendingTurn:
        """Answer the last question with the first tokens of its reply, then other ones, and go on from there.

        Args:
            index: how many of the reply's tokens are kept.
            tokens: what follows them: an alternative, or a branch.
            config: how to generate the rest.

        Raises:
            PromptError: the index is outside the reply, or a token outside the vocabulary.
        """
        last = self._last()
        if not 0 <= index <= len(last.reply_ids):
            raise PromptError(f"token {index} is not in the reply: it must be from 0 to {len(last.reply_ids)}")
        begin = (*last.reply_ids[:index], *tokens)
        return self._begin(self.turns[:-1], last.question, config or GenerationConfig(), begin, None, None)

    def _begin(
        self,
        turns: tuple[Turn, ...],
        question: str,
        config: GenerationConfig,
        begin: tuple[int, ...],
        voting: VotingConfig | None,
        answer_of: Callable[[str], str | None] | None,
    ) -> PendingTurn:
        if not question.strip():
            raise PromptError("the question is empty: give the text to answer")
        prompt = self._engine.prompts.tokenize(
            [*_messages(turns), {"role": "user", "content": question}],
            system=self.system,
            chat_template_kwargs=self.chat_template_kwargs,
            earlier=(*turns[-1].prompt_ids, *turns[-1].reply_ids) if turns else (),
            parse_special=config.parse_special,
        )
        stream: ReplyStream | Deliberation
        if voting is None:
            stream = self._engine.stream_tokens(prompt, config, begin_tokens=begin)
        else:
            stream = Deliberation(self._engine, prompt, config, voting, answer_of)
        return PendingTurn(self, turns, question, prompt, stream, begin)

    # --- going back -----------------------------------------------------------------------------------

    def undo(self) -> bool:
        """Go back to before the last step. False where there was none."""
        if not self._before:
            return False
        self.turns = self._before.pop()
        return True

    def set_turns(self, turns: Sequence[Turn]) -> None:
        """Go on with other turns, as one step: some dropped, or one changed."""
        self._before.append(self.turns)
        self.turns = tuple(turns)

    def _last(self) -> Turn:
        if not self.turns:
            raise PromptError("nothing was said yet: ask something first")
        return self.turns[-1]

    # --- files ----------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the conversation to a file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        turns = [asdict(replace(turn, reply=None)) for turn in self.turns]
        for turn in turns:
            del turn["reply"]
        for turn in turns[:-1]:
            turn["prompt_ids"] = ()  # they begin the last turn's
        record = {
            "format": _FORMAT,
            "model": self._engine.model.path.name,
            "fingerprint": fingerprint(self._engine.model.path),
            "system": self.system,
            "chat_template_kwargs": self.chat_template_kwargs,
            "turns": turns,
        }
        write_whole(path, [json.dumps(record, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")])

    @classmethod
    def load(cls, path: Path, engine: Engine) -> Conversation:
        """The conversation in a file that `save` wrote.

        Raises:
            OSError: it cannot be read.
            ContextError: it is not a conversation, or one with another model.
        """
        try:
            record = json.loads(path.read_bytes())
            assert record["format"] == _FORMAT
            turns = tuple(_turn(turn) for turn in record["turns"])
            loaded = cls(engine, system=record["system"], chat_template_kwargs=record["chat_template_kwargs"])
            model, mark = str(record["model"]), record["fingerprint"]
        except (ValueError, KeyError, TypeError, AssertionError, RecursionError) as error:
            raise ContextError(f"{path} is not a conversation: give a file that was saved by this program") from error
        if mark != fingerprint(engine.model.path):
            raise ContextError(
                f"{path} is a conversation with {model}, and this model is {engine.model.path.name}: open that model"
            )
        loaded.turns = turns
        return loaded


class PendingTurn:
    """A turn under way: a context manager, read like a `ReplyStream`. Closing it keeps the turn.

    A reply that is closed early is cancelled, and what it said until then is kept. One that said nothing leaves the
    conversation as it was.
    """

    def __init__(
        self,
        conversation: Conversation,
        turns: tuple[Turn, ...],
        question: str,
        prompt: Sequence[int],
        stream: ReplyStream | Deliberation,
        begin: tuple[int, ...],
    ) -> None:
        self.stream = stream
        self._conversation = conversation
        self._turns = turns
        self._question = question
        self._prompt = tuple(prompt)
        self._begin = begin
        self._closed = False

    def __iter__(self) -> Iterator[TokenEvent]:
        return (event for event in self.stream.everything() if isinstance(event, TokenEvent))

    def everything(self) -> Iterator[Event]:
        """All events, in the order things happened."""
        return self.stream.everything()

    def cancel(self) -> None:
        """End the reply before the next decode."""
        self.stream.cancel()

    def close(self) -> Turn | None:
        """End the reply and keep the turn, which comes back; None where nothing was said.

        Raises:
            EntropixError: the generation failed.
        """
        if self._closed:
            return None
        self._closed = True
        try:
            self.stream.cancel()
            reply = self.stream.reply()
        finally:
            self.stream.close()
        ids = tuple(event.token_id for event in reply.events if event.token_id is not None)
        if not ids:
            return None
        turn = Turn(
            question=self._question,
            text=reply.text,
            prompt_ids=self._prompt,
            reply_ids=(*self._begin, *ids),
            seed=reply.seed,
            finish_reason=reply.finish_reason,
            reply=reply,
        )
        self._conversation.set_turns([*self._turns, turn])
        return turn

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _messages(turns: Sequence[Turn]) -> list[Message]:
    messages: list[Message] = []
    for turn in turns:
        messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.text}]
    return messages


def _turn(record: Any) -> Turn:
    """A turn from a saved file; raises where it is none."""
    finish = record["finish_reason"]
    turn = Turn(
        question=record["question"],
        text=record["text"],
        prompt_ids=tuple(map(int, record["prompt_ids"])),
        reply_ids=tuple(map(int, record["reply_ids"])),
        seed=int(record["seed"]),
        finish_reason=FinishReason(finish) if finish is not None else None,
    )
    if not isinstance(turn.question, str) or not isinstance(turn.text, str):
        raise TypeError(turn)
    return turn
