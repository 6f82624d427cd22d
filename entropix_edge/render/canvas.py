"""matplotlib, imported when something is drawn: a figure with our settings, written as SVG, PNG or PDF."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import EntropixError
from ..types import Strategy
from .steps import CORRECTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure  # others have the types from here

Format = Literal["svg", "png", "pdf"]
FORMATS: tuple[Format, ...] = get_args(Format)

COLOURS: Mapping[str, str] = {
    Strategy.ARGMAX.value: "#3f7d4e",
    Strategy.ADAPTIVE.value: "#c49a1a",
    Strategy.BRANCH.value: "#0a7c94",
    Strategy.PAUSE.value: "#a0309a",
    Strategy.RESAMPLE.value: "#c23127",
    CORRECTED: "#2f5fd0",
}
"""Of strategies, and of what was corrected."""

_SETTINGS: dict[Any, object] = {
    "svg.hashsalt": "entropix-edge",  # the same file from the same data
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "legend.frameon": False,
    "text.parse_math": False,  # a model's text may hold dollar signs
}
_DPI = 130
_METADATA: Mapping[Format, dict[str, None]] = {"svg": {"Date": None}, "png": {}, "pdf": {"CreationDate": None}}


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw and write with our settings, whatever the user's own are.

    Raises:
        EntropixError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        import matplotlib.figure
    except ModuleNotFoundError as error:
        raise EntropixError(
            f"plots need {error.name}, which is not installed: pip install 'entropix-edge[plot]'"
        ) from error
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # of scripts that the font lacks
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, its size in inches. Only within `drawing`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def new_axes(width: float = 5.2, height: float = 4.0) -> tuple[Figure, Axes]:
    """A figure with one plot."""
    figure = new_figure(width, height)
    return figure, figure.subplots()


def encoded(figure: Figure, form: Format) -> bytes:
    """A figure as the content of a file. Only within `drawing`."""
    data = io.BytesIO()
    figure.savefig(data, format=form, dpi=_DPI, metadata=_METADATA[form])
    return data.getvalue()


def shown(text: str, most: int = 60) -> str:
    """A stranger's text for a plot: in one line, what cannot be printed replaced, a long one cut in its middle."""
    line = text.replace("\n", "\\n").replace("\t", " ")
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
    if len(line) <= most:
        return line
    half = (most - 1) // 2
    return f"{line[: most - 1 - half]}…{line[-half:]}"
