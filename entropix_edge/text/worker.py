"""Renders chat templates, run as a program: a JSON request a line on standard input, a JSON answer a line out.

A template is a program from a stranger. Jinja's sandbox keeps it from Python's objects, and the system ends this
process where it runs for too long or builds too much. Imports nothing of the package, so that it starts in 60 ms.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Template
    from jinja2.parser import Parser

MEMORY = 2**30  # bytes of address space, where the system keeps such a limit (Linux does, macOS does not)
LONGEST = 64_000_000  # characters of a prompt


class RefusalError(Exception):
    """The template's own complaint about the messages."""


class Generation(Extension):
    """`{% generation %}` … `{% endgeneration %}`, which marks in training what the assistant said."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """The body, in a scope of its own."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


def raise_exception(message: object = "") -> NoReturn:
    """What templates call to refuse messages."""
    raise RefusalError(str(message))


def strftime_now(form: str) -> str:
    """What templates call to write the date."""
    return datetime.now().strftime(form)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter as Hugging Face has it: Jinja's own escapes what HTML would read."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment() -> ImmutableSandboxedEnvironment:
    """What chat templates are written for."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation], cache_size=0
    )
    made.filters["tojson"] = to_json
    made.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    return made


@lru_cache(maxsize=1)
def compiled(source: str) -> Template:
    """A template ready to render."""
    return environment().from_string(source)


def answer(source: str, variables: Mapping[str, Any]) -> dict[str, str]:
    """The prompt as `text`, or the reason why there is none under the name of what went wrong."""
    try:
        template = compiled(source)
    except Exception as error:  # not every template that Jinja parses is one that Python compiles
        return {"malformed": _reason(error)}
    try:
        text = template.render(variables)
    except RefusalError as error:
        return {"refused": str(error)}
    except Exception as error:  # a template can raise whatever its expressions can
        return {"failed": _reason(error)}
    return {"text": text} if len(text) <= LONGEST else {"failed": "it builds a text that is too long"}


def _reason(error: Exception) -> str:
    return "it needs too much memory" if isinstance(error, MemoryError) else str(error) or type(error).__name__


def main(seconds: float) -> None:
    """Answer until standard input ends. The timer's signal ends this process: that is its default action.

    Args:
        seconds: of processor time for each request.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        said = json.dumps(answer(**request))
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(said, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
