"""What was measured, as rows for people and records for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .results import RAW

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .kernels import Kernels
    from .process import Start, Starts
    from .results import Speed, Spread

LEFT = 4
"""Columns of names; numbers come after them."""
_MIB = 2**20
_FLASH = {"off": 0, "on": 1, "auto": -1}  # llama.cpp's numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was measured on what, named as in llama-bench's records."""

    cpu_info: str
    gpu_info: str
    backends: str
    model_filename: str
    model_type: str
    model_size: int
    model_n_params: int
    n_gpu_layers: int
    type_k: str = "f16"
    type_v: str = "f16"
    build_commit: str | None = None  # the wheel does not say
    build_number: int | None = None
    llama_cpp_python: str

    def __str__(self) -> str:
        layers = f", {self.n_gpu_layers} layers offloaded" if self.n_gpu_layers else ""
        return (
            f"{self.model_type}, {self.model_size / _MIB:.1f} MiB, {self.model_n_params / 1e6:.0f} M parameters; "
            f"{self.gpu_info or self.cpu_info}{layers}; llama-cpp-python {self.llama_cpp_python}"
        )


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table: those that say the same in every row are left out.

    Attributes:
        without_flash: whether there are rows without flash attention.
        threads: whether several numbers of threads are measured.
        batches: whether several batch sizes are.
    """

    without_flash: bool = False
    threads: bool = False
    batches: bool = False

    @property
    def headings(self) -> tuple[str, ...]:
        """One a column; `LEFT` of them are names."""
        more = [("threads", self.threads), ("n_batch", self.batches), ("of raw", self.without_flash)]
        return (
            *("test", "loop", "attention", "fa", "tokens/s"),
            *(name for name, shown in more if shown),
            *("of raw, fa on", "beside llama.cpp", "forks", "disturbed"),
        )

    def cells(self, speed: Speed) -> tuple[str, ...]:
        """A row of the table."""
        test, variant = speed.test, speed.variant
        more = [(test.threads, self.threads), (test.n_batch, self.batches), (speed.of_raw or "", self.without_flash)]
        return (
            *(str(test), variant.loop, "" if variant.loop == RAW else variant.layers, variant.flash),
            str(speed.rate),
            *(str(value) for value, shown in more if shown),
            str(speed.of_raw_fa_on or ""),
            _micro(speed.beside) if speed.beside is not None else "",
            str(speed.forks or ""),
            _disturbed(speed),
        )


def markdown(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def markdown_head(columns: Columns) -> str:
    """A Markdown table's first two lines."""
    headings = columns.headings
    return "\n".join([markdown(headings), markdown(("---",) * LEFT + ("---:",) * (len(headings) - LEFT))])


def record(facts: Facts, speed: Speed) -> dict[str, Any]:
    """A row for a program: llama-bench's fields, and ours. Times in nanoseconds."""
    test, variant = speed.test, speed.variant
    nanoseconds = [round(1e9 * seconds) for seconds in speed.seconds]
    rates = list(speed.rates)
    return asdict(facts) | {
        "n_batch": test.n_batch,
        "n_ubatch": test.n_batch,
        "n_threads": test.threads,
        "flash_attn": _FLASH[variant.flash],
        "n_prompt": test.n_prompt,
        "n_gen": test.n_gen,
        "n_depth": test.depth,
        "test_time": speed.began.strftime("%Y-%m-%dT%H:%M:%SZ"),
        **_mean_and_deviation(nanoseconds, "ns"),
        **_mean_and_deviation(rates, "ts"),
        "samples_ns": nanoseconds,
        "samples_ts": rates,
        "loop": variant.loop,
        "attention": variant.layers,
        **_ratio(speed.of_raw, "of_raw"),
        **_ratio(speed.of_raw_fa_on, "of_raw_fa_on"),
        "beside_ns": None if speed.beside is None else round(1e9 * speed.beside),
        "fork_rounds": speed.forks.rounds if speed.forks else None,
        "fork_cost": speed.forks.cost if speed.forks else None,
        "disturbed": speed.disturbed,
        "repeated": speed.repeated,
    }


def _mean_and_deviation(values: Sequence[float], unit: str) -> dict[str, float | None]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {f"avg_{unit}": float(np.mean(values)), f"stddev_{unit}": deviation}


def _ratio(spread: Spread | None, name: str) -> dict[str, float | None]:
    mean, deviation = spread or (None, None)
    return {name: mean, f"{name}_stddev": deviation}


def _micro(seconds: float) -> str:
    return f"{1e6 * seconds:.0f} µs"


def _disturbed(speed: Speed) -> str:
    """Such as "1 of 5, 2 repeated"."""
    said = []
    if speed.disturbed:
        said.append(f"{speed.disturbed} of {len(speed.seconds)}")
    if speed.repeated:
        said.append(f"{speed.repeated} repeated")
    return ", ".join(said)


# --- in words ---------------------------------------------------------------------------------------


def conclusions(speeds: Sequence[Speed]) -> Iterator[str]:
    """What the loop costs: of each test of generation its first row in words, and the others beside it."""
    for test in dict.fromkeys(speed.test for speed in speeds if speed.test.n_gen):
        rows = [speed for speed in speeds if speed.test == test]
        loops = [(row, row.of_raw_fa_on) for row in rows if row.of_raw_fa_on]
        if not loops:
            continue
        raw = next((row.beside for row in rows if row.variant.loop == RAW), None)
        yield f"{test}: {_cost(*loops[0], raw)}"
        if loops[1:]:
            yield f"{test}: " + "; ".join(f"{row.variant} {_percent(ratio)}" for row, ratio in loops[1:])


def _cost(row: Speed, ratio: Spread, raw: float | None) -> str:
    variant = row.variant
    is_default = variant.loop == "edge" and variant.attention == "last" and variant.flash != "off"
    name = "the default loop" if is_default else f"the loop {variant}"
    said = f"{name} runs at {_percent(ratio)} of raw llama.cpp with flash attention on"
    if row.beside is not None:
        own = f", raw's argmax {_micro(raw)}" if raw is not None else ""
        said += f"; Python and kernels take {_micro(row.beside)} of a token{own}"
    if row.forks and row.forks.cost is not None:
        how = "longer" if row.forks.cost >= 0 else "shorter"
        rounds, cost = 100 * row.forks.rounds, 100 * abs(row.forks.cost)
        said += f"; forks, {rounds:.0f} % of the rounds, make a token {cost:.0f} % {how}"
    return said


def _percent(spread: Spread) -> str:
    deviation = "" if spread.deviation is None else f" ± {100 * spread.deviation:.1f}"
    return f"{100 * spread.mean:.1f}{deviation} %"


def kernel_line(kernels: Kernels) -> str:
    """The kernels in a line."""
    return (
        f"of a token beside llama.cpp, {kernels.n_vocab} logits: metrics {_micro(kernels.metrics)} "
        f"({kernels.metrics / kernels.maximum:.1f} times numpy.max), filters and draw {_micro(kernels.draw)} "
        f"({kernels.draw / kernels.metrics:.2f} times the metrics)"
    )


def start_lines(starts: Starts) -> Iterator[str]:
    """Starts and memory, a line each."""
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


@dataclass(slots=True, kw_only=True)
class Beside:
    """What was measured beside the tests; None or empty where it was not."""

    kernels: Kernels | None = None
    starts: Starts | None = None
    completion: dict[str, Spread] | None = None
    throttling: str | None = None

    def lines(self) -> Iterator[str]:
        """What it came to, a line each."""
        for setting, spread in (self.completion or {}).items():
            yield f"against llama_cpp.Llama.create_completion, {setting}: {spread} of its tokens/s"
        if self.kernels:
            yield kernel_line(self.kernels)
        if self.starts:
            yield from start_lines(self.starts)
        if self.throttling is not None:
            yield f"throttling: {self.throttling}"

    def as_record(self) -> dict[str, Any]:
        """Ready for JSON: seconds and bytes."""
        return {
            "kernels": asdict(self.kernels) if self.kernels else None,
            "starts": {name: start._asdict() for name, start in self.starts._asdict().items()} if self.starts else None,
            "completion": {name: spread._asdict() for name, spread in (self.completion or {}).items()} or None,
            "throttling": self.throttling,
        }
