"""A web server for tests, with the faults of real ones."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What Google Drive answers, with status 200, when a file was fetched too often.
QUOTA = b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>Too many users</html>"


class Server(ThreadingHTTPServer):
    """Serves ``files`` by path on a free port of this machine, at ``url``.

    ``fault`` says of a path what goes wrong when it is asked for: a status to answer instead,
    "page" (QUOTA instead of the file), "whole" (Range is ignored), "break" (the connection ends
    after half of the bytes), or None.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.fault: Callable[[str], int | str | None] = lambda path: None
        self.asked: list[str] = []  # paths, in the order of the requests
        self.ranges: list[str | None] = []  # and the Range of each


class Host(BaseHTTPRequestHandler):
    """Answers like most hosts of files."""

    protocol_version = "HTTP/1.1"
    missing = 404

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.ranges.append(self.headers.get("Range"))
        content = self.content()
        if content is None:
            return self.answer(self.missing)
        fault = self.server.fault(self.path)
        if isinstance(fault, int):
            return self.answer(fault)
        if fault == "page":
            return self.answer(200, QUOTA, {"Content-Type": "text/html; charset=utf-8"})
        total = len(content)
        status, start, headers = 200, 0, {}
        if "Range" in self.headers and fault != "whole":
            status, start = 206, int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            headers = {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
        if start >= total:
            return self.answer(416, b"", {"Content-Range": f"bytes */{total}"})
        headers["Content-Length"] = str(total - start)
        end = start + (total - start) // 2 if fault == "break" else total
        self.answer(status, content[start:end], headers)
        self.close_connection |= fault == "break"

    def content(self) -> bytes | None:
        """The file that is asked for, if there is one."""
        return self.server.files.get(self.path)

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] = {}) -> None:
        usual = {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))}
        self.send_response(status)
        for name, value in (usual | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


class ModelHub(Host):
    """As on the hub of models, ``…/resolve/main/…`` leads to another address, and what is not there
    could also be private."""

    missing = 401

    def do_GET(self) -> None:
        if "/resolve/main/" in self.path and self.path in self.server.files:
            self.server.asked.append(self.path)
            self.server.ranges.append(None)
            self.answer(302, b"", {"Location": f"/store{self.path}"})
        else:
            super().do_GET()

    def content(self) -> bytes | None:
        return self.server.files.get(self.path.removeprefix("/store"))


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler] = Host) -> Iterator[Server]:
    """A server, until the body ends in whatever way."""
    with Server(handler) as server:
        serve = partial(server.serve_forever, poll_interval=0.01)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
