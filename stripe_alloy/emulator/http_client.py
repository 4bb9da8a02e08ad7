"""Sends POST requests over kept-alive connections, one client per delivery thread."""

from __future__ import annotations

import http.client
import socket
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from urllib3.util import wait_for_read

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 10.0  # seconds to connect, to send, and to read
NO_ANSWER = 0


class Caller:
    """Sends requests one after the other."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], http.client.HTTPConnection] = {}

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Return the status of the response, or NO_ANSWER."""
        place = urlsplit(url)
        where = place.scheme, place.netloc
        target = (place.path or "/") + (f"?{place.query}" if place.query else "")
        try:
            connection = self._connection(where)
            connection.request("POST", target, body, dict(headers))
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException, ValueError):  # ValueError: an invalid host name
            self._drop(where)
            return NO_ANSWER
        return answer.status

    def _connection(self, where: tuple[str, str]) -> http.client.HTTPConnection:
        kept = self._kept.get(where)
        if kept is not None and kept.sock is not None and wait_for_read(kept.sock, 0.0):
            self._drop(where)  # the receiver closed it
        if where not in self._kept:
            scheme, netloc = where
            kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
            self._kept[where] = kinds[scheme](netloc, timeout=TIMEOUT)
        return self._kept[where]

    def _drop(self, where: tuple[str, str]) -> None:
        connection = self._kept.pop(where, None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the connections."""
        for where in list(self._kept):
            self._drop(where)

    def interrupt(self) -> None:
        """Abort the request in progress, from another thread."""
        for connection in list(self._kept.values()):
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
