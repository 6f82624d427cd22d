"""The viewer: what `serve` shows at `/`, and the same as one file with traces in it, which asks nothing of anyone."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from ..strategy import describe_table
from .steps import check_metrics
from .trace import as_record, finite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .trace import Trace

_FOLDER = Path(__file__).with_name("viewer")
_SCRIPTS = (
    *("dom", "reply", "table", "words", "pane", "inspector", "timeline", "plane", "sliders", "summary", "save"),
    *("viewer", "api", "settings", "composer", "turns", "store", "tree", "page", "file", "start"),
)
_TITLE = "entropix-edge"

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of the served page: nothing but its own server's files and answers."""


@cache
def page_files() -> dict[str, tuple[bytes, str]]:
    """The files of the served page, by name: content and media type. The page itself has the empty name."""
    head = '<link rel="icon" href="icon.svg">\n<link rel="stylesheet" href="page.css">'
    page = _page(_TITLE, head, '<script src="page.js"></script>')
    return {
        "": (page.encode(), "text/html; charset=utf-8"),
        "page.js": (_script().encode(), "text/javascript; charset=utf-8"),
        "page.css": (_style().encode(), "text/css; charset=utf-8"),
        "icon.svg": ((_FOLDER / "icon.svg").read_bytes(), "image/svg+xml"),
    }


def trace_page(traces: Sequence[tuple[str, Trace]]) -> str:
    """Traces as one HTML file that loads nothing.

    Its policy names the hashes of its own script and style, so that nothing in a trace can run; model text is data.

    Args:
        traces: each with a name to be shown.

    Raises:
        ConfigError: a trace holds what cannot have been measured.
    """
    for name, trace in traces:
        check_metrics(trace, name)
    data = {
        "table": describe_table(),
        "traces": [
            {
                "name": name,
                "header": finite(trace.header),
                "events": [finite(as_record(event)) for event in trace.events],
                "cut": trace.cut,
            }
            for name, trace in traces
        ],
    }
    script, style = _script(), _style()
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{style}</style>'
    foot = f'<script type="application/json" id="traces">{_embedded(data)}</script>\n<script>{script}</script>'
    names = ", ".join(name for name, _trace in traces)
    return _page(f"{names} · {_TITLE}", head, foot)


def _page(title: str, head: str, foot: str) -> str:
    template = Template((_FOLDER / "page.html").read_text("utf-8"))
    return template.substitute(title=html.escape(title), head=head, foot=foot)


@cache
def _script() -> str:
    return "\n".join((_FOLDER / f"{name}.js").read_text("utf-8") for name in _SCRIPTS)


@cache
def _style() -> str:
    return (_FOLDER / "page.css").read_text("utf-8")


def _embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(data, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
