"""What a file that `plot` was given holds: a trace, results or recordings of `eval`, or a fitted preset."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from ..render import Trace

_SUMMARISED = b'{"settings": {"summary_of"'


class Source(NamedTuple):
    """What a file holds.

    Attributes:
        name: of the file.
        kind: in words: `a trace`, `results`, `a recording` or `a fitted preset`.
        content: a `Trace`, or what `render.plots` draws of the others.
    """

    name: str
    kind: str
    content: Any

    @property
    def trace(self) -> Trace | None:
        """The trace, where it is one."""
        return self.content if self.kind == "a trace" else None


def source_of(path: Path, name: str) -> Source:
    """Read a file, whatever it is of those.

    Raises:
        ConfigError: it is none of them, or damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        begin = file.read(256)
    if begin.startswith((b"\x1f\x8b", _SUMMARISED)):
        return Source(name, "a recording", _judged(path))
    if begin.startswith(b'{"settings"'):
        return _results_or_recording(path, name)
    if begin.lstrip()[:1] in (b"#", b"["):
        return Source(name, "a fitted preset", _fitted(path))
    from ..render import read_trace

    return Source(name, "a trace", read_trace(path))


def _results_or_recording(path: Path, name: str) -> Source:
    from ..evaluation.results import read_results
    from ..evaluation.summary import summarise
    from ..render.plots_data import Accuracy

    with path.open("rb") as file:
        second = [file.readline(), file.readline()][1]
    if second.startswith(b'{"result"'):
        return Source(name, "a recording", _judged(path))
    _settings, results = read_results(path)
    if not results:
        raise ConfigError(f"{path} holds no results yet: let eval finish a problem first")
    rows = [Accuracy(row.policy, row.decoded_tokens, *row.accuracy, row.problems) for row in summarise(results)]
    return Source(name, "results", rows)


def _judged(path: Path) -> dict[str, list[Any]]:
    """Each policy's replies: how sure, by 2 to the power of minus the mean entropy, and whether right."""
    from ..evaluation.samples import read_samples
    from ..render.plots_data import Judged

    found: dict[str, list[Any]] = {}
    for sample in read_samples(path):
        entropy = sample.features["mean_entropy"]
        if sample.finish == "stop" and entropy == entropy:  # not NaN
            found.setdefault(sample.policy, []).append(Judged(2.0**-entropy, sample.right))
    if not found:
        raise ConfigError(f"{path} holds no finished reply: record some with eval first")
    return found


def _fitted(path: Path) -> Any:
    """The deciles that a fitted preset has in its comments, and its thresholds."""
    from ..evaluation.calibration import DECILES, QUANTITIES
    from ..render.plots_data import Quantiles
    from ..strategy import THRESHOLDS

    try:
        text = path.read_text("utf-8")
        tables = tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path} is neither a trace nor a fitted preset: {error}") from error
    labels = {f"{quantity.replace('_', ' ')}, {unit}": quantity for quantity, unit in QUANTITIES.items()}
    deciles: dict[str, list[float]] = {}
    for line in text.splitlines():
        for label in labels:
            if line.startswith(f"# {label} "):
                deciles[label] = [float(value) for value in line.removeprefix(f"# {label} ").split()]
    if not deciles or any(len(values) != len(DECILES) for values in deciles.values()):
        raise ConfigError(f"{path} names no quantiles: it must be a preset that calibrate fitted")
    thresholds = {
        key: float(tables[key.split(".")[0]][key.split(".")[1]])
        for key in THRESHOLDS
        if key.split(".")[1] in tables.get(key.split(".")[0], {})
    }
    return Quantiles(tuple(DECILES), deciles, thresholds)
