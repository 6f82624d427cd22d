"""Events to what a person or a program reads: coloured text, JSONL trace, statistics.

`why`, `ways` and `thoughts` are imported by who needs them: a single reply does not.
"""

from .stats import Stats
from .terminal import TextPrinter, legend, visible
from .trace import Trace, TraceWriter, as_record, check_replaceable, finite, read_trace

__all__ = [
    "Stats",
    "TextPrinter",
    "Trace",
    "TraceWriter",
    "as_record",
    "check_replaceable",
    "finite",
    "legend",
    "read_trace",
    "visible",
]
