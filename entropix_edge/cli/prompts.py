"""The prompt: from the command line, files and standard input."""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NamedTuple

import click

from ..encoding import decode_text
from .console import console, saying
from .options import system_option, template_option
from .parameters import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST_PROMPT = 32 * 2**20  # bytes
_LAST_LINE_END = re.compile(r"\r?\n\Z")  # editors and `echo` write it; nobody typed it
_SILENCE = 0.5  # seconds until it is said what is waited for


class PromptOptions(NamedTuple):
    """What is asked, and how it is read."""

    prompt: Annotated[str | None, click.argument("prompt", type=Text(), required=False)]
    prompt_option: Annotated[
        str | None,
        click.option("-p", "--prompt", "prompt_option", type=Text(), metavar="TEXT", help="The prompt, as an option."),
    ]
    files: Annotated[
        tuple[Path, ...],
        click.option(
            "-f",
            "--file",
            "files",
            type=click.Path(path_type=Path, allow_dash=True),
            multiple=True,
            help="A file with (a part of) the prompt; - means standard input. Repeatable.",
        ),
    ]
    system: Annotated[str | None, system_option]
    raw: Annotated[
        bool, click.option("--raw", is_flag=True, help="Take the prompt as it is, without the model's chat template.")
    ]
    chat_template_kwargs: Annotated[dict[str, Any], template_option]
    prompt_cache: Annotated[
        Path | None,
        click.option(
            "--prompt-cache",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Go on from the tokens kept in FILE where the prompt begins alike, "
            "and keep them there for the next time.",
        ),
    ]
    parse_special: Annotated[
        bool,
        click.option("--parse-special", is_flag=True, help="Read control-token text in the prompt as control tokens."),
    ]


def gather_prompt(prompt: str | None, option: str | None, files: Sequence[Path]) -> str:
    """The prompt from files, piped standard input and the command line, joined in that order.

    Raises:
        click.UsageError: there is none.
    """
    given = [text for text in (option, prompt) if text is not None]
    sources = len(files) + len(given)
    parts = [_read_stdin(joins=sources > 1) if str(path) == "-" else _read(path) for path in files]
    if "-" not in map(str, files) and _stdin_is_for_us(needed=not sources):
        parts.append(_read_stdin(joins=sources > 0))
    text = "\n".join(part for part in (*parts, *given) if part)
    if not text.strip():
        raise click.UsageError("the prompt is empty: give it as an argument, with -p or -f, or on standard input")
    return text


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return _text_of(file, str(path))


def _read_stdin(*, joins: bool) -> str:
    if sys.stdin is None:
        raise click.UsageError("standard input is closed: there is nothing to read from it")
    if sys.stdin.isatty():
        waiting = "Reading the prompt from the terminal: Ctrl-D on a line of its own ends it."
    elif joins:
        waiting = "Waiting for standard input, which joins the prompt (</dev/null leaves it out)."
    else:
        waiting = "Waiting for the prompt on standard input."
    with saying(lambda: waiting, after=_SILENCE):
        return _text_of(sys.stdin.buffer, "standard input")


def _text_of(file: BinaryIO, name: str) -> str:
    data = file.read(_LONGEST_PROMPT + 1)
    if len(data) > _LONGEST_PROMPT:
        raise click.UsageError(f"{name} holds more than {_LONGEST_PROMPT // 2**20} MiB: that is too long for a prompt")
    return _LAST_LINE_END.sub("", decode_text(data, name))


def _stdin_is_for_us(*, needed: bool) -> bool:
    """Whether to read standard input, which nobody asked for.

    Never a terminal. A pipe joins the prompt, and so does a file from its beginning; a file that another program has
    begun to read is that program's (`while read line; do … done <file`). The rest only when there is no prompt else.
    """
    try:
        status = os.fstat(sys.stdin.fileno())
        if sys.stdin.isatty():
            return False
        if needed or stat.S_ISFIFO(status.st_mode):
            return True
        if not stat.S_ISREG(status.st_mode):
            return False
        offset = os.lseek(sys.stdin.fileno(), 0, os.SEEK_CUR)
    except (AttributeError, OSError, ValueError):
        return False
    if 0 < offset < status.st_size:
        console().print(
            "Warning: standard input is not read: another program is part-way through that file "
            "(-f - reads the rest of it, </dev/null leaves it out without this warning)",
            markup=False,
        )
    return offset == 0
