"""Pages of the site that do not lie in docs/: what the checkout begins with, and the Python reference."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

CHECKOUT = Path(__file__).parents[1]
ROOT_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages."""
    for source, page in ROOT_PAGES.items():
        text = (CHECKOUT / source).read_text("utf-8")
        files.append(File.generated(config, page, content=_LINK.sub(_from_root, text)))
    files.append(File.generated(config, "api.md", content=reference()))
    return files


def on_page_markdown(markdown: str, **_rest: Any) -> str:
    """Links out of docs/ lead to the pages made of those files, or become the file's name."""
    return _LINK.sub(_from_docs, markdown)


def _from_root(link: re.Match[str]) -> str:
    text, target, anchor = link[1], link[2], link[3] or ""
    if target in ROOT_PAGES or target.startswith("docs/"):
        return f"[{text}]({ROOT_PAGES.get(target, target.removeprefix('docs/'))}{anchor})"
    return f"{text} (`{target}` in the checkout)"


def _from_docs(link: re.Match[str]) -> str:
    text, target = link[1], link[2]
    if not target.startswith("../") or (target.endswith(".md") and target[3:] not in ROOT_PAGES):
        return link[0]
    return (
        f"[{text}]({ROOT_PAGES[target[3:]]})"
        if target[3:] in ROOT_PAGES
        else f"{text} (`{target[3:]}` in the checkout)"
    )


def reference() -> str:
    """A page with an entry for each public name, in the order and groups of the package's `__all__`."""
    tree = ast.parse((CHECKOUT / "entropix_edge" / "__init__.py").read_text("utf-8"))
    lists = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    names = [element.value for element in lists[0].elts if isinstance(element, ast.Constant)]  # type: ignore[attr-defined]
    parts = ["# Python\n\nEverything that `import entropix_edge` gives. Examples are in the folder `examples`.\n"]
    parts += [f"::: entropix_edge.{name}\n" for name in names]
    return "\n".join(parts)
