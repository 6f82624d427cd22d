"""The heart: a generation as a coroutine, and the scheduler that runs many in one batch."""

from .generation import Cancelled, Task, generate
from .scheduler import Live, Scheduler

__all__ = ["Cancelled", "Live", "Scheduler", "Task", "generate"]
