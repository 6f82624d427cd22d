"""The heart: a generation as a coroutine, and the scheduler that runs many in one batch."""

from .generation import Task, generate
from .job import Job
from .numbers import NumberWatch
from .protocols import Cancelled, Vocabulary
from .scheduler import GROWTH, Scheduler

__all__ = ["GROWTH", "Cancelled", "Job", "NumberWatch", "Scheduler", "Task", "Vocabulary", "generate"]
