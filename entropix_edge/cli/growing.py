"""Rows printed as they come: a table that grows on a terminal, or lines that another program may read at once."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from typing import TYPE_CHECKING, Any, Protocol, Self

from .console import console, make_table, output, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..bench.report import Beside, Columns, Facts
    from ..bench.results import Speed


class Rows(Protocol):
    """Where rows go."""

    def __enter__(self) -> Self:
        """Until the end standard error, or the terminal, may say how it goes."""

    def __exit__(self, *_exception: object) -> None:
        """Nothing is drawn any more."""

    def begin(self, facts: Facts) -> None:
        """Say what is measured on what."""

    def doing(self, what: str) -> None:
        """Say what is measured now."""

    def add(self, facts: Facts, speed: Speed) -> None:
        """Show a row."""

    def end(self, beside: Beside, speeds: Sequence[Speed]) -> None:
        """Show what is no row. Called once, after an interrupt too."""


def rows(form: str, columns: Columns) -> Rows:
    """Where the rows of a form go: to standard output at once where that can be."""
    if form == "table":
        return _Growing(columns) if sys.stdout.isatty() else _Table(columns)
    return {"md": _Markdown, "csv": _Csv, "jsonl": _JsonLines, "json": _Json}[form](columns)


class _Silent:
    """What all share: while standard output is no terminal, standard error says how it goes."""

    prints_at_once = True

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._stack = contextlib.ExitStack()
        self._status: Any = None
        self._tells = not (self.prints_at_once and sys.stdout.isatty())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def begin(self, facts: Facts) -> None:
        if self._tells and sys.stderr.isatty():
            self._status = self._stack.enter_context(console().status("Measuring"))

    def doing(self, what: str) -> None:
        if self._status:
            self._status.update(f"Measuring: {what}")

    def add(self, facts: Facts, speed: Speed) -> None:
        self.show(facts, speed)
        if self._tells and not self._status:
            of_raw = f", {speed.of_raw_fa_on} of raw" if speed.of_raw_fa_on else ""
            print(f"{speed.test} {speed.variant}: {speed.rate} tokens/s{of_raw}", file=sys.stderr, flush=True)

    def end(self, beside: Beside, speeds: Sequence[Speed]) -> None:
        self._stack.close()
        self.close(beside, speeds)

    def show(self, facts: Facts, speed: Speed) -> None:
        """Print a row, if it can be printed yet."""

    def close(self, beside: Beside, speeds: Sequence[Speed]) -> None:
        """Print what is left."""


class _Growing(_Silent):
    """A table on a terminal, drawn anew with each row."""

    def begin(self, facts: Facts) -> None:
        from rich.live import Live

        output().print(str(facts), markup=False, soft_wrap=True)
        self._cells: list[tuple[str, ...]] = []
        self._live = self._stack.enter_context(Live(console=output(), auto_refresh=False))
        self._draw("Measuring")

    def doing(self, what: str) -> None:
        self._draw(f"Measuring: {what}")

    def show(self, facts: Facts, speed: Speed) -> None:
        self._cells.append(self.columns.cells(speed))
        self._draw("Measuring")

    def _draw(self, what: str) -> None:
        from rich.console import Group
        from rich.text import Text

        from ..bench.report import LEFT

        table = make_table(self.columns.headings, self._cells, left=LEFT)
        what_is_done = [Text(what, style="dim")] if what else []
        self._live.update(Group(Text(), table, *what_is_done), refresh=True)

    def close(self, beside: Beside, speeds: Sequence[Speed]) -> None:
        _print_lines(beside, speeds)

    def end(self, beside: Beside, speeds: Sequence[Speed]) -> None:
        self._draw("")
        super().end(beside, speeds)


class _Table(_Silent):
    """A table for a file: its columns' widths are known when all is measured."""

    prints_at_once = False

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        self._head = ""

    def begin(self, facts: Facts) -> None:
        super().begin(facts)
        self._head = str(facts)

    def close(self, beside: Beside, speeds: Sequence[Speed]) -> None:
        from ..bench.report import LEFT

        output().print(self._head, markup=False, soft_wrap=True)
        output().print()
        print_table(self.columns.headings, map(self.columns.cells, speeds), left=LEFT)
        _print_lines(beside, speeds)


def _print_lines(beside: Beside, speeds: Sequence[Speed]) -> None:
    from ..bench.report import conclusions

    out = output()
    out.print()
    for line in (*beside.lines(), *conclusions(speeds)):
        out.print(line, markup=False, soft_wrap=True)


class _Markdown(_Silent):
    def begin(self, facts: Facts) -> None:
        from ..bench.report import markdown_head

        super().begin(facts)
        print(f"{facts}\n\n{markdown_head(self.columns)}", flush=True)

    def show(self, facts: Facts, speed: Speed) -> None:
        from ..bench.report import markdown

        print(markdown(self.columns.cells(speed)), flush=True)

    def close(self, beside: Beside, speeds: Sequence[Speed]) -> None:
        from ..bench.report import conclusions

        lines = [f"- {line}" for line in (*beside.lines(), *conclusions(speeds))]
        print("\n".join(["", *lines]), flush=True)


class _Csv(_Silent):
    """Without the samples, as llama-bench."""

    _writer: csv.DictWriter[str] | None = None

    def show(self, facts: Facts, speed: Speed) -> None:
        from ..bench.report import record

        row = {name: value for name, value in record(facts, speed).items() if not isinstance(value, list)}
        if self._writer is None:
            self._writer = csv.DictWriter(sys.stdout, list(row), lineterminator="\n")
            self._writer.writeheader()
        self._writer.writerow(row)
        sys.stdout.flush()


class _JsonLines(_Silent):
    def show(self, facts: Facts, speed: Speed) -> None:
        from ..bench.report import record

        print(json.dumps(record(facts, speed)), flush=True)


class _Json(_Silent):
    prints_at_once = False

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        self._rows: list[dict[str, Any]] = []

    def show(self, facts: Facts, speed: Speed) -> None:
        from ..bench.report import record

        self._rows.append(record(facts, speed))

    def close(self, beside: Beside, speeds: Sequence[Speed]) -> None:
        from ..bench.report import conclusions

        print_json({"tests": self._rows, **beside.as_record(), "conclusions": list(conclusions(speeds))}, indent=2)
