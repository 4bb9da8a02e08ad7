"""Limits on the receiver's connections, so that slow senders do not block others.

A request must be complete `REQUEST_SECONDS` after its connection, or its first byte. If all
connections that the process may have are in use, a new one replaces the one whose request has been
incomplete for longest.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 4096
REQUEST_SECONDS = 10.0
"""Seconds from the connection, or a further request's first byte, to the request's last byte."""
ANSWER_SECONDS = 60.0
"""Seconds from then to the last byte of the response."""
SWEEP_SECONDS = 1.0
READ_BYTES = 16 * 1024
"""Bytes read from a connection at a time."""
HEADER_BYTES = 16 * 1024
ACCEPTED_AT_ONCE = 64
_OTHER_FILES = 64
"""Files that a process has open in addition: inbox, standard streams, event loop."""


def connections_allowed() -> int:
    """Return the maximum number of connections; raises the soft limit of open files."""
    other_files = ACCEPTED_AT_ONCE + _OTHER_FILES
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ModuleNotFoundError:
        return 500 - other_files  # of `select`
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + other_files
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    files = wanted if soft == resource.RLIM_INFINITY else min(soft, wanted)
    return max(16, files - other_files)


class Connections:
    """All connections of a server; the one that has been sending for longest is first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: dict[BoundedProtocol, float] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def protocol(self, **given: Any) -> BoundedProtocol:
        """Create the protocol of a new connection, as uvicorn requires."""
        return BoundedProtocol(self, **given)

    def turn(self, one: BoundedProtocol) -> None:
        """Note that a connection starts to send a request."""
        self._all.pop(one, None)
        self._all[one] = one.loop.time()
        if len(self._all) > self._most:
            self._make_room()
        if self._sweeping is None:
            self._sweeping = one.loop.call_later(SWEEP_SECONDS, self._sweep, one.loop)

    def gone(self, one: BoundedProtocol) -> None:
        """Note that a connection has ended."""
        self._all.pop(one, None)

    def _make_room(self) -> None:
        found = next((one for one in self._all if not one.answering), None)
        if found:
            found.cut_off()
            self.gone(found)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeping = None
        now = loop.time()
        for one, since in list(self._all.items()):
            limit = REQUEST_SECONDS + one.answering * ANSWER_SECONDS
            if now - since > limit:
                one.cut_off()
        if self._all:
            self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep, loop)


class BoundedProtocol(H11Protocol):
    """A connection with a time limit."""

    def __init__(self, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._connections_of_all = connections
        self._between = False

    @property
    def answering(self) -> bool:
        """Whether the request is complete and the response is not."""
        return self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit."""
        super().connection_made(transport)
        cast(Any, transport).max_size = READ_BYTES
        self._connections_of_all.turn(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection."""
        self._connections_of_all.gone(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive bytes; the first after a response start a new request."""
        if self._between:
            self._between = False
            self._connections_of_all.turn(self)
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._between = True
        if not self.transport.is_closing():
            self._connections_of_all.turn(self)
        super().on_response_complete()

    def cut_off(self) -> None:
        """Close it immediately, even during a request."""
        self.transport.abort()
