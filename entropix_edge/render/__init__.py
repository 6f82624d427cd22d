"""Events to what a person or a program reads: coloured text, JSONL trace, statistics."""

from .stats import Stats
from .terminal import TextPrinter, legend
from .trace import Trace, TraceWriter, as_record, read_trace

__all__ = ["Stats", "TextPrinter", "Trace", "TraceWriter", "as_record", "legend", "read_trace"]
