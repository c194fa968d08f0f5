# SPDX-License-Identifier: Apache-2.0
"""A Hub on loopback that speaks the real protocol, and everything that can go wrong with it on demand.

Files are asked for at /<org>/<repo>/resolve/<revision>/<file>, which answers with commit, ETag and size and sends the
caller on to another host for the bytes, as the real one does (here "localhost" instead of "127.0.0.1"), with ranges.
What a repository holds is asked for at /api/models/<org>/<repo>/revision/<revision>.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "1234567890abcdef1234567890abcdef12345678"


@dataclass
class Faults:
    """What goes wrong, for as long as it is set."""

    status: int | None = None  # of every answer to a question for a file
    error_code: str = ""  # the Hub's own name for the error
    headers: dict[str, str] = field(default_factory=dict)  # sent with it
    only_first: int | None = None  # of that many questions, then all is well
    cut_after: int | None = None  # bytes of each answer, then the connection is closed
    cuts: int = 10**9  # that many times
    stall_at: int | None = None  # place in the file from which on nothing comes
    slow_s: float = 0.0  # pause between blocks
    wrong_bytes: bool = False
    linked_size: int | None = None  # size that is told, instead of the real one
    no_ranges: bool = False
    commit: str = COMMIT


@dataclass
class Hub:
    """The files by "repo/file", what goes wrong, and what was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    sent: int = 0  # bytes of files
    token: str | None = None  # needed to read anything
    endpoint: str = ""

    def asked(self, method: str, part: str = "") -> list[dict[str, str]]:
        """The headers of all requests with a method and a part of the path."""
        return [headers for how, path, headers in self.requests if how == method and part in path]


_BLOCK = 16 * 1024


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        hub = self.hub
        hub.requests.append((self.command, self.path, {key.lower(): value for key, value in self.headers.items()}))
        if found := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", self.path):
            self._resolve(*found.groups())
        elif found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/revision/([^/?]+)(\?.*)?", self.path):
            self._describe(found[1], found[2])
        elif self.path.startswith("/cdn/"):
            self._bytes(self.path.removeprefix("/cdn/").partition("?")[0], body)
        else:
            self._error(404, "")

    def _refused(self, repo: str, revision: str) -> bool:
        """Whether a question about a repository was answered with an error."""
        hub, faults = self.hub, self.hub.faults
        if faults.status is not None and (faults.only_first is None or faults.only_first > 0):
            if faults.only_first is not None:
                faults.only_first -= 1
            self._error(faults.status, faults.error_code, faults.headers)
        elif hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._error(401, "GatedRepo" if self.headers.get("Authorization") is None else "")
        elif not any(name.startswith(f"{repo}/") for name in hub.files):
            self._error(401, "RepoNotFound")  # as the real one, which does not tell what is private
        elif revision not in ("main", faults.commit):
            self._error(404, "RevisionNotFound")
        else:
            return False
        return True

    def _describe(self, repo: str, revision: str) -> None:
        if self._refused(repo, revision):
            return
        own = {name.removeprefix(f"{repo}/"): data for name, data in self.hub.files.items() if name.startswith(repo)}
        files = [{"rfilename": name, "size": len(data), "blobId": "0" * 40} for name, data in own.items()]
        body = json.dumps({"id": repo, "sha": self.hub.faults.commit, "siblings": files}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _resolve(self, repo: str, revision: str, file: str) -> None:
        hub, faults = self.hub, self.hub.faults
        if self._refused(repo, revision):
            return
        content = hub.files.get(f"{repo}/{file}")
        if content is None:
            self._error(404, "EntryNotFound", {"X-Repo-Commit": faults.commit})
            return
        port = self.server.server_address[1]
        self.send_response(302)
        self.send_header("X-Repo-Commit", faults.commit)
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(content) if faults.linked_size is None else faults.linked_size))
        self.send_header("Location", f"http://localhost:{port}/cdn/{repo}/{file}?Signature=secret-of-the-link")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _bytes(self, name: str, body: bool) -> None:
        hub, faults = self.hub, self.hub.faults
        content = hub.files[name]
        if faults.wrong_bytes:
            content = content[:100] + bytes([content[100] ^ 1]) + content[101:]
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and not faults.no_ranges:
            start = int(asked[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if not body:
            return
        sent = 0
        while start + sent < len(content):
            if faults.cut_after is not None and sent >= faults.cut_after and faults.cuts > 0:
                faults.cuts -= 1
                self.close_connection = True
                self.connection.close()
                return
            if faults.stall_at is not None and start + sent >= faults.stall_at:
                deadline = time.monotonic() + 60
                while faults.stall_at is not None and time.monotonic() < deadline:
                    time.sleep(0.05)
                self.close_connection = True
                return
            block = content[start + sent : start + sent + _BLOCK]
            try:
                self.wfile.write(block)
            except OSError:  # whoever asked has gone
                self.close_connection = True
                return
            sent += len(block)
            hub.sent += len(block)
            time.sleep(faults.slow_s)

    def _error(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        body = json.dumps({"error": "words of the server with secret-of-the-server"}).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that are cut are what these tests are about."""


@contextmanager
def serve() -> Iterator[Hub]:
    """A Hub on a free port of loopback, for the length of a block."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        hub.faults.stall_at = None
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
