"""One conversation at work: a question becomes a reply on the screen, and a turn that is kept."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import TemplateError
from ..sessions import as_messages, as_texts
from ..types import FinishReason, TokenEvent
from .console import console, plain, saying, wants_colour
from .escalation import Second
from .reply_record import reply_record
from .verdict import Verdict
from .waiting import said_to_wait

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from ..config import GenerationConfig, Preset
    from ..engine import Engine, Reply
    from ..engine_config import AttentionChoice, EngineConfig
    from ..sessions import Conversation, PendingTurn, Turn
    from .conversations import Keeper
    from .engine_options import EngineOptions
    from .interrupt import Interrupt
    from .options import CandidateOptions, ModelOptions, SamplingOptions
    from .verdict import VerdictOptions

ALTERNATIVES = 5  # that each event names, for whoever asks why


class Options(NamedTuple):
    """What a conversation goes by; most of it can be changed while it goes on."""

    model: ModelOptions
    engine: EngineOptions
    attention: AttentionChoice
    sampling: SamplingOptions
    candidates: CandidateOptions
    verdict: VerdictOptions
    color: Literal["auto", "always", "never"]
    thoughts: Literal["show", "fold"]
    wordwrap: bool
    stats: bool

    def engine_config(self) -> EngineConfig:
        """How to open the model: with slots for the candidates that are generated first."""
        config = self.engine.config(self.attention)
        voting = self.candidates.voting()
        return dataclasses.replace(config, sequences=voting.first_wave) if voting else config

    def generation_config(self, load: Callable[[str], Preset]) -> GenerationConfig:
        """How to generate, with presets from `load`."""
        return dataclasses.replace(self.sampling.config(load), alternatives=ALTERNATIVES)


class Talk:
    """A conversation with an open engine, whose replies are shown as they come.

    Args:
        engine: with the model.
        options: how to generate and to show.
        interrupt: Ctrl-C, which ends a reply.
        startup_seconds: that opening the model took.

    Attributes:
        conversation: with that engine.
        keeper: keeps each turn.
        stopped: whether Ctrl-C ended the last reply.

    Raises:
        TemplateError: the model was not made for conversations.
    """

    conversation: Conversation
    keeper: Keeper

    def __init__(self, engine: Engine, options: Options, interrupt: Interrupt, *, startup_seconds: float) -> None:
        if engine.prompts.chat_template is None:
            raise TemplateError(
                f"{engine.model.path.name} has no chat template, so it cannot hold a conversation: "
                "take a model that was made for it, or `generate`"
            )
        self.engine = engine
        self.options = options
        self.interrupt = interrupt
        self.stopped = False
        self._startup = startup_seconds

    def begin(self, conversation: Conversation, keeper: Keeper) -> None:
        """Take up a conversation with this engine."""
        self.conversation = conversation
        self.keeper = keeper

    # --- asking ---------------------------------------------------------------------------------------

    def ask(self, question: str) -> Turn | None:
        """Ask, show the reply, and keep the turn; None where nothing was said."""
        return self._play(self.conversation.ask(question, self.config(), **self._voting()))

    def revise(self, question: str) -> Turn | None:
        """The same in place of the last question."""
        return self._play(self.conversation.revise(question, self.config(), **self._voting()))

    def regenerate(self) -> Turn | None:
        """Another reply to the last question: with the next seed, where one was given."""
        config = self.config()
        if config.seed is not None and self.conversation.turns:
            config = dataclasses.replace(config, seed=(self.conversation.turns[-1].seed + 1) % 2**64)
        return self._play(self.conversation.regenerate(config, **self._voting()))

    def go_on_from(self, index: int, tokens: tuple[int, ...]) -> Turn | None:
        """The last reply up to a token, then other ones, and on from there: as many again as a reply may have."""
        config = self.config()
        if config.n_predict > 0:
            config = dataclasses.replace(config, n_predict=config.n_predict + index + len(tokens))
        return self._play(self.conversation.go_on_from(index, tokens, config))

    def measure(self) -> bool:
        """Measure the last reply again, where it was loaded from a file. False where Ctrl-C stopped that."""
        last = self.conversation.turns[-1]
        with saying(lambda: f"Measuring the reply's {len(last.reply_ids)} tokens.", after=1.0):
            measured = self.conversation.measure(self.config(), cancelled=self.interrupt)
        self.stopped = self.interrupt()
        return measured

    def config(self) -> GenerationConfig:
        """How the next reply is generated."""
        return self.options.generation_config(self.engine.preset)

    def _voting(self) -> dict[str, Any]:
        candidates = self.options.candidates
        return {"voting": candidates.voting(), "answer_of": candidates.answer_of}

    # --- showing --------------------------------------------------------------------------------------

    def _play(self, pending: PendingTurn) -> Turn | None:
        """Show a reply as it comes; keep its turn, however it ends."""
        from ..render import TextPrinter
        from ..render.thoughts import Thoughts
        from ..render.wrap import WordWrap

        terminal = sys.stdout.isatty()
        printer = TextPrinter(
            sys.stdout,
            colour=wants_colour(self.options.color),
            terminal=terminal,
            thoughts=Thoughts(begun=self._begins_in_thought(pending)),
            folded=self.options.thoughts == "fold",
            wrap=WordWrap(_columns) if terminal and self.options.wordwrap else None,
        )
        turn, held = None, list[TokenEvent]()
        waits = self.options.verdict.threshold is not None
        try:
            most = self.options.candidates.deliberate
            for event in said_to_wait(pending.everything(), pending.stream, most, whole=waits):
                if isinstance(event, TokenEvent):
                    held.append(event) if waits else printer.write(event)
                if self.interrupt():
                    pending.cancel()
        finally:
            turn = pending.close()
            self.keeper.keep(self.conversation)
            self.stopped = self.interrupt()
        if turn:
            turn, held = self._judged(turn, held)
        for event in held:
            printer.write(event)
        printer.finish()
        if self.options.stats and turn and turn.reply:
            self._print_stats(turn.reply)
        return turn

    def _judged(self, turn: Turn, held: list[TokenEvent]) -> tuple[Turn, list[TokenEvent]]:
        """The turn after the verdict, and what of it is printed now."""
        options = self.options.verdict
        if self.stopped or not turn.reply:
            return turn, held
        verdict = options.of(turn.reply.confidence)
        if said := options.told(verdict, turn.reply):
            console().print(said, markup=False)
        if verdict is not Verdict.DOUBTED:
            return turn, held
        if options.escalate:
            return self._escalated(turn, held)
        console().print(plain(turn.text), style="dim", markup=False)
        return turn, []

    def _escalated(self, turn: Turn, held: list[TokenEvent]) -> tuple[Turn, list[TokenEvent]]:
        """The turn with the second model's answer, as another step; as it is where that has none."""
        options = self.options
        second = Second.of(options.verdict, options.engine, options.generation_config, offline=options.model.offline)
        earlier = as_messages(self.conversation.turns[:-1])
        answer = second.ask(self.conversation.system, [*earlier, {"role": "user", "content": turn.question}])
        if answer is None:
            return turn, held
        other = dataclasses.replace(as_texts([turn])[0], text=answer, finish_reason=FinishReason.STOP)
        self.conversation.set_turns([*self.conversation.turns[:-1], other])
        self.keeper.keep(self.conversation)
        return other, [TokenEvent(0, None, answer)]

    def _print_stats(self, reply: Reply) -> None:
        from ..render import Stats

        facts = {"finish": reply.finish_reason, "seed": reply.seed}
        console().print(Stats(reply, startup_seconds=self._startup).table(**facts))

    def _begins_in_thought(self, pending: PendingTurn) -> bool:
        """Whether the chat template begins the model's thoughts for it."""
        from ..render.thoughts import ends_in_thought

        vocabulary = self.engine.model.vocabulary
        return ends_in_thought("".join(map(vocabulary.label, pending.prompt_ids[-_TAG_TOKENS:])))

    def record(self) -> dict[str, Any] | None:
        """The last reply as `generate --json` prints one; None where there is none, or it was loaded from a file."""
        turns = self.conversation.turns
        if not turns or turns[-1].reply is None:
            return None
        return reply_record(self.engine, turns[-1].reply, startup_seconds=self._startup, alternatives=ALTERNATIVES)


def _columns() -> int:
    """How wide the terminal is; without end where it does not say."""
    return shutil.get_terminal_size((_UNKNOWN, 0)).columns


_UNKNOWN = 2**20
_TAG_TOKENS = 8  # at most, with what may stand after it
