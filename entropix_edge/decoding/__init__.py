"""The heart: a generation as a coroutine, and the scheduler that runs many in one batch."""

from .generation import Task, generate
from .protocols import Cancelled
from .scheduler import GROWTH, Job, Scheduler

__all__ = ["GROWTH", "Cancelled", "Job", "Scheduler", "Task", "generate"]
