"""The heart: a generation as a coroutine, and the scheduler that runs many in one batch."""

from .generation import generate
from .job import Job
from .numbers import NumberWatch
from .protocols import Cancelled, Vocabulary
from .scheduler import GROWTH, Scheduler
from .task import Task

__all__ = ["GROWTH", "Cancelled", "Job", "NumberWatch", "Scheduler", "Task", "Vocabulary", "generate"]
