"""POSTs over connections that are kept open: one caller for each thread that delivers."""

from __future__ import annotations

import http.client
import socket
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from urllib3.util import wait_for_read

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 10.0  # seconds for each step: connecting, sending, a part of the answer
NO_ANSWER = 0


class Caller:
    """Makes one request after the other."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], http.client.HTTPConnection] = {}

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The answer's status, or NO_ANSWER."""
        place = urlsplit(url)
        where = place.scheme, place.netloc
        target = (place.path or "/") + (f"?{place.query}" if place.query else "")
        try:
            connection = self._connection(where)
            connection.request("POST", target, body, dict(headers))
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException, ValueError):  # the last: a host that is no name
            self._drop(where)
            return NO_ANSWER
        return answer.status

    def _connection(self, where: tuple[str, str]) -> http.client.HTTPConnection:
        kept = self._kept.get(where)
        if kept is not None and kept.sock is not None and wait_for_read(kept.sock, 0.0):
            self._drop(where)  # the receiver closed it meanwhile
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
        """Let go of the connections."""
        for where in list(self._kept):
            self._drop(where)

    def interrupt(self) -> None:
        """End what is waited for, from another thread."""
        for connection in list(self._kept.values()):
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
