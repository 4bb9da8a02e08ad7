"""Bodies of requests: bounded, and read only for those whose key is known."""

from __future__ import annotations

import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stripe_alloy.emulator import Emulator
from stripe_alloy.emulator.server import MAX_BODY

BIG = 8 << 20


@contextmanager
def connected(emulator: Emulator) -> Iterator[socket.socket]:
    port = int(emulator.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        yield connection


def head(key: str, *more: str) -> bytes:
    lines = ["POST /v1/customers HTTP/1.1", f"Authorization: Bearer {key}", *more, "", ""]
    return "\r\n".join(lines).encode()


def answered(connection: socket.socket) -> str:
    return connection.recv(65_536).decode().splitlines()[0]


def test_no_body_of_a_caller_without_a_key_is_kept(empty: Emulator) -> None:
    with connected(empty) as connection:
        body = b"x" * BIG
        tracemalloc.start()
        connection.sendall(head("sk_test_unknown", f"Content-Length: {BIG}") + body)
        assert answered(connection) == "HTTP/1.1 401 Unauthorized"
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < BIG * 1.5  # one copy is the head and body that are sent here


def test_a_connection_goes_on_after_a_key_that_is_unknown(empty: Emulator) -> None:
    with connected(empty) as connection:
        connection.sendall(head("sk_test_unknown", "Content-Length: 6") + b"name=A")
        assert answered(connection) == "HTTP/1.1 401 Unauthorized"
        connection.sendall(head(empty.api_key, "Content-Length: 6") + b"name=B")
        assert answered(connection) == "HTTP/1.1 200 OK"
    assert [customer["name"] for customer in empty.objects("customer")] == ["B"]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Content-Length: {MAX_BODY + 1}", 413),
        (f"Content-Length: 1{'0' * 5_000}", 413),
        ("Content-Length: -1", 411),
        ("Content-Length: many", 411),
        ("Transfer-Encoding: chunked", 411),
    ],
)
def test_a_body_without_bounds_is_refused(empty: Emulator, header: str, status: int) -> None:
    with connected(empty) as connection:
        connection.sendall(head(empty.api_key, header))
        assert answered(connection).split()[1] == str(status)


def test_headers_without_end_end_the_connection(empty: Emulator) -> None:
    with connected(empty) as connection:
        connection.sendall(head(empty.api_key, *(f"X-{n}: 1" for n in range(1_000))))
        with pytest.raises((ConnectionError, IndexError)):
            answered(connection)
