"""Jinja's immutable sandbox, which keeps a template from Python's objects, with bounds on time and size.

Whatever could build much out of little is measured before it runs, or is not offered; what runs on is
stopped by a deadline. Not bounded: one call into C that never comes back to Python, such as writing out
a list of lists that share their parts thirty levels deep.
"""

from __future__ import annotations

import itertools
import json
import re
import string
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jinja2 import pass_environment
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.filters import do_indent, make_attrgetter
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from jinja2 import Environment, nodes
    from jinja2.compiler import Frame
    from jinja2.runtime import Context

_LONGEST = 64_000_000  # characters, an item of a list counting as 8: all that one template builds
_SECONDS = 1.0  # of this thread's processor time; a prompt takes milliseconds
_STEPS = 50  # lines and calls between two looks at the clock
_LARGEST_NUMBER = 10**9
_BITS = 100_000  # of a product of whole numbers
_WIDEST = 5000  # characters of one formatted number
_WIDE = re.compile(r"%(\([^)]*\))?[^%a-zA-Z]*?(\d{4}|\*)")
_METHODS = frozenset(["center", "encode", "expandtabs", "ljust", "rjust", "to_bytes", "translate", "zfill"])
_FILTERS = ("batch", "center", "pprint", "slice", "urlize", "wordwrap", "xmlattr")


class _Built(threading.local):
    length = 0


_built = _Built()


def check_length(length: int) -> None:
    """Count what is about to be built, and refuse it where that makes too much in all."""
    _built.length += length
    if _built.length > _LONGEST:
        raise SecurityError("it builds a text that is too long")


class _TimeUp(BaseException):
    """Not an Exception: some of Jinja's own functions swallow those."""


@contextmanager
def deadline() -> Iterator[None]:
    """Stop a template that runs for more than a second inside; what it builds is counted from nothing."""
    _built.length = 0
    end = time.thread_time() + _SECONDS
    before = sys.gettrace()
    steps = itertools.count(1)

    def watch(frame: FrameType, _event: str, _argument: object) -> Any:
        if next(steps) % _STEPS == 0 and time.thread_time() > end:
            raise _TimeUp
        return watch if frame.f_code.co_filename == "<template>" else None  # elsewhere calls are enough

    sys.settrace(watch)
    try:
        yield
    except _TimeUp:
        raise SecurityError("it takes too long") from None
    finally:
        sys.settrace(before)


class _Generator(CodeGenerator):
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        """Write `a ~ b` as a call of the bounded `concat`."""
        self.write("environment.concat(map(str, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write(")))")


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment for a stranger's template."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        for name in _FILTERS:
            del self.filters[name]
        del self.globals["lipsum"]
        self.filters |= {
            "format": _percent,
            "indent": _indent,
            "join": _join_filter,
            "replace": _replace,
            "sum": _sum,
            "tojson": _to_json,
        }

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """Join the pieces of `a ~ b`, of a macro's output or a block's."""
        return _join("", parts)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may reach an attribute."""
        return attr not in _METHODS and super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Measure what an operator will build, then apply it."""
        if operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            check_length(_size(left) + _size(right))
        elif operator == "*":
            _check_product(left, right)
        elif operator == "**" and not (abs(left) <= _LARGEST_NUMBER and abs(right) <= 64):
            raise SecurityError("it raises a number to too high a power")
        elif operator == "%" and isinstance(left, str):
            _check_percent(left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call what a template calls, the string methods that can build much in their bounded forms."""
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str) and __obj.__name__ in ("join", "replace"):
            return (_join if __obj.__name__ == "join" else _replace)(owner, *args, **kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Measure what `str.format` will build."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        form: str = value.__self__

        def measured(*args: Any, **kwargs: Any) -> str:
            specs = [spec or "" for _text, _name, spec, _conversion in string.Formatter().parse(form)]
            if any("{" in spec or re.search(r"\d{4}", spec) for spec in specs):
                raise SecurityError("it formats a text that is too long")
            mappings = (arg.values() if isinstance(arg, dict) else (arg,) for arg in args)
            _check_formatted(len(form), len(specs), [*(each for some in mappings for each in some), *kwargs.values()])
            return wrapped(*args, **kwargs)

        return measured


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str) else 8 * len(value)


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > _BITS:
        raise SecurityError("it multiplies numbers that are too large")
    for sequence, times in ((left, right), (right, left)):
        if hasattr(sequence, "__len__") and isinstance(times, int):
            check_length(_size(sequence) * times)


def _check_percent(form: str, values: Any) -> None:
    if _WIDE.search(form):
        raise SecurityError("it formats a text that is too long")
    several = values.values() if isinstance(values, dict) else values if isinstance(values, tuple) else (values,)
    _check_formatted(len(form), form.count("%"), several)


def _check_formatted(length: int, fields: int, values: Iterable[Any]) -> None:
    widest = max((len(value) if isinstance(value, str) else _WIDEST for value in values), default=0)
    check_length(length + fields * max(widest, 1000))


def _percent(form: Any, *args: Any, **kwargs: Any) -> str:
    form = str(form)
    _check_percent(form, kwargs or args)
    return str(form % (kwargs or args))


def _join(separator: str, parts: Iterable[str]) -> str:
    parts = list(parts)
    check_length(sum(map(len, parts)) + len(separator) * len(parts))
    return separator.join(parts)


@pass_environment
def _join_filter(environment: Environment, value: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    items = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    return _join(str(d), map(str, items))


@pass_environment
def _sum(environment: Environment, values: Iterable[Any], attribute: Any = None) -> Any:
    return sum(values if attribute is None else map(make_attrgetter(environment, attribute), values))


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = str(text), str(old), str(new)
    check_length(len(text) + text.count(old) * len(new))
    return str(text.replace(old, new, -1 if count is None else count))


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    text = str(text)
    each = width if isinstance(width, int) else len(width)
    check_length(len(text) + (len(text.splitlines()) + 1) * each)
    return do_indent(text, width, first, blank)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if indent is not None and indent > 16:
        raise SecurityError("it indents too far")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
