"""`entropix-edge chat`: a conversation."""

import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import click

from ..encoding import decode_text
from ..engine_config import AttentionChoice
from ..errors import EntropixError, ModelNotFoundError
from ..strategy import load_preset
from ..types import FinishReason
from . import EXIT_INTERRUPTED
from .conversations import Keeper, newest
from .engine_options import EngineOptions
from .options import (
    CandidateOptions,
    ModelOptions,
    SamplingOptions,
    attention_option,
    color_option,
    is_given,
    system_option,
    takes,
    template_option,
    verbose_option,
)
from .profiles import profile_option
from .repl import Conversing, print_error
from .session import Session, fetch
from .shell import Reopen, say
from .talk import Options, Talk
from .verdict import VerdictOptions

if TYPE_CHECKING:
    from ..engine import Engine
    from ..sessions import Conversation

# annotations are not deferred here: the options in them would be compiled anew at each start

logger = logging.getLogger("entropix_edge")

_WIDE = (b"\xff\xfe", b"\xfe\xff")  # how UTF-16 and UTF-32 begin


class ChatOptions(NamedTuple):
    """What is said before the conversation, and what is kept of it."""

    system: Annotated[str | None, system_option]
    chat_template_kwargs: Annotated[dict[str, Any], template_option]
    resume: Annotated[
        bool, click.option("--continue", "resume", is_flag=True, help="Go on with the last conversation.")
    ]
    no_save: Annotated[
        bool, click.option("--no-save", is_flag=True, help="Keep neither the conversation nor what was typed.")
    ]
    wordwrap: Annotated[
        bool,
        click.option(
            "--wordwrap/--nowordwrap",
            help="Break a reply's lines between words in a terminal, which then copies these line breaks too.",
        ),
    ]
    color: Annotated[Literal["auto", "always", "never"], color_option]
    stats: Annotated[bool, click.option("--stats", is_flag=True, help="Print statistics after each reply.")]


@click.command("chat")
@click.argument("name", metavar="[MODEL]", required=False)
@takes(model=ModelOptions, engine=EngineOptions)
@attention_option("last", "last")
@profile_option
@takes(sampling=SamplingOptions, candidates=CandidateOptions, verdict=VerdictOptions, chat=ChatOptions)
@verbose_option
def command(
    name: str | None,
    model: ModelOptions,
    engine: EngineOptions,
    attention: AttentionChoice,
    sampling: SamplingOptions,
    candidates: CandidateOptions,
    verdict: VerdictOptions,
    chat: ChatOptions,
) -> int:
    """Talk with MODEL.

    In a terminal, /help lists what can be typed. Otherwise each line of standard input is a question, and standard
    output is the replies and nothing else. Every conversation is kept in the user's data folder as it goes on.
    """
    options = Options(
        model,
        engine,
        attention,
        sampling,
        candidates,
        verdict,
        color=chat.color,
        thoughts="show",
        wordwrap=chat.wordwrap,
        stats=chat.stats,
    )
    candidates.check()
    verdict.check(offline=model.offline)
    options.generation_config(load_preset)  # what is wrong there is said before the model is loaded
    if sys.stdin is None or sys.stdout is None:
        raise click.UsageError("standard input or output is closed: there is nobody to talk with")
    kept = _kept() if chat.resume else None
    chosen = model.name_or(name)
    if kept and not (name or is_given("hf_repo") or is_given("model")):
        chosen = _model_of(kept)
    with Session() as session:
        path = fetch(chosen, offline=model.offline)
        verdict.check_fit(path, options.generation_config, candidates.voting())
        return _chat(session, Reopen(path, options), chat, kept)


def _kept() -> Path:
    """The conversation to go on with."""
    kept = newest()
    if kept is None:
        raise click.UsageError("there is no conversation to go on with: leave --continue out")
    return kept


def _model_of(kept: Path) -> str:
    """The model of a conversation that was kept.

    Raises:
        ModelNotFoundError: it is gone.
    """
    from ..sessions import SavedConversation

    model = SavedConversation.read(kept).model
    if not model.is_file():
        raise ModelNotFoundError(f"the last conversation was with {model}, which is not there: name the model")
    return str(model)


def _chat(session: Session, opening: Reopen, chat: ChatOptions, kept: Path | None) -> int:
    """Open the model and talk; open another, or the same anew, when the user says so. The exit code."""
    conversing = before = None
    while True:
        start = time.perf_counter()
        try:
            with session.engine(opening.path, opening.options.engine_config()) as engine:
                startup = time.perf_counter() - start
                talk = Talk(engine, opening.options, session.interrupt, startup_seconds=startup)
                if not _is_terminal():
                    talk.begin(_conversation(engine, chat, kept), Keeper(wanted=not chat.no_save, path=kept))
                    return _listen(talk)
                if conversing is None:
                    talk.begin(_conversation(engine, chat, kept), Keeper(wanted=not chat.no_save, path=kept))
                    conversing = Conversing(talk, command)
                else:
                    conversing.go_on_with(talk)
                outcome = conversing.run()
        except EntropixError as error:
            if before is None:
                raise
            print_error(error, command)
            opening, before = before, None
            continue
        if isinstance(outcome, int):
            return outcome
        before, opening = opening, outcome


def _is_terminal() -> bool:
    """Whether somebody types and reads."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _conversation(engine: "Engine", chat: ChatOptions, kept: Path | None) -> "Conversation":
    """The conversation that was kept, with what the command line changes in it, or a new one."""
    from ..sessions import Conversation

    conversation = Conversation.load(kept, engine) if kept else Conversation(engine)
    if chat.system is not None:
        conversation.system = chat.system
    if chat.chat_template_kwargs or not kept:
        conversation.chat_template_kwargs = chat.chat_template_kwargs
    return conversation


# --- without a terminal -------------------------------------------------------------------------------


def _listen(talk: Talk) -> int:
    """Answer each line of standard input. The exit code."""
    lines = _lines()
    if sys.stdin.isatty():
        say("Each line is a question; Ctrl-D ends the conversation.")
    while True:
        with talk.interrupt.asking():
            question = next(lines, None)
        if question is None:
            return 0
        turn = talk.ask(question) if question.strip() else None
        if turn and turn.finish_reason is FinishReason.CONTEXT:
            logger.warning("the context is full: the reply ends at its %d tokens", talk.engine.context.room)
        if talk.stopped or talk.interrupt():  # in the reply, or just after it
            return EXIT_INTERRUPTED


def _lines() -> Iterator[str]:
    """The lines of standard input, as they come.

    Raises:
        EncodingError: one is no text.
    """
    source, number = sys.stdin.buffer, 1
    while line := source.readline():
        if number == 1 and line.startswith(_WIDE):
            yield from decode_text(line + source.read(), "standard input").splitlines()
            return
        # a byte order mark is one at the very beginning only
        yield decode_text(b" " * (number > 1) + line, f"line {number} of standard input")[number > 1 :].rstrip("\r\n")
        number += 1
