"""Told to stop while Stripe does not answer: a word at once, a quick end, the state written."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from stripe_alloy.api import client as transport
from stripe_alloy.api import errors
from stripe_alloy.api.client import StripeClient
from stripe_alloy.api.rate_limiter import RateLimiter
from stripe_alloy.emulator import Emulator
from tests.conftest import Command, catalog_of, config_of, parse

TERMINATED = 143
SOON = 8
"""Seconds, for a stop that takes two at most and a machine that is busy."""


@contextmanager
def server(answer: Callable[[socket.socket], object]) -> Iterator[tuple[str, threading.Event]]:
    """A server that does `answer` to each connection; the event is set once there was one."""
    asked, over = threading.Event(), threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve(connection: socket.socket) -> None:
            with closing(connection):
                connection.recv(65_536)
                asked.set()
                try:
                    answer(connection)
                    over.wait()
                except OSError:
                    return

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
        over.set()


class Run:
    """A run whose output is read while it comes: a full pipe would hold it up."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.output = b"", b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self.output = self.process.communicate()

    def stop(self, number: int) -> tuple[list[dict[str, Any]], str]:
        """Send a signal; the messages and the log of what ended soon after."""
        self.process.send_signal(number)
        self._reader.join(SOON)
        ended = not self._reader.is_alive()
        self.process.kill()
        assert ended
        out, err = self.output
        return parse(out), err.decode()


def wait_for(account: Emulator, path: str) -> None:
    """Until the emulator was asked for it."""
    pause = threading.Event()
    while path not in [request.path for request in account.requests]:
        pause.wait(0.05)


def silent(_: socket.socket) -> None:
    """Say nothing."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_server_is_silent_stops_the_run(
    command: Command, number: int, empty: Emulator
) -> None:
    catalog = catalog_of(config_of(empty), "customers")
    state = {"bookmarks": {"customers": {"kept": 1}}}
    with server(silent) as (url, asked):
        config = {"api_key": "sk_test_1", "api_url": url}
        run = Run(command.start(config=config, catalog=catalog, state=state))
        assert asked.wait(60)
        messages, err = run.stop(number)
    assert run.process.returncode == TERMINATED
    assert "Received a stop signal" in err
    assert "Traceback" not in err
    assert [m["value"]["bookmarks"]["customers"]["kept"] for m in messages if "value" in m][-1] == 1


@pytest.mark.parametrize("path", ["/v1/account", "/v1/charges", "/v1/events"])
def test_a_signal_during_an_outage_stops_the_run(
    account: Emulator, command: Command, path: str
) -> None:
    account.faults.add("status", path, status=500, times=None, headers={"Retry-After": "120"})
    config = config_of(account)
    run = Run(command.start(config=config, catalog=catalog_of(config, "charges", "events")))
    wait_for(account, path)
    messages, err = run.stop(signal.SIGTERM)
    assert run.process.returncode == TERMINATED
    assert "Received a stop signal" in err
    assert messages[-1]["type"] == "STATE"


def test_a_signal_while_following_in_an_outage_stops_the_run(
    account: Emulator, command: Command
) -> None:
    account.faults.add(
        "status", "/v1/events", status=500, times=None, headers={"Retry-After": "99"}
    )
    config = config_of(account)
    run = Run(command.start("--follow", config=config, catalog=catalog_of(config, "charges")))
    wait_for(account, "/v1/events")
    messages, err = run.stop(signal.SIGTERM)
    assert run.process.returncode == 0
    assert "Received a stop signal" in err
    assert messages[-1]["type"] == "STATE"


def drip(start: bytes) -> Callable[[socket.socket], None]:
    """Send a beginning, then a byte now and then, for ever."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        pause = threading.Event()
        while not pause.wait(0.05):
            connection.sendall(b" ")

    return answer


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\nX-Header:", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n{"],
    ids=["headers", "body"],
)
def test_an_answer_that_drips_is_given_up(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "ANSWER_TIMEOUT", 0.5)
    monkeypatch.setattr(transport, "MAX_ATTEMPTS", 2)
    with server(drip(start)) as (url, _):
        client = StripeClient(
            api_key="sk_test_x",
            api_url=url,
            api_version="2026-01-01",
            budget=RateLimiter(None),
            max_concurrency=1,
            read_only=True,
        )
        with pytest.raises(errors.StripeUnavailable, match=r"No response.*GET /v1/charges"):
            client.get("/v1/charges")
        client.close()
