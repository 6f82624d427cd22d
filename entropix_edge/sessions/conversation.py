"""A conversation: its turns, their exact token ids, and the way back from each step.

A turn decodes only what is new: what was said before keeps its tokens as far as the chat template renders it as it
was, and the KV cache still holds them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from ..config import GenerationConfig
from ..errors import ContextError, PromptError
from ..storage import fingerprint
from ..types import TokenEvent
from .beginning import Beginning, beginning
from .candidates import Deliberation
from .turns import SavedConversation, Turn, as_messages, as_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ..engine import Engine, ReplyStream
    from ..text import Message
    from ..types import Event
    from .candidates import VotingConfig


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
        return as_messages(self.turns)

    @property
    def tokens(self) -> int:
        """How many tokens of the context the conversation takes up so far."""
        return len(self.turns[-1].prompt_ids) + len(self.turns[-1].reply_ids) if self.turns else 0

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
        return self._begin(self.turns, question, config or GenerationConfig(), None, voting, answer_of)

    def regenerate(
        self,
        config: GenerationConfig | None = None,
        *,
        voting: VotingConfig | None = None,
        answer_of: Callable[[str], str | None] | None = None,
    ) -> PendingTurn:
        """Ask the last question again; arguments and errors as for `ask`."""
        return self.revise(self._last().question, config, voting=voting, answer_of=answer_of)

    def revise(
        self,
        question: str,
        config: GenerationConfig | None = None,
        *,
        voting: VotingConfig | None = None,
        answer_of: Callable[[str], str | None] | None = None,
    ) -> PendingTurn:
        """Ask something else in place of the last question; arguments and errors as for `ask`."""
        self._last()
        return self._begin(self.turns[:-1], question, config or GenerationConfig(), None, voting, answer_of)

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
        config = config or GenerationConfig()
        begin = beginning(last.reply_ids, last.events, index, tokens, self._engine.model.vocabulary, config.stop)
        return self._begin(self.turns[:-1], last.question, config, begin, None, None)

    def _begin(
        self,
        turns: tuple[Turn, ...],
        question: str,
        config: GenerationConfig,
        begin: Beginning | None,
        voting: VotingConfig | None,
        answer_of: Callable[[str], str | None] | None,
    ) -> PendingTurn:
        if not question.strip():
            raise PromptError("the question is empty: give the text to answer")
        prompt = self._engine.prompts.tokenize(
            [*as_messages(turns), {"role": "user", "content": question}],
            system=self.system,
            chat_template_kwargs=self.chat_template_kwargs,
            earlier=(*turns[-1].prompt_ids, *turns[-1].reply_ids) if turns else (),
            parse_special=config.parse_special,
        )
        stream: ReplyStream | Deliberation
        if voting is None:
            stream = self._engine.stream_tokens(prompt, config, begin_tokens=begin.tokens if begin else ())
        else:
            stream = Deliberation(self._engine, prompt, config, voting, answer_of)
        return PendingTurn(self, turns, question, prompt, stream, begin)

    def measure(self, config: GenerationConfig | None = None, *, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Measure the last reply again, where a file kept its tokens alone; its turn has events then.

        Its tokens are decoded one by one, as when they were generated. What else was done then (branches, rejected
        draws) stays unknown.

        Args:
            config: whose preset names the strategies, and how many alternatives are kept.
            cancelled: asked before each token; True stops it.

        Returns:
            Whether the events are there.

        Raises:
            PromptError: nothing was said yet, it is another model's reply, or it does not fit the context.
        """
        last = self._last()
        if last.events:
            return True
        if not last.prompt_ids or not last.reply_ids:
            raise PromptError("the last reply is another model's, so this one cannot measure it: ask for another reply")
        config = replace(config or GenerationConfig(), sampler="greedy", stop=())
        events: list[Event] = []
        with self._engine.stream_tokens(last.prompt_ids, config, given_tokens=last.reply_ids) as stream:
            while not cancelled():
                event = next(stream, None)
                if event is None:
                    self.turns = (*self.turns[:-1], replace(last, events=tuple(events)))
                    return True
                events.append(event)
        return False

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

    def drop_oldest(self, count: int = 1) -> None:
        """Leave out the oldest turns, as one step.

        Raises:
            PromptError: there are not so many.
        """
        if not 1 <= count <= len(self.turns):
            raise PromptError(f"{count} turns cannot be dropped: it must be from 1 to {len(self.turns)}")
        self.set_turns(self.turns[count:])

    def move_to(self, engine: Engine) -> None:
        """Go on with another engine. What another model said is kept as text alone, without its tokens and events."""
        if fingerprint(engine.model.path) != fingerprint(self._engine.model.path):
            self.turns = as_texts(self.turns)
            self._before = [as_texts(turns) for turns in self._before]
        self._engine = engine

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
        saved = SavedConversation(
            model=self._engine.model.path.absolute(),
            fingerprint=fingerprint(self._engine.model.path),
            system=self.system,
            chat_template_kwargs=self.chat_template_kwargs,
            turns=self.turns,
        )
        saved.write(path)

    @classmethod
    def load(cls, path: Path, engine: Engine) -> Conversation:
        """The conversation in a file that `save` wrote.

        Raises:
            OSError: it cannot be read.
            ContextError: it is not a conversation, or one with another model.
        """
        saved = SavedConversation.read(path)
        if saved.fingerprint != fingerprint(engine.model.path):
            raise ContextError(
                f"{path} is a conversation with {saved.model.name}, and this model is {engine.model.path.name}: "
                "open that model"
            )
        loaded = cls(engine, system=saved.system, chat_template_kwargs=saved.chat_template_kwargs)
        loaded.turns = saved.turns
        return loaded


class PendingTurn:
    """A turn under way: a context manager, read like a `ReplyStream`. Closing it keeps the turn.

    A reply that is closed early is cancelled, and what it said until then is kept. One that said nothing leaves the
    conversation as it was.

    Attributes:
        stream: what is being generated.
        prompt_ids: the tokens of the whole prompt.
    """

    def __init__(
        self,
        conversation: Conversation,
        turns: tuple[Turn, ...],
        question: str,
        prompt: Sequence[int],
        stream: ReplyStream | Deliberation,
        begin: Beginning | None,
    ) -> None:
        self.stream = stream
        self._conversation = conversation
        self._turns = turns
        self._question = question
        self.prompt_ids = tuple(prompt)
        self._begin = begin
        self._seen: list[Event] = []
        self._events = self._joined()
        self._closed = False

    def __iter__(self) -> Iterator[TokenEvent]:
        return (event for event in self.everything() if isinstance(event, TokenEvent))

    def everything(self) -> Iterator[Event]:
        """All events, in the order things happened, from the reply's first token on; called again, the rest."""
        return self._events

    def _joined(self) -> Iterator[Event]:
        """The events of what the reply begins with, then those of the stream."""
        begun = 0
        if self._begin:
            begun = len(self._begin.text)
            for known in self._begin.events:
                self._seen.append(known)
                yield known
        for event in self.stream.everything():
            if begun and isinstance(event, TokenEvent):  # its text begins with what was said already
                event, begun = event._replace(text=event.text[begun:]), 0
            self._seen.append(event)
            yield event

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
            for _event in self._events:
                pass
            reply = self.stream.reply()
        finally:
            self.stream.close()
        ids = tuple(event.token_id for event in reply.events if event.token_id is not None)
        if not ids:
            return None
        turn = Turn(
            question=self._question,
            text=reply.text,
            prompt_ids=self.prompt_ids,
            reply_ids=(*(self._begin.tokens if self._begin else ()), *ids),
            seed=reply.seed,
            finish_reason=reply.finish_reason,
            events=tuple(self._seen),
            reply=reply,
        )
        self._conversation.set_turns([*self._turns, turn])
        return turn

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
