"""Write entropix_edge/llama/architectures.py: what llama.cpp's sources say of the architectures that it knows.

Usage: .venv/bin/python scripts/architectures.py FOLDER
FOLDER holds the sources of the llama-cpp-python that is installed, unpacked:
pip download --no-deps --no-binary :all: llama-cpp-python==VERSION; tar xf llama_cpp_python-VERSION.tar.gz
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import llama_cpp

TARGET = Path(__file__).parents[1] / "entropix_edge" / "llama" / "architectures.py"
ASSERTION = re.compile(r"^\s*GGML_ASSERT\(n_embd_head == n_rot\);", re.MULTILINE)

# What the sources do not say in so many words: look at each that is new. Does it write token after token?
EMBEDDERS = {"llama-embed", "t5encoder"}
OTHERS = {"clip", "gemma4-assistant", "pockettts", "qwen3tts", "wavtokenizer-dec"}  # pictures, drafts, speech

HEAD = '''"""What llama.cpp's sources say of the architectures it knows. Made by scripts/architectures.py, not by hand.

A file is held against this before llama.cpp is trusted with it. The other way would be a process that loads and
decodes each unknown file once. Measured: 0.4 s and more for the smallest model, from memory, against 0.03 s to read
its header; minutes for a large model on a slow card; and it can say only that llama.cpp died, not what is wrong.
What a list can do is go stale. This one does not do so in silence: a test compares it with the library that is
installed, and so does whoever reads a header.
"""

# fmt: off
'''


def cases(source: str, function: str) -> set[str]:
    """The LLM_ARCH_ names of the first run of `case` labels in a function."""
    body = source[source.index(function) :]
    run = re.search(r"(?:\s*case LLM_ARCH_\w+:)+", body)
    assert run, function
    return set(re.findall(r"LLM_ARCH_\w+", run[0]))


def whole_head_rotated(folder: Path, models: str) -> set[str]:
    """The LLM_ARCH_ names whose graph asserts that a head is rotated whole."""
    classes = dict(re.findall(r"case (LLM_ARCH_\w+):\s*return new llama_model_(\w+)\(", models))
    header = (folder / "models" / "models.h").read_text()
    structs = dict(re.findall(r"struct llama_model_(\w+) .*?\{(.*?)\n\};", header, re.DOTALL))
    asserting = set()
    for file in (folder / "models").glob("*.cpp"):
        source = file.read_text()
        if ASSERTION.search(source):
            asserting |= set(re.findall(r"^llama_model_(\w+?)::graph", source, re.MULTILINE))
    borrowed = {name: re.search(r"using graph = llama_model_(\w+)::graph", body) for name, body in structs.items()}
    graphs = {name: found[1] if (found := borrowed.get(name)) else name for name in classes.values()}
    return {name for name, kind in classes.items() if graphs[kind] in asserting}


def shown(name: str, comment: str, members: Iterable[str]) -> str:
    """A frozen set as source, its members in lines of bearable length."""
    texts = ", ".join(f'"{member}"' for member in sorted(members))
    lines = textwrap.fill(f"{texts},", 110, break_long_words=False, break_on_hyphens=False)
    return f"\n# {comment}\n{name} = frozenset([\n{textwrap.indent(lines, '    ')}\n])\n"


def main(folder: Path) -> None:
    folder = folder / "vendor" / "llama.cpp" / "src"
    arch, models = ((folder / name).read_text() for name in ("llama-arch.cpp", "llama-model.cpp"))
    names = dict(re.findall(r"\{ (LLM_ARCH_\w+),\s+\"([^\"(]+)\"\s*\}", arch))
    cacheless = cases(models, "llama_model::create_memory")
    diffusion = cases(arch, "bool llm_arch_is_diffusion")
    encoding = cases(models, "bool llama_model_has_encoder")
    others = OTHERS | {names[key] for key in diffusion | encoding} - EMBEDDERS
    embedders = EMBEDDERS | {names[key] for key in cacheless} - others
    rotated = {names[key] for key in whole_head_rotated(folder, models)}
    text = HEAD + f'MADE_FOR = "{llama_cpp.__version__}"  # of llama-cpp-python\n'
    text += shown("KNOWN", "All of them.", names.values())
    text += shown("EMBEDDERS", "They turn text into vectors.", embedders)
    text += shown("OTHERS", "Encoders with decoders, diffusion, speech, pictures, drafts: no decoding alone.", others)
    text += shown("WHOLE_HEAD_ROTATED", "Their graphs assert that a head's keys are rotated whole.", rotated)
    before = set(re.findall(r'"([^"]+)"', TARGET.read_text().partition("fmt: off")[2])) if TARGET.exists() else set()
    TARGET.write_text(text)
    print("new, to be looked at:", ", ".join(sorted(set(names.values()) - before)) or "none")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
