"""Text for a terminal, coloured by strategy, or plain for everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from ..types import Strategy

if TYPE_CHECKING:
    from rich.text import Text

    from ..types import TokenEvent

# rich is imported where something is drawn: most output is plain text, and it takes 20 ms and 2 MiB
STYLES = {
    Strategy.ARGMAX: "green",
    Strategy.ADAPTIVE: "yellow",
    Strategy.BRANCH: "cyan",
    Strategy.PAUSE: "bold magenta",
    Strategy.RESAMPLE: "red",
}

_MEANINGS = {
    Strategy.ARGMAX: "sure",
    Strategy.ADAPTIVE: "in between",
    Strategy.BRANCH: "torn",
    Strategy.PAUSE: "lost",
    Strategy.RESAMPLE: "scattered",
}

# A model's text may hold escape sequences; on a terminal they are shown, not obeyed.
_VISIBLE = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
_VISIBLE |= {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


class TextPrinter:
    """Writes a reply's text as it comes.

    Args:
        stream: where to.
        colour: colour each token by its strategy.
        terminal: make control characters visible instead of sending them.
    """

    def __init__(self, stream: TextIO, *, colour: bool, terminal: bool) -> None:
        self._stream = stream
        self._colour = colour
        self._terminal = terminal
        self._last = "\n"

    def write(self, event: TokenEvent) -> None:
        """Write one event's text. Raises OSError where the stream does."""
        if not event.text:
            return
        text = event.text.translate(_VISIBLE) if self._terminal else event.text
        self._last = text[-1]
        if self._colour and event.strategy:
            text = _coloured(text, STYLES[event.strategy])
        self._stream.write(text)
        self._stream.flush()

    def finish(self) -> None:
        """End the line where the reply did not."""
        if self._last != "\n":
            self._stream.write("\n")
        self._stream.flush()


def _coloured(text: str, style: str) -> str:
    from rich.color import ColorSystem
    from rich.style import Style

    return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)


def legend() -> Text:
    """One line that says what the colours mean."""
    from rich.text import Text

    line = Text()
    for strategy, style in STYLES.items():
        line.append(f"{strategy.value}", style=style)
        line.append(f" {_MEANINGS[strategy]}  ", style="dim")
    line.rstrip()
    return line
