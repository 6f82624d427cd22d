"""Events to what a person or a program reads: coloured text, JSONL trace, statistics."""

from .stats import Stats
from .terminal import TextPrinter, legend, visible
from .thoughts import Thoughts, ends_in_thought
from .trace import Trace, TraceWriter, as_record, finite, read_trace

__all__ = [
    "Stats",
    "TextPrinter",
    "Thoughts",
    "Trace",
    "TraceWriter",
    "as_record",
    "ends_in_thought",
    "finite",
    "legend",
    "read_trace",
    "visible",
]
