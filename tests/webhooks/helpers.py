"""A receiver in a process of its own, and requests to it as Stripe makes them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stripe import WebhookSignature

from stripe_alloy.webhooks.inbox import Inbox

SECRET = "whsec_of_the_tests"


def event(number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": f"evt_{number:08d}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": int(time.time()),
        "livemode": False,
        "type": "customer.updated",
        "data": {"object": {"id": f"cus_{number % 7}", "object": "customer", "name": "Zoë"}},
        **more,
    }


def body_of(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()


def signed(body: bytes, *secrets: str, at: float | None = None) -> dict[str, str]:
    when = int(time.time() if at is None else at)
    made = [
        WebhookSignature.generate_signature_header(body.decode(), secret, when)
        for secret in secrets or (SECRET,)
    ]
    parts = [f"t={when}", *(header.partition(",")[2] for header in made)]
    return {"Stripe-Signature": ",".join(parts), "Content-Type": "application/json"}


@dataclass
class Listening:
    url: str
    process: subprocess.Popen[bytes]
    errors: Path

    def post(self, body: bytes, headers: dict[str, str], path: str = "/") -> int:
        return self.ask("POST", path, body, headers)[0]

    def deliver(self, value: dict[str, Any], *secrets: str) -> int:
        body = body_of(value)
        return self.post(body, signed(body, *secrets))

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Any = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def log(self) -> str:
        return self.errors.read_text("utf-8")


@contextmanager
def listen(
    folder: Path,
    *options: str,
    port: int = 0,
    env: dict[str, str] | None = None,
    open_files: int | None = None,
) -> Iterator[Listening]:
    """The command, until the block ends; its inbox is `inbox.db` in the folder."""
    errors = folder / f"listen-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "stripe_alloy_cli.cli", "listen", "--port", str(port)]
    if "--inbox" not in options and "--config" not in options:
        command += ["--inbox", inbox_url(folder)]
    if open_files:
        command = ["sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh", *command]
    with errors.open("wb") as out:
        process = subprocess.Popen(
            [*command, *options],
            stderr=out,
            env={**os.environ, "STRIPE_WEBHOOK_SECRET": SECRET, **(env or {})},
        )
    try:
        wait_for(lambda: "Listening at" in errors.read_text() or process.poll() is not None)
        text = errors.read_text()
        assert "Listening at" in text, text
        yield Listening(text.split("Listening at ")[1].split("/ ")[0], process, errors)
    finally:
        process.kill()
        process.wait(30)


def inbox_url(folder: Path) -> str:
    return f"sqlite:///{folder}/inbox.db"


def kept(folder: Path) -> list[str]:
    """The ids of the events in the inbox, in the order in which they came."""
    inbox = Inbox(inbox_url(folder))
    with inbox.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT id FROM stripe_alloy_inbox_events ORDER BY seq"
        ).fetchall()
    inbox.close()
    return [row[0] for row in rows]


def wait_for(happened: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
