"""A small stand-in for the hub: its API and its file downloads, on this machine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Repository:
    """A repository's files, and how it misbehaves."""

    files: dict[str, bytes]
    gated: bool = False
    status: int | None = None  # with which its listing is answered, without content
    stated: dict[str, str] = field(default_factory=dict)  # path → a wrong sha256 to state
    without_checksums: bool = False
    commit: str = COMMIT


@dataclass
class Hub:
    """What the server offers, and what it was asked for."""

    repositories: dict[str, Repository]
    url: str = ""
    resumes: bool = True
    failure: int | None = None  # status with which everything is answered
    cut_after: list[int] = field(default_factory=list)  # bytes of the next answers before the line drops
    stall_after: int | None = None  # bytes after which an answer waits for `resumed`
    stalled: threading.Event = field(default_factory=threading.Event)
    resumed: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Range

    def downloads(self) -> list[str | None]:
        """The Range header of each file asked for, in order."""
        return [ranges for method, path, ranges in self.requests if method == "GET" and "/resolve/" in path]


@contextmanager
def serve(repositories: dict[str, Repository]) -> Iterator[Hub]:
    """Run the hub in a thread."""
    hub = Hub(repositories)

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.resumed.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if self.hub.failure is not None:
            self._send(self.hub.failure, b"no", {})
        elif path.startswith("/api/models/"):
            self._send_info(path.removeprefix("/api/models/"))
        else:
            repository, _, rest = path.strip("/").partition("/resolve/")
            self._send_file(repository, rest.partition("/")[2])

    def _send_info(self, name: str) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        if repository.status is not None:
            self._send(repository.status, b"no", {})
            return
        siblings = []
        for path, content in repository.files.items():
            sibling: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": "0" * 40}
            if not repository.without_checksums:
                sha256 = self._sha256(repository, path)
                sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        info = {"id": name, "modelId": name, "sha": repository.commit, "tags": [], "siblings": siblings}
        self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _send_file(self, name: str, path: str) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif repository.gated:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif path not in repository.files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repository.commit})
        else:
            self._send_content(repository.files[path], self._sha256(repository, path), repository.commit)

    def _send_content(self, content: bytes, sha256: str, commit: str) -> None:
        headers = {
            "ETag": f'"{sha256}"',
            "X-Linked-Etag": f'"{sha256}"',
            "X-Linked-Size": str(len(content)),
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
        }
        asked = self.headers.get("Range")
        if asked is None or not self.hub.resumes:
            self._send(200, content, headers)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206, content[start:], headers)

    @staticmethod
    def _sha256(repository: Repository, path: str) -> str:
        return repository.stated.get(path) or hashlib.sha256(repository.files[path]).hexdigest()

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        is_file = "Accept-Ranges" in headers
        if is_file and self.hub.cut_after:
            self.wfile.write(body[: self.hub.cut_after.pop(0)])
            self.close_connection = True
        elif is_file and self.hub.stall_after is not None:
            self.wfile.write(body[: self.hub.stall_after])
            self.wfile.flush()
            self.hub.stalled.set()
            self.hub.resumed.wait(30)
            self.close_connection = True
        else:
            self.wfile.write(body)
