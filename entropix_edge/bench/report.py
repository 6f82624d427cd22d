"""What was measured, as rows for people and records for programs."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .process import Start, Starts
    from .speed import Kernels, Speed, Spread

COLUMNS = ("test", "loop", "attention", "fa", "tokens/s", "of raw", "of raw, fa on", "in llama.cpp")
_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was measured on what. Sizes in bytes."""

    model: str
    size: int
    parameters: int
    backend: str
    threads: int
    gpu_layers: int
    llama_cpp: str
    throttling: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All of one run; what was not measured is None."""

    facts: Facts
    speeds: tuple[Speed, ...]
    kernels: Kernels | None = None
    starts: Starts | None = None
    completion: dict[str, Spread] | None = None

    def head(self) -> str:
        """One line of what was measured."""
        facts = self.facts
        layers = f", {facts.gpu_layers} layers offloaded" if facts.gpu_layers else ""
        return (
            f"{facts.model}: {facts.size / _MIB:.1f} MiB, {facts.parameters / 1e6:.0f} M parameters, {facts.backend}, "
            f"{facts.threads} threads{layers}"
        )

    def lines(self) -> Iterator[str]:
        """What the table of speeds does not hold, a line each."""
        if self.completion:
            for setting, spread in self.completion.items():
                yield f"against llama_cpp.Llama.create_completion, {setting}: {spread} of its tokens/s"
        if self.kernels:
            yield from _kernel_lines(self.kernels)
        if self.starts:
            yield from _start_lines(self.starts)
        if self.facts.throttling is not None:
            yield f"throttling: {self.facts.throttling}"

    def as_record(self) -> dict[str, Any]:
        """Ready for JSON: seconds, bytes, tokens a second."""
        return {
            "facts": asdict(self.facts),
            "speeds": [asdict(speed) | {"rate": speed.rate._asdict(), **_ratios(speed)} for speed in self.speeds],
            "kernels": asdict(self.kernels) if self.kernels else None,
            "starts": {name: start._asdict() for name, start in self.starts._asdict().items()} if self.starts else None,
            "completion": {name: spread._asdict() for name, spread in (self.completion or {}).items()} or None,
        }


def cells(speed: Speed) -> tuple[str, ...]:
    """A row of the table, in the order of `COLUMNS`."""
    share = f"{100 * speed.decode_share:.1f} %" if speed.decode_share is not None else ""
    return (
        speed.test,
        speed.loop,
        "" if speed.loop == "raw" else speed.attention,
        "on" if speed.flash else "off",
        str(speed.rate),
        str(speed.ratio or ""),
        str(speed.flash_ratio or ""),
        share,
    )


def markdown(report: Report) -> str:
    """A Markdown table, with the rest as a list."""
    rows = [COLUMNS, ("---",) * 4 + ("---:",) * 4, *map(cells, report.speeds)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([report.head(), "", table, *(["", *(f"- {line}" for line in report.lines())])])


def as_csv(report: Report) -> str:
    """The speeds, with the facts in every row."""
    out = io.StringIO()
    rows = list(_flat(report))
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def as_jsonl(report: Report) -> str:
    """The same rows as JSON objects, a line each."""
    return "\n".join(map(json.dumps, _flat(report)))


def _flat(report: Report) -> Iterator[dict[str, Any]]:
    for speed in report.speeds:
        row = asdict(report.facts) | {
            "test": speed.test,
            "loop": speed.loop,
            "attention": speed.attention,
            "flash_attention": speed.flash,
        }
        for name, spread in (("rate", speed.rate), ("ratio", speed.ratio), ("flash_ratio", speed.flash_ratio)):
            row[name], row[f"{name}_deviation"] = spread or (None, None)
        yield row | {"decode_share": speed.decode_share}


def _ratios(speed: Speed) -> dict[str, Any]:
    pairs: Sequence[tuple[str, Spread | None]] = (("ratio", speed.ratio), ("flash_ratio", speed.flash_ratio))
    return {name: spread._asdict() if spread else None for name, spread in pairs}


def _kernel_lines(kernels: Kernels) -> Iterator[str]:
    micro = {name: 1e6 * getattr(kernels, name) for name in ("maximum", "metrics", "draw", "python", "raw")}
    yield (
        f"a token beside llama.cpp, {kernels.n_vocab} logits: metrics {micro['metrics']:.0f} µs "
        f"({kernels.metrics / kernels.maximum:.1f} times numpy.max), filters and draw {micro['draw']:.0f} µs "
        f"({kernels.draw / kernels.metrics:.2f} times the metrics), Python {micro['python']:.0f} µs "
        f"(a step of raw: {micro['raw']:.0f} µs with its argmax)"
    )


def _start_lines(starts: Starts) -> Iterator[str]:
    raw, warm, first = starts
    yield (
        f"process start to first token: {warm.seconds:.2f} s, a raw script {raw.seconds:.2f} s "
        f"({warm.seconds - raw.seconds:+.2f} s); the very first run {first.seconds:.2f} s "
        f"({first.seconds - warm.seconds:+.2f} s)"
    )
    if warm.resident and raw.resident and warm.anonymous and raw.anonymous:
        yield (
            f"memory at the first token: {_mib(warm)}, a raw script {_mib(raw)} "
            f"({(warm.resident - raw.resident) / _MIB:+.0f} and {(warm.anonymous - raw.anonymous) / _MIB:+.0f} MiB)"
        )


def _mib(start: Start) -> str:
    return f"{(start.resident or 0) / _MIB:.0f} MiB resident, {(start.anonymous or 0) / _MIB:.0f} of them anonymous"
