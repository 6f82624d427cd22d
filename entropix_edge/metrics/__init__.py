"""Entropy and varentropy of the next-token distribution, and of the attention."""

from .distribution import Distribution, describe, describe_reference
from .heads import attention_reference

__all__ = ["Distribution", "attention_reference", "describe", "describe_reference"]
