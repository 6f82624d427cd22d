"""Models from the hub, through the true client, from a stand-in for the hub on this machine.

The client reads its environment when it is imported, so each user is a process of its own; one
process does as much as it can.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hub_server import COMMIT, Hub, Repository, serve

from entropix_edge.errors import DownloadError
from entropix_edge.hub.failures import plain_errors

# Calls functions of the room, given as JSON lines [function, name, options] on stdin; prints one
# JSON line each: the result or the error, the progress and the warnings.
DRIVER = """
import json, logging, sys
from entropix_edge import hub
from entropix_edge.errors import EntropixError
from entropix_edge.hub import paths
paths.checkout_models = lambda: None
warnings = []
handler = logging.Handler()
handler.emit = lambda record: warnings.append(record.getMessage())
logging.getLogger("entropix_edge").addHandler(handler)
for line in sys.stdin:
    function, arguments, options = json.loads(line)
    progress = []
    if function == "resolve":
        options["progress"] = lambda *report: progress.append(report)
    try:
        answer = {"result": getattr(hub, function)(*arguments, **options)}
    except EntropixError as error:
        kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
        answer = {"error": kinds[:kinds.index(" EntropixError")], "message": str(error)}
    print(json.dumps({**answer, "progress": progress, "warnings": warnings}, default=str), flush=True)
    warnings.clear()
"""

CONTENT = os.urandom(300_000)


@dataclass
class User:
    """Someone with folders of their own, who asks this hub."""

    home: Path
    hub: Hub

    def start(self, **environment: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        settings = {
            "HOME": self.home,
            "HF_HOME": self.home / "hf",
            "HF_ENDPOINT": self.hub.url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "ENTROPIX_EDGE_HOME": self.home / "data",
            "PYTHONPATH": Path(__file__).parents[1],
            "NO_PROXY": "127.0.0.1",
        }
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", DRIVER],
            env=kept | {name: str(value) for name, value in settings.items()} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *calls: tuple[Any, ...], **environment: str) -> list[dict[str, Any]]:
        """Make the calls, (function, name, options), in one process; nothing else may be printed."""
        lines = [json.dumps([call[0], call[1:2], call[2] if len(call) > 2 else {}]) for call in calls]
        with self.start(**environment) as process:
            output, errors = process.communicate("\n".join(lines), timeout=60)
        assert errors == ""
        return [json.loads(line) for line in output.splitlines()]

    def blobs(self) -> list[str]:
        return sorted(path.name[64:] for path in self.home.glob("hf/hub/*/blobs/*"))


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    split = {f"big-Q4_K_M-0000{number}-of-00002.gguf": bytes([number]) * 1000 for number in (1, 2)}
    repositories = {
        "some/model": Repository(
            {
                "README.md": b"#",
                "model-Q8_0.gguf": CONTENT[:1000],
                "model-Q4_K_M.gguf": CONTENT,
                "mmproj.gguf": b"x",
            }
        ),
        "some/split": Repository(split),
        "some/gated": Repository({"m.gguf": b"GGUF"}, gated=True),
        "some/damaged": Repository({"m.gguf": b"GGUF"}, stated={"m.gguf": "0" * 64}),
        "some/unsigned": Repository({"m.gguf": b"GGUF"}, without_checksums=True),
        "some/floats": Repository({"model.safetensors": b"x"}),
        "some/forbidden": Repository({}, status=403),
        "some/teapot": Repository({}, status=418),
        "some/page": Repository({}, status=200),
    }
    with serve(repositories) as hub:
        yield User(tmp_path, hub)


def test_fetched_once_and_found_again(user: User) -> None:
    first, second, quant, offline, listed, removed, left, gone = user.call(
        ("resolve", "some/model"),
        ("resolve", "hf.co/some/model/model-Q4_K_M.gguf"),
        ("resolve", "some/model:q8_0"),
        ("resolve", "some/model", {"offline": True}),
        ("installed",),
        ("remove", "some/model:Q4_K_M"),
        ("installed",),
        ("remove", "some/model:Q4_K_M"),
    )
    path = Path(first["result"])
    assert path.match(f"hf/hub/models--some--model/snapshots/{COMMIT}/model-Q4_K_M.gguf")
    assert path.parents[1].with_name("refs").joinpath("main").read_text() == COMMIT
    assert first["progress"][-1] == ["fetching model-Q4_K_M.gguf", len(CONTENT), len(CONTENT)]
    assert second["result"] == offline["result"] == first["result"]
    assert second["progress"] == offline["progress"] == []
    assert Path(quant["result"]).read_bytes() == CONTENT[:1000]
    assert len(user.hub.downloads()) == 2
    small = f"InstalledModel(name='some/model:Q8_0', path={Path(quant['result'])!r}, size=1000)"
    assert small in listed["result"]
    assert len(listed["result"]) == 2
    assert removed["result"] == len(CONTENT)
    assert left["result"] == [small]
    assert gone["error"] == "ModelNotFoundError ModelError"


def test_a_second_process_only_asks_what_is_there(user: User) -> None:
    [first] = user.call(("resolve", "some/model"))
    asked = len(user.hub.requests)
    again, removed = user.call(("resolve", "some/model"), ("remove", "some/model"))
    assert again["result"] == first["result"]
    assert again["progress"] == []
    assert [path for _, path, _ in user.hub.requests[asked:]] == ["/api/models/some/model"]
    assert removed["result"] == len(CONTENT)


def test_a_dropped_connection_is_taken_up_where_it_broke(user: User) -> None:
    user.hub.cut_after = [100_000, 50_000]
    [answer] = user.call(("resolve", "some/model"))
    assert Path(answer["result"]).read_bytes() == CONTENT
    assert user.hub.downloads() == [None, "bytes=100000-", "bytes=150000-"]


def test_an_interrupted_process_is_taken_up_by_the_next(user: User) -> None:
    user.hub.stall_after = 200_000
    with user.start() as process:
        assert process.stdin
        process.stdin.write('["resolve", ["some/model"], {}]\n')
        process.stdin.flush()
        assert user.hub.stalled.wait(30)
        [partial] = _wait_for(user.home / "hf", "*.incomplete", 200_000)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert errors.endswith("KeyboardInterrupt\n")
    assert partial.stat().st_size == 200_000

    user.hub.stall_after = None
    [answer] = user.call(("resolve", "some/model"))
    assert Path(answer["result"]).read_bytes() == CONTENT
    assert user.hub.downloads() == [None, "bytes=200000-"]
    assert user.blobs() == [""]


def test_a_hub_that_cannot_resume_starts_again(user: User) -> None:
    user.hub.cut_after = [100_000]
    user.hub.resumes = False
    [answer] = user.call(("resolve", "some/model"))
    assert Path(answer["result"]).read_bytes() == CONTENT
    assert user.hub.downloads() == [None, "bytes=100000-"]


@pytest.mark.parametrize("length", [1000, len(CONTENT) + 1])
def test_a_beginning_of_something_else(user: User, length: int) -> None:
    blob = user.home / "hf/hub/models--some--model/blobs" / hashlib.sha256(CONTENT).hexdigest()
    blob.parent.mkdir(parents=True)
    blob.with_name(f"{blob.name}.incomplete").write_bytes(b"?" * length)
    first, second = user.call(("resolve", "some/model"), ("resolve", "some/model"))
    if length < len(CONTENT):
        assert "came damaged" in first["message"]
    assert Path(second["result"]).read_bytes() == CONTENT
    assert user.blobs() == [""]


def test_two_processes_fetch_it_once(user: User) -> None:
    processes = [user.start(), user.start()]
    for process in processes:
        output, errors = process.communicate('["resolve", ["some/model"], {}]\n', timeout=60)
        assert errors == ""
        assert Path(json.loads(output)["result"]).read_bytes() == CONTENT
    assert user.hub.downloads() == [None]


def test_a_cache_without_links_is_checked_by_our_own_record(user: User) -> None:
    calls = (("resolve", "some/model"), ("resolve", "some/model", {"offline": True}))
    online, offline = user.call(*calls, HF_HUB_DISABLE_SYMLINKS="1")
    assert not Path(online["result"]).is_symlink()
    assert offline["result"] == online["result"]
    (user.home / "data" / "verified.json").unlink()
    shutil.rmtree(next(user.home.glob("hf/hub/*/blobs")))  # as where the client moved the file out of it
    unknown, known = user.call(calls[1], calls[1])
    assert unknown["result"] == known["result"] == online["result"]
    assert unknown["warnings"] == [f"{online['result']} is used unchecked: the cache does not say its checksum"]
    assert known["warnings"] == []


def test_a_cache_copied_with_what_its_links_point_at_is_checked_by_its_blobs(user: User) -> None:
    [first] = user.call(("resolve", "some/model"))
    cache = user.home / "hf"
    shutil.copytree(cache, user.home / "copy")
    (user.home / "data" / "verified.json").unlink()
    shutil.rmtree(cache)
    (user.home / "copy").rename(cache)
    assert not Path(first["result"]).is_symlink()
    [offline] = user.call(("resolve", "some/model", {"offline": True}))
    assert offline["result"] == first["result"]
    assert offline["warnings"] == []
    Path(first["result"]).write_bytes(CONTENT[:-1])  # changed since
    [other] = user.call(("resolve", "some/model", {"offline": True}))
    assert "is used unchecked" in other["warnings"][0]


ASKING_FAILS = {
    "a proxy that is not there": ({"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}, "no connection"),
    "a proxy of no known kind": ({"HTTP_PROXY": "nonsense://x", "NO_PROXY": ""}, "Unknown scheme for proxy"),
    "a missing certificate file": (
        {"SSL_CERT_FILE": "/none.pem"},
        "certificates cannot be read (SSL_CERT_FILE=/none.pem",
    ),
    "a certificate file with none in it": ({"SSL_CERT_FILE": __file__}, "certificates cannot be read (SSL_CERT_FILE="),
    "a token with odd letters": ({"HF_TOKEN": "schl\u00fcssel"}, "the token has a character that no token has"),
    "a hub at no address": ({"HF_ENDPOINT": "http://127.0.0.1:port"}, "Port could not be cast"),
}


@pytest.mark.parametrize("case", ASKING_FAILS)
def test_whatever_fails_on_the_way_to_the_hub_the_cache_serves(user: User, case: str) -> None:
    environment, reason = ASKING_FAILS[case]
    [first] = user.call(("resolve", "some/model:Q8_0"))
    here, nothing = user.call(("resolve", "some/model"), ("resolve", "some/split"), **environment)
    assert here["result"] == first["result"]
    assert reason in here["warnings"][0]
    assert here["warnings"][0].endswith(": using what is in the cache")
    assert nothing["error"] == "DownloadError ModelError"
    assert reason in nothing["message"]
    assert "\n" not in nothing["message"]


@pytest.mark.parametrize("status", [401, 403, 404, 418, 429, 500])
def test_whatever_the_hub_answers_the_cache_serves(user: User, status: int) -> None:
    [first] = user.call(("resolve", "some/model:Q8_0"))
    user.hub.failure = status
    here, nothing = user.call(("resolve", "some/model"), ("resolve", "some/split"))
    assert here["result"] == first["result"]
    assert here["warnings"][0].endswith(": using what is in the cache")
    assert "result" not in nothing


def test_a_download_that_breaks_leaves_what_was_there_before(user: User) -> None:
    [first] = user.call(("resolve", "some/model:Q8_0"))
    repository = user.hub.repositories["some/model"]
    repository.commit = "beef" + COMMIT[4:]
    repository.files["model-Q8_0.gguf"] = b"newer"
    repository.stated["model-Q8_0.gguf"] = "0" * 64
    [again] = user.call(("resolve", "some/model:Q8_0"))
    assert again["result"] == first["result"]
    assert "came damaged" in again["warnings"][0]


def test_a_damaged_file_in_the_cache_is_said_where_the_hub_cannot_be_asked(user: User) -> None:
    [first] = user.call(("resolve", "some/model"))
    Path(first["result"]).resolve().write_bytes(CONTENT[:-1] + b"?")
    user.hub.failure = 503
    [answer] = user.call(("resolve", "some/model"))
    assert answer["error"] == "ModelFileError ModelError"
    assert "is damaged (its checksum differs)" in answer["message"]


def test_a_user_without_a_home_is_told_what_to_set(user: User) -> None:
    program = f"import pwd\ndef nobody(*_): raise KeyError\npwd.getpwuid = nobody\n{DRIVER}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_", "HOME"))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=kept | {"HF_ENDPOINT": user.hub.url, "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(Path(__file__).parents[1])},
        input='["resolve", ["some/model"], {}]\n["installed", [], {}]\n',
        capture_output=True,
        text=True,
        timeout=60,
        cwd=user.home,
    )
    fetched, listed = map(json.loads, done.stdout.splitlines())
    assert fetched["message"].endswith("this user has no home folder: set HF_HOME to a folder")
    assert listed["result"] == []
    assert list(user.home.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "cannot fetch u/r: the disk is full"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/x"),
            "cannot fetch u/r: .*Permission denied: '/x'",
        ),
        (ConnectionResetError("reset\nby peer"), r"no connection to the hub \(reset\)$"),
        (RuntimeError(), "cannot fetch u/r: RuntimeError"),
    ],
)
def test_no_other_error_escapes(error: Exception, message: str) -> None:
    with pytest.raises(DownloadError, match=message), plain_errors("u/r"):
        raise error


def test_importing_the_room_is_cheap() -> None:
    program = "import sys, entropix_edge.hub; sys.exit('huggingface_hub' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0


def _wait_for(folder: Path, pattern: str, size: int) -> list[Path]:
    """Wait until the file is that long: what came is on its way through the client."""
    for _ in range(500):
        found = [path for path in folder.rglob(pattern) if path.stat().st_size >= size]
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"no {pattern} of {size} bytes")


def test_split_models_are_fetched_whole(user: User) -> None:
    online, offline, listed = user.call(
        ("resolve", "some/split"), ("resolve", "some/split:q4_k_m", {"offline": True}), ("installed",)
    )
    first = Path(online["result"])
    assert first.read_bytes() == b"\1" * 1000
    assert first.with_name("big-Q4_K_M-00002-of-00002.gguf").read_bytes() == b"\2" * 1000
    assert offline["result"] == online["result"]
    assert listed["result"] == [f"InstalledModel(name='some/split:Q4_K_M', path={first!r}, size=2000)"]


def test_what_can_be_wrong_is_said_in_one_line(user: User) -> None:
    expected = {
        "some/missing": ("ModelNotFoundError ModelError", "no repository some/missing on the hub"),
        "some/model:Q5_K_M": ("ModelNotFoundError ModelError", "no quantisation Q5_K_M: it has Q4_K_M, Q8_0"),
        "some/model/other.gguf": ("ModelNotFoundError ModelError", "no file other.gguf"),
        "some/floats": ("ModelNotFoundError ModelError", "has no GGUF file"),
        "some/..bad": ("ModelNotFoundError ModelError", "is not a repository's name"),
        "some/gated": ("DownloadError ModelError", "accept its licence"),
        "some/damaged": ("DownloadError ModelError", "came damaged"),
        "some/unsigned": ("DownloadError ModelError", "states no checksum"),
        "some/forbidden": ("DownloadError ModelError", "check the token"),
        "some/teapot": ("DownloadError ModelError", "418"),
        "some/page": ("DownloadError ModelError", "is not the hub"),
    }
    for (name, (kind, message)), answer in zip(
        expected.items(), user.call(*(("resolve", name) for name in expected)), strict=True
    ):
        assert answer["error"] == kind, name
        assert message in answer["message"], name
        assert "\n" not in answer["message"], name
    assert user.blobs() in ([], [".incomplete"])  # the gated one may leave its empty beginning


def test_a_damaged_file_in_the_cache_is_fetched_again(user: User) -> None:
    [first] = user.call(("resolve", "some/model"))
    Path(first["result"]).resolve().write_bytes(CONTENT[:-1] + b"?")
    offline, online = user.call(("resolve", "some/model", {"offline": True}), ("resolve", "some/model"))
    assert offline["error"] == "ModelFileError ModelError"
    assert "is damaged" in offline["message"]
    assert Path(online["result"]).read_bytes() == CONTENT
    assert "is damaged" in online["warnings"][0]


def test_without_the_hub_the_cache_serves(user: User) -> None:
    [first] = user.call(("resolve", "some/model:Q8_0"))
    asked = len(user.hub.requests)

    never, here, missing, partly = user.call(
        ("resolve", "some/split"),
        ("resolve", "some/model"),
        ("resolve", "some/split:Q4_K_M"),
        ("resolve", "some/model:Q4_K_M"),
        HF_HUB_OFFLINE="1",
    )
    assert len(user.hub.requests) == asked
    assert here["result"] == first["result"]
    assert never["message"] == "some/split is not on this machine: fetch it without offline=True"
    assert missing["error"] == "DownloadError ModelError"
    assert "it has Q8_0" in partly["message"]

    for environment in ({"HF_ENDPOINT": "http://127.0.0.1:9"}, {}):  # nobody listens; the hub is ill
        user.hub.failure = 503
        down, nothing = user.call(("resolve", "some/model"), ("resolve", "some/split"), **environment)
        assert down["result"] == first["result"]
        assert "using what is in the cache" in down["warnings"][0]
        assert nothing["error"] == "DownloadError ModelError"
        assert "\n" not in nothing["message"]
