"""Ends requests whose response never ends: a byte now and then resets a read timeout."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Any

LOOK_EVERY = 1.0
"""Seconds between checks of the requests in flight."""


class Watch:
    """Closes connections whose response is not complete after a number of seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._under_way: dict[int, tuple[Any, float]] = {}
        self._shut: set[int] = set()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()

    def over(self, connection_class: Any) -> Any:
        """Return a subclass of a connection class whose requests have a deadline."""
        began = self._began

        class Watched(connection_class):  # type: ignore[misc]
            def request(self, *args: Any, **more: Any) -> None:
                began(self)
                super().request(*args, **more)

        return Watched

    def ended(self) -> bool:
        """End this thread's request; return whether it was closed for taking too long."""
        self._under_way.pop(threading.get_ident(), None)
        if threading.get_ident() not in self._shut:
            return False
        self._shut.discard(threading.get_ident())
        return True

    def close(self) -> None:
        """Stop."""
        self._closed.set()

    def _began(self, connection: Any) -> None:
        self._under_way[threading.get_ident()] = connection, time.monotonic() + self._seconds
        if self._thread is None:
            with self._guard:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
                    self._thread.start()

    def _look(self) -> None:
        while not self._closed.wait(min(LOOK_EVERY, self._seconds)):
            now = time.monotonic()
            for thread, (connection, until) in list(self._under_way.items()):
                if now > until:
                    self._shut.add(thread)
                    _shut(getattr(connection, "sock", None))


def _shut(sock: Any) -> None:
    """Shut a socket down, so that its reader finds the end and closes it."""
    if isinstance(sock, socket.socket):
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not TLS's own, which would wait
