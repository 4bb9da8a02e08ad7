"""Limits on the receiver's connections: who sends nothing, or slowly, must not keep others out.

A request has to be there `REQUEST_SECONDS` after its connection, or its first byte. Where there
are as many connections as the process may have, a new one takes the place of the one that has
kept its request back for the longest time.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 4096
REQUEST_SECONDS = 10.0
"""From a connection, or the first byte of a further request, to the last byte of its body."""
ANSWER_SECONDS = 60.0
"""From there to the last byte of the answer: longer than the receiver takes to give it."""
SWEEP_SECONDS = 1.0
READ_BYTES = 16 * 1024
"""Bytes taken from a connection at a time."""
HEADER_BYTES = 16 * 1024
ACCEPTED_AT_ONCE = 64
_OTHER_FILES = 64
"""Files that a process has open besides: the inbox, its standard streams, the event loop's own."""


def connections_allowed() -> int:
    """How many connections the process may have; raises its soft limit of open files for them."""
    beside = ACCEPTED_AT_ONCE + _OTHER_FILES
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ModuleNotFoundError:
        return 500 - beside  # of `select`
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + beside
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    files = wanted if soft == resource.RLIM_INFINITY else min(soft, wanted)
    return max(16, files - beside)


class Connections:
    """All connections of a server, the one whose turn to send began first in front."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: dict[BoundedProtocol, float] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def protocol(self, **given: Any) -> BoundedProtocol:
        """Make the protocol of a new connection, as uvicorn asks for it."""
        return BoundedProtocol(self, **given)

    def turn(self, one: BoundedProtocol) -> None:
        """Note that it is a connection's turn to send a request."""
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
    """A connection that ends when it is not used."""

    def __init__(self, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._connections_of_all = connections
        self._between = False

    @property
    def answering(self) -> bool:
        """Whether a whole request is there, and its answer not yet out."""
        return self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        cast(Any, transport).max_size = READ_BYTES
        self._connections_of_all.turn(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._connections_of_all.gone(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some bytes; the first after an answer begin a new request."""
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
        """Close it at once, whatever is under way."""
        self.transport.abort()
