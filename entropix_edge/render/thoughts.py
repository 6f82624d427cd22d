"""A reply's thoughts, told from the rest: what models that think write between two tags before they answer."""

from __future__ import annotations

_OPENING, _CLOSING = "<think>", "</think>"


class Thoughts:
    """Cuts a reply's text, as it comes, into thoughts and the rest.

    Thoughts stand at the reply's beginning; tags further on are text like any other.

    Args:
        begun: the prompt ends with the opening tag, as some chat templates have it.
    """

    def __init__(self, *, begun: bool = False) -> None:
        self._held = ""
        self._tag: str | None = _CLOSING if begun else _OPENING  # the one to come; None after the thoughts

    def split(self, text: str) -> list[tuple[str, bool]]:
        """Take text, and give what is certain of it: parts, each with whether it is a thought. Tags are thoughts."""
        self._held += text
        parts: list[tuple[str, bool]] = []
        if self._tag == _OPENING:
            begins = self._held.lstrip()
            if begins.startswith(_OPENING):
                self._tag = _CLOSING
                parts.append(self._take(len(self._held) - len(begins) + len(_OPENING), thought=True))
            elif _OPENING.startswith(begins):
                return []
            else:
                self._tag = None
        if self._tag == _CLOSING:
            end = self._held.find(_CLOSING)
            if end < 0:
                parts.append(self._take(len(self._held) - _beginning(_CLOSING, self._held), thought=True))
            else:
                self._tag = None
                parts.append(self._take(end + len(_CLOSING), thought=True))
        if self._tag is None:
            parts.append(self._take(len(self._held), thought=False))
        return [part for part in parts if part[0]]

    def flush(self) -> list[tuple[str, bool]]:
        """What was held back: the beginning of a tag that did not come."""
        return [self._take(len(self._held), thought=self._tag == _CLOSING)] if self._held else []

    def _take(self, length: int, *, thought: bool) -> tuple[str, bool]:
        part, self._held = self._held[:length], self._held[length:]
        return part, thought


def _beginning(tag: str, text: str) -> int:
    """How many of a text's last characters begin a tag."""
    return next((length for length in range(len(tag) - 1, 0, -1) if text.endswith(tag[:length])), 0)


def ends_in_thought(prompt: str) -> bool:
    """Whether a prompt leaves the model in the middle of its thoughts."""
    return prompt.rstrip().endswith(_OPENING)
