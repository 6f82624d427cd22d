"""What the library would cost where our own stands for it: `.venv/bin/python scripts/replacements.py [PART ...]`.

kernels     start and memory of a process that loads one kernel: by numba from its own cache, by llvmlite from ours
downloads   what is fetched again of a file of 100 MB that breaks off at 60 %: the connection, or the process (Ctrl-C)
statistics  scipy.stats: disk, import, memory (in an environment that has scipy)
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

SIZE = 100_000_000  # bytes
STOP = 60_000_000
RUNS = 7  # the least of so many counts

MEASURE = """
import time, numpy, re, pathlib
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
logits, memory, start = numpy.zeros(49152, numpy.float32), anonymous(), time.perf_counter()
{}
print(time.perf_counter() - start, anonymous() - memory)
"""
NUMBA = """import sys
sys.path.insert(0, {folder!r})
import cached_kernel
cached_kernel.largest(logits)"""
CACHED = """import numba
@numba.njit(cache=True)
def largest(logits):
    found = logits[0]
    for x in logits:
        found = max(found, x)
    return found
"""
LINKED = "from entropix_edge.metrics import describe; describe(logits, 0)"

THEIRS = "import huggingface_hub; huggingface_hub.hf_hub_download('someone/model', 'model.gguf')"
OURS = "from entropix_edge.hub import resolve; resolve('someone/model/model.gguf')"


def measured(program: str) -> str:
    """Seconds and anonymous memory of what a program does after `import numpy`."""
    command = [sys.executable, "-c", MEASURE.format(program)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    lines = [
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout for _ in range(RUNS)
    ]
    seconds, memory = (min(column) for column in zip(*(map(float, line.split()) for line in lines), strict=True))
    return f"{seconds:.2f} s, {memory:.0f} MiB"


def kernels() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cached_kernel.py").write_text(CACHED)
        print(f"a kernel by numba, from its cache: {measured(NUMBA.format(folder=folder))}")
    print(f"a kernel by llvmlite, from ours: {measured(LINKED)}")


def downloads() -> None:
    for name, program in (("huggingface_hub", THEIRS), ("entropix-edge", OURS)):
        for broken in ("connection", "process"):
            twice = fetched_again(program, broken) / 1e6
            print(f"a broken {broken}, {name}: {twice:.1f} MB fetched again")


def fetched_again(program: str, broken: str) -> int:
    import hub_server

    repository = hub_server.Repository({"model.gguf": bytes(SIZE)})
    with tempfile.TemporaryDirectory() as home, hub_server.serve({"someone/model": repository}) as hub:
        environment = os.environ | {"HF_HOME": home, "HF_ENDPOINT": hub.url, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", program]
        if broken == "connection":
            hub.cut_after = [STOP]
        else:
            hub.stall_after = STOP
            with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as first:
                hub.stalled.wait()
                first.send_signal(signal.SIGINT)
            hub.stall_after = None
        subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
        ranges = hub.downloads()
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0 for asked in ranges[1:]]
    return STOP + sum(SIZE - start for start in starts) - SIZE


def statistics() -> None:
    found = importlib.util.find_spec("scipy")
    if found is None or not found.submodule_search_locations:
        print(
            "scipy is not installed here: try `python -m venv V && V/bin/pip install scipy`, and this with V/bin/python"
        )
        return
    place = Path(found.submodule_search_locations[0])
    files = [path for folder in (place, place.with_name("scipy.libs")) for path in folder.rglob("*") if path.is_file()]
    disk = sum(path.stat().st_size for path in files) / 1e6
    print(f"scipy: {disk:.0f} MB on disk; import scipy.stats: {measured('import scipy.stats')}")


PARTS = {"kernels": kernels, "downloads": downloads, "statistics": statistics}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
