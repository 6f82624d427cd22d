"""Checks: small pure functions, one a file: a text so far → a correction, or None."""

from .arithmetic import Correction, check_arithmetic, number_in_progress

__all__ = ["Correction", "check_arithmetic", "number_in_progress"]
