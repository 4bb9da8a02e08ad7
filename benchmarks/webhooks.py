"""Webhooks as Stripe sends them, as many as go in: signed, over connections that stay open."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from stripe import WebhookSignature

from benchmarks.processes import WEBHOOK_SECRET

CONNECTIONS = 32


@dataclass(frozen=True)
class Result:
    """How requests were answered."""

    rate: float
    """Answers a second."""
    p50: float
    """Milliseconds from sending to the answer."""
    p99: float
    refused: int


def request(number: int, rest: dict[str, object]) -> bytes:
    """A signed event, as the bytes of an HTTP request."""
    event = {
        "id": f"evt_{number:010d}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": int(time.time()),
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": "charge.updated",
        "data": {"object": {"id": f"ch_{number % 5_000:08d}", **rest}},
    }
    body = json.dumps(event, indent=2)
    head = [
        "POST / HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json; charset=utf-8",
        f"Content-Length: {len(body.encode())}",
        f"Stripe-Signature: {WebhookSignature.generate_signature_header(body, WEBHOOK_SECRET)}",
    ]
    return ("\r\n".join([*head, "", ""]) + body).encode()


async def _one(
    url: str, requests: list[bytes], start: float, pause: float, took: list[float]
) -> int:
    """Send requests over one connection, one every `pause` seconds; how many were refused."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    refused = 0
    for number, content in enumerate(requests):
        due = start + number * pause
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        sent = max(due, start) if pause else time.perf_counter()
        writer.write(content)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        took.append(time.perf_counter() - sent)
        refused += b" 200 " not in head[:20]
    writer.close()
    return refused


def send(url: str, requests: list[bytes], *, rate: float = 0.0) -> Result:
    """Send all, as fast as they are answered, or so many a second."""

    async def all_of_them() -> Result:
        took: list[float] = []
        start = time.perf_counter()
        pause = CONNECTIONS / rate if rate else 0.0
        shares = [requests[n::CONNECTIONS] for n in range(CONNECTIONS)]
        refused = await asyncio.gather(
            *(
                _one(url, share, start + pause * n / CONNECTIONS, pause, took)
                for n, share in enumerate(shares)
            )
        )
        seconds = time.perf_counter() - start
        took.sort()
        return Result(
            len(took) / seconds,
            took[len(took) // 2] * 1_000,
            took[len(took) * 99 // 100] * 1_000,
            sum(refused),
        )

    return asyncio.run(all_of_them())
