"""Events to what a person or a program reads: coloured text, JSONL trace, statistics.

`why`, `ways` and `thoughts` are imported by who needs them: a single reply does not.
"""

from .stats import Stats
from .terminal import TextPrinter, legend, visible
from .trace import Trace, TraceWriter, as_record, check_replaceable, finite, parse_trace, read_trace
from .words import NAMED_ALTERNATIVES, confidence_record, in_short, told

__all__ = [
    "NAMED_ALTERNATIVES",
    "Stats",
    "TextPrinter",
    "Trace",
    "TraceWriter",
    "as_record",
    "check_replaceable",
    "confidence_record",
    "finite",
    "in_short",
    "legend",
    "parse_trace",
    "read_trace",
    "told",
    "visible",
]
