"""Text for a terminal, coloured by strategy, or plain for everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from ..types import Origin, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.text import Text

    from ..types import TokenEvent
    from .thoughts import Thoughts
    from .wrap import WordWrap

# rich is imported where something is drawn: most output is plain text, and it takes 20 ms and 2 MiB
STYLES = {
    Strategy.ARGMAX: "green",
    Strategy.ADAPTIVE: "yellow",
    Strategy.BRANCH: "cyan",
    Strategy.PAUSE: "bold magenta",
    Strategy.RESAMPLE: "red",
}

MEANINGS = {
    Strategy.ARGMAX: "sure",
    Strategy.ADAPTIVE: "in between",
    Strategy.BRANCH: "torn",
    Strategy.PAUSE: "lost",
    Strategy.RESAMPLE: "scattered",
}

CORRECTED = "bold blue"
"""The style of tokens that were put in the place of wrong ones."""


def style_of(event: TokenEvent) -> str | None:
    """The style of a token: of its strategy, or of what was corrected; None where it has neither."""
    if event.origin is Origin.FORCED and event.strategy is not Strategy.PAUSE:
        return CORRECTED
    return STYLES[event.strategy] if event.strategy else None


# A model's text may hold escape sequences; on a terminal they are shown, not obeyed.
_VISIBLE = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
_VISIBLE |= {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


class TextPrinter:
    """Writes a reply's text as it comes.

    Args:
        stream: where to.
        colour: colour each token by its strategy, and dim thoughts.
        terminal: make control characters visible instead of sending them.
        thoughts: tells the model's thoughts from the rest.
        folded: leave thoughts out, but for how long they were.
        wrap: breaks lines between words; None leaves that to the terminal.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        colour: bool,
        terminal: bool,
        thoughts: Thoughts | None = None,
        folded: bool = False,
        wrap: WordWrap | None = None,
    ) -> None:
        self._stream = stream
        self._colour = colour
        self._terminal = terminal
        self._thoughts = thoughts
        self._folded = folded
        self._wrap = wrap
        self._hidden = 0  # characters of thoughts that were left out
        self._last = "\n"

    def write(self, event: TokenEvent) -> None:
        """Write one event's text. Raises OSError where the stream does."""
        if not event.text:
            return
        style = style_of(event) or ""
        for text, is_thought in self._thoughts.split(event.text) if self._thoughts else [(event.text, False)]:
            self._part(text, is_thought, style)
        self._stream.flush()

    def finish(self) -> None:
        """Write what is still held back, and end the line where the reply did not."""
        for text, is_thought in self._thoughts.flush() if self._thoughts else ():
            self._part(text, is_thought, "")
        self._unfold()
        if self._wrap:
            self._send(self._wrap.flush())
        if self._last != "\n":
            self._stream.write("\n")
        self._stream.flush()

    def _part(self, text: str, is_thought: bool, style: str) -> None:
        if is_thought and self._folded:
            if not self._hidden:
                self._put("(thinking", "dim")
            self._hidden += len(text)
            return
        self._unfold()
        self._put(text, "dim" if is_thought else style)

    def _unfold(self) -> None:
        """Say how much was left out."""
        if self._hidden:
            self._put(f": {self._hidden} characters)\n", "dim")
            self._hidden = 0

    def _put(self, text: str, style: str) -> None:
        shown = visible(text) if self._terminal else text
        self._last = shown[-1]
        self._send(self._wrap.put(shown, style) if self._wrap else [(shown, style)])

    def _send(self, parts: Iterable[tuple[str, str]]) -> None:
        for text, style in parts:
            self._stream.write(coloured(text, style) if self._colour and style else text)


def visible(text: str) -> str:
    """A text for a terminal: control characters are shown, not obeyed."""
    return text.translate(_VISIBLE)


def coloured(text: str, style: str) -> str:
    """A text in one of rich's styles, for a terminal."""
    from rich.color import ColorSystem
    from rich.style import Style

    return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)


def legend() -> Text:
    """One line that says what the colours mean."""
    from rich.text import Text

    line = Text("colours:", style="dim")
    for strategy, style in STYLES.items():
        line.append(f"  {MEANINGS[strategy]}", style=f"not dim {style}")
    return line.append("  corrected", style=f"not dim {CORRECTED}")
