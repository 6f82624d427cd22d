"""Events to what a person or a program reads: coloured text, JSONL trace, statistics."""

from .stats import Stats
from .terminal import TextPrinter, legend
from .trace import TraceWriter, as_record

__all__ = ["Stats", "TextPrinter", "TraceWriter", "as_record", "legend"]
