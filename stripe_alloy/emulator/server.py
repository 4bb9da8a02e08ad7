"""HTTP/1.1 server with keep-alive: one thread per connection, one write per response."""

from __future__ import annotations

import gzip
import socket
import socketserver
import threading
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from stripe_alloy.emulator.http_messages import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from collections.abc import Callable

COMPRESS_FROM = 1024
MAX_LINE = 65_536
MAX_HEADERS = 200
MAX_BODY = 16 << 20
"""Maximum bytes of a body, far above all requests of Stripe's API."""
_CHUNK = 65_536
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class _Handler(socketserver.StreamRequestHandler):
    """A connection, on which requests are answered until it is closed."""

    server: Server
    disable_nagle_algorithm = True
    wbufsize = 0

    def handle(self) -> None:
        self.server.opened(self.connection)
        try:
            while self._one():
                pass
        except (ConnectionError, TimeoutError, ValueError):
            pass
        finally:
            self.server.closed(self.connection)

    def _one(self) -> bool:
        head = self._head()
        if head is None:
            return False
        length = _length_of(head)
        if length is None or length > MAX_BODY:
            status = 411 if length is None else 413
            self.wfile.write(
                _rendered(HttpResponse(status, _NO_BODY, {"Connection": "close"}), head)
            )
            return False
        incoming = self._with_body(head, length, known=not length or self.server.admits(head))
        given = self.server.answer(incoming)
        if given.cut == "all":
            return False
        self.wfile.write(_rendered(given, incoming))
        return not given.cut and incoming.headers.get("connection", "").lower() != "close"

    def _with_body(self, head: HttpRequest, length: int, *, known: bool) -> HttpRequest:
        """Read the body; discard it if the key is unknown."""
        if head.headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if known:
            return replace(head, body=self.rfile.read(length))
        while length and (part := self.rfile.read(min(length, _CHUNK))):
            length -= len(part)
        return head

    def _head(self) -> HttpRequest | None:
        line = self.rfile.readline(MAX_LINE)
        if not line.strip():
            return None
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers: dict[str, str] = {}
        while (line := self.rfile.readline(MAX_LINE)) not in (b"\r\n", b"\n", b""):
            if len(headers) == MAX_HEADERS:
                return None
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        path, _, query = target.partition("?")
        return HttpRequest(method, path, query, headers, b"", self.client_address[0])


_NO_BODY = b'{"error": {"message": "The body is too large, or its length is not given."}}'


def _length_of(head: HttpRequest) -> int | None:
    """Return the body's length in bytes; None if it is not given."""
    text = head.headers.get("content-length") or "0"
    known = text.isascii() and text.isdecimal() and "transfer-encoding" not in head.headers
    return int(text[:20]) if known else None


def _rendered(answer: HttpResponse, incoming: HttpRequest) -> bytes:
    body, headers = answer.body, dict(answer.headers)
    headers["Content-Type"] = answer.content_type
    if answer.content_type == "application/json":
        with suppress(msgspec.DecodeError):  # a fault may have broken it
            body = msgspec.json.format(body, indent=2)  # as Stripe formats its responses
    accepted = "gzip" in incoming.headers.get("accept-encoding", "")
    if accepted and len(body) > COMPRESS_FROM:
        body = gzip.compress(body, compresslevel=1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    headers["Content-Length"] = str(len(body))
    if answer.cut == "half":
        body = body[: len(body) // 2]
    lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + body


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Listens, and passes each request to `answer`."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        host: str,
        port: int,
        answer: Callable[[HttpRequest], HttpResponse],
        admits: Callable[[HttpRequest], bool],
    ) -> None:
        self.answer = answer
        self.admits = admits
        """Returns whether to read a request's body, by its headers."""
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__((host, port), _Handler)

    @property
    def port(self) -> int:
        """Return the port."""
        return int(self.server_address[1])

    def opened(self, connection: socket.socket) -> None:
        """Add an open connection."""
        with self._guard:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """Remove a connection."""
        with self._guard:
            self._open.discard(connection)

    def stop(self) -> None:
        """Stop listening and close every connection."""
        self.shutdown()
        self.server_close()
        with self._guard:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client closed it first
