"""The receiver over real HTTP: what is kept, what is refused, what survives."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stripe_alloy.webhooks.inbox import Inbox
from tests.webhooks.helpers import (
    SECRET,
    Listening,
    body_of,
    event,
    inbox_url,
    kept,
    listen,
    signed,
    wait_for,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("receiver")


@pytest.fixture(scope="module")
def receiver(folder: Path) -> Iterator[Listening]:
    with listen(folder) as listening:
        yield listening


def test_an_event_is_on_the_disk_when_it_is_answered(receiver: Listening, folder: Path) -> None:
    assert receiver.deliver(event(1)) == 200
    assert kept(folder)[-1] == "evt_00000001"


def test_a_duplicate_is_answered_and_kept_once(receiver: Listening, folder: Path) -> None:
    for _ in range(3):
        assert receiver.deliver(event(2)) == 200
    assert kept(folder).count("evt_00000002") == 1


def test_a_replay_of_the_same_bytes_changes_nothing(receiver: Listening, folder: Path) -> None:
    body = body_of(event(3))
    headers = signed(body)
    assert receiver.post(body, headers) == 200
    before = kept(folder)
    assert receiver.post(body, headers) == 200
    assert kept(folder) == before


def refused(name: str) -> tuple[bytes, dict[str, str]]:
    body = body_of(event(9))
    cases = {
        "forged": (body, signed(body, "whsec_somebody_elses")),
        "unsigned": (body, {}),
        "other body": (body.replace(b"cus_2", b"cus_3"), signed(body)),
        "expired": (body, signed(body, at=time.time() - 301)),
        "replayed later": (body, signed(body, at=time.time() - 3_600)),
        "not UTF-8": (b"\xff\xfe\xfd", signed(b"x")),
        "truncated": (body[: len(body) // 2], signed(body)),
        "empty": (b"", signed(b"x")),
        "no JSON, signed": (b"{", signed(b"{")),
        "no event, signed": (b'{"id": "cus_1"}', signed(b'{"id": "cus_1"}')),
        "a thin event, signed": (
            body.replace(b'"event"', b'"v2.core.event"'),
            signed(body.replace(b'"event"', b'"v2.core.event"')),
        ),
    }
    return cases[name]


@pytest.mark.parametrize(
    "name",
    [
        "forged",
        "unsigned",
        "other body",
        "expired",
        "replayed later",
        "not UTF-8",
        "truncated",
        "empty",
        "no JSON, signed",
        "no event, signed",
        "a thin event, signed",
    ],
)
def test_what_is_not_stripes_is_refused(receiver: Listening, folder: Path, name: str) -> None:
    body, headers = refused(name)
    assert receiver.post(body, headers) == 400
    assert "evt_00000009" not in kept(folder)
    assert receiver.ask("GET", "/healthz") == (200, b"ok")


def test_bytes_that_are_no_text_are_refused_even_if_signed(receiver: Listening) -> None:
    import hmac  # noqa: PLC0415 - the package signs text only

    body, at = b'{"id": "\xff"}', int(time.time())
    made = hmac.new(SECRET.encode(), b"%d.%s" % (at, body), "sha256").hexdigest()
    assert receiver.post(body, {"Stripe-Signature": f"t={at},v1={made}"}) == 400


def test_what_is_too_large_is_refused_before_it_is_read(receiver: Listening, folder: Path) -> None:
    large = body_of(event(10, padding="x" * (1 << 20)))
    assert receiver.post(large, signed(large)) == 413
    assert "evt_00000010" not in kept(folder)


def test_what_is_too_large_in_chunks_is_refused(receiver: Listening) -> None:
    host, _, port = urlsplit(receiver.url).netloc.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        try:
            for _ in range(20):
                connection.sendall(chunk)
            connection.sendall(b"0\r\n\r\n")
        except OSError:
            return  # it did not even wait for the rest
        assert b" 413 " in connection.recv(100)


def test_a_connection_that_breaks_off_leaves_nothing(receiver: Listening, folder: Path) -> None:
    body = body_of(event(11))
    headers = {**signed(body), "Host": "x", "Content-Length": str(len(body))}
    host, _, port = urlsplit(receiver.url).netloc.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(["POST / HTTP/1.1", *lines, "", ""]).encode()
        connection.sendall(head + body[:-5])
    assert receiver.deliver(event(12)) == 200
    assert "evt_00000011" not in kept(folder)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 405), ("PUT", "/", 405), ("POST", "/healthz", 400), ("DELETE", "/healthz", 405)],
)
def test_other_requests_are_refused(
    receiver: Listening, method: str, path: str, status: int
) -> None:
    assert receiver.ask(method, path, b"")[0] == status


def test_nothing_of_a_body_or_a_secret_reaches_the_log(receiver: Listening) -> None:
    for name in ("forged", "truncated", "no event, signed"):
        receiver.post(*refused(name))
    log = receiver.log()
    assert "Refused with 400" in log
    assert not any(word in log for word in ("Zo", "cus_", "evt_", SECRET, "somebody"))


def test_at_one_time_many_are_kept(receiver: Listening, folder: Path) -> None:
    statuses: list[int] = []

    def send(first: int) -> None:
        statuses.extend(receiver.deliver(event(n)) for n in range(first, first + 25))

    threads = [threading.Thread(target=send, args=(1_000 + 25 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 200
    assert {f"evt_{n:08d}" for n in range(1_000, 1_200)} <= set(kept(folder))


def test_it_stops_gracefully_and_its_uptime_is_noted(tmp_path: Path) -> None:
    with listen(tmp_path) as receiver:
        assert receiver.deliver(event(1)) == 200
        assert receiver.stop() == 0
    with sqlite3.connect(tmp_path / "inbox.db") as inbox:
        ((started, until),) = inbox.execute(
            "SELECT started, until FROM stripe_alloy_inbox_uptimes"
        ).fetchall()
    assert time.time() - 60 < started < until <= time.time()


def test_what_it_answered_survives_kill_9(tmp_path: Path) -> None:
    answered: list[str] = []
    with listen(tmp_path) as receiver:

        def send() -> None:
            for n in range(100_000):
                try:
                    if receiver.deliver(event(n)) == 200:
                        answered.append(event(n)["id"])
                except OSError:
                    return

        thread = threading.Thread(target=send)
        thread.start()
        wait_for(lambda: len(answered) > 50)
        receiver.kill()
        thread.join()
    assert set(answered) <= set(kept(tmp_path))


def test_a_new_secret_in_the_file_counts_at_once(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("whsec_old  # we_1\n\n# nothing here\n")
    with listen(tmp_path, "--secret-file", str(file)) as receiver:
        assert receiver.deliver(event(1), "whsec_old") == 200
        assert receiver.deliver(event(2), "whsec_new") == 400
        file.write_text("whsec_old\nwhsec_new\n")
        assert receiver.deliver(event(2), "whsec_new") == 200
        assert receiver.deliver(event(3), "whsec_old") == 200
        file.write_text("whsec_new\n")
        assert receiver.deliver(event(4), "whsec_old") == 400
        file.unlink()
        assert receiver.deliver(event(4), "whsec_new") == 200
        assert receiver.deliver(event(5)) == 200  # the environment's is still good
    assert kept(tmp_path) == [f"evt_{n:08d}" for n in (1, 2, 3, 4, 5)]


def run(*options: str, **env: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "stripe_alloy_cli.cli", "listen", *options],
        capture_output=True,
        timeout=60,
        check=False,
        env={**{k: v for k, v in os.environ.items() if "STRIPE" not in k}, **env},
    )
    return done.returncode, done.stderr.decode()


def test_wrong_options_are_named(tmp_path: Path) -> None:
    inbox = ["--inbox", inbox_url(tmp_path)]
    file = tmp_path / "secrets"
    file.write_text("sk_live_not_a_signing_secret\n")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"api_key": "sk_test_1"}))
    cases = [
        (run(*inbox), "No signing secret"),
        (run(STRIPE_WEBHOOK_SECRET=SECRET), "No inbox"),
        (run(*inbox, STRIPE_WEBHOOK_SECRET="sk_live_x"), "must hold signing secrets"),
        (run(*inbox, "--secret-file", str(file)), "each line must be a signing secret"),
        (run("--inbox", "mysql://x", STRIPE_WEBHOOK_SECRET=SECRET), "webhook_inbox"),
        (run("--inbox", "sqlite://", STRIPE_WEBHOOK_SECRET=SECRET), "must be a file"),
        (run(*inbox, "--register", "https://x", STRIPE_WEBHOOK_SECRET=SECRET), "--config"),
        (run("--config", str(config), STRIPE_WEBHOOK_SECRET=SECRET), "No inbox"),
    ]
    for (code, text), words in cases:
        assert code == 1, text
        assert words in text
        assert "Traceback" not in text
        assert "sk_live_" not in text


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with listen(tmp_path) as receiver:
        port = urlsplit(receiver.url).port
        code, text = run(
            "--inbox", inbox_url(tmp_path), "--port", str(port), STRIPE_WEBHOOK_SECRET=SECRET
        )
    assert (code, f"Cannot listen on 127.0.0.1:{port}" in text) == (1, True)


def test_an_inbox_that_cannot_be_written_keeps_nothing_and_says_so(tmp_path: Path) -> None:
    """As on a full disk: Stripe is answered 503, and delivers again later."""
    with listen(tmp_path) as receiver:
        assert receiver.deliver(event(1)) == 200
        holder = Inbox(inbox_url(tmp_path))
        with holder.engine.connect() as connection:
            connection.exec_driver_sql("DROP TABLE stripe_alloy_inbox_proofs")
            connection.commit()
        holder.engine.dispose()
        assert receiver.deliver(event(2)) == 503
        assert "Refused with 503: The inbox fails" in receiver.log()
        assert kept(tmp_path) == ["evt_00000001"]  # opening it made the table anew
        assert receiver.deliver(event(2)) == 200
    assert kept(tmp_path) == ["evt_00000001", "evt_00000002"]
