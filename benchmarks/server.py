"""A Stripe that does no work: pages are joined from bytes that are ready before the first request.

Every list endpoint serves the same history of charge-like objects of about 3 KB. With `--limits`
it answers 429 beyond Stripe's documented limits, with `--latency` it lets each answer wait.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

END = 1_793_491_200  # 2026-11-01
DAY = 86_400
PAGE = 100
GLOBAL_PER_SECOND = 100
ENDPOINT_PER_SECOND = 25
ACCOUNT = (
    b'{"id":"acct_bench","object":"account","settings":{"dashboard":{"display_name":"Bench"}}}'
)

HISTORIES: dict[str, Callable[[int, random.Random], list[int]]] = {
    "even": lambda n, rng: [END - rng.randrange(730 * DAY) for _ in range(n)],
    "one-day": lambda n, rng: [END - rng.randrange(DAY) for _ in range(n)],
    "one-second": lambda n, rng: (
        [END - 100 * DAY] * 5_000 + [END - rng.randrange(365 * DAY) for _ in range(n - 5_000)]
    ),
    "burst": lambda n, rng: (
        [END - 3_650 * DAY, END - 3_600 * DAY]
        + [END - rng.randrange(2 * DAY) for _ in range(n - 2)]
    ),
}


def charge_rest() -> bytes:
    """What all objects share: a complete charge of about 3 KB, as the emulator makes them."""
    from stripe_alloy.emulator import Emulator  # noqa: PLC0415 - only the server needs it

    with Emulator(customers=8) as emulator:
        body = next(found for found in emulator.objects("charge") if found["paid"])
    for key in ("id", "created"):
        del body[key]
    body["description"] = "x" * 200
    return json.dumps(body, separators=(",", ":")).encode()[1:]


class History:
    """Objects newest first: number i is `ch_<i>`, created at -keys[i]."""

    def __init__(self, created: list[int]) -> None:
        self.keys = sorted(-second for second in created)
        self._rest = charge_rest()

    def page(self, query: dict[str, list[str]]) -> bytes:
        """The JSON of the page that a list request asks for."""
        first, end = 0, len(self.keys)
        if "created[lt]" in query:
            first = bisect_left(self.keys, -int(query["created[lt]"][0]) + 1)
        elif "created[lte]" in query:
            first = bisect_left(self.keys, -int(query["created[lte]"][0]))
        if "created[gte]" in query:
            end = bisect_left(self.keys, -int(query["created[gte]"][0]) + 1)
        if "starting_after" in query:
            first = int(query["starting_after"][0].removeprefix("ch_")) + 1
        last = min(end, first + int(query.get("limit", ["10"])[0]))
        rest = self._rest
        objects = [
            b'{"id":"ch_%08d","created":%d,%b' % (number, -self.keys[number], rest)
            for number in range(first, last)
        ]
        more = b"true" if last < end else b"false"
        return b'{"object":"list","has_more":%b,"url":"/","data":[%b]}' % (more, b",".join(objects))

    def one(self, name: str) -> bytes:
        """The JSON of one charge."""
        return b'{"id":"%b",%b' % (name.encode(), self._rest)


class Bucket:
    """A token bucket, as Stripe's limiters are, that holds one second's worth."""

    def __init__(self, per_second: float) -> None:
        self._rate = self._tokens = float(per_second)
        self._filled_at = time.monotonic()

    def has_one(self, now: float) -> bool:
        """Fill up; whether a request may pass."""
        self._tokens = min(self._rate, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return self._tokens >= 1

    def take(self) -> None:
        """Let a request pass."""
        self._tokens -= 1


class Limits:
    """Stripe's documented limits: docs.stripe.com/rate-limits."""

    def __init__(self) -> None:
        self._whole = Bucket(GLOBAL_PER_SECOND)
        self._endpoints: defaultdict[str, Bucket] = defaultdict(lambda: Bucket(ENDPOINT_PER_SECOND))

    def refused(self, endpoint: str, now: float) -> str | None:
        """The reason of a 429, if this request is one too many."""
        own = self._endpoints[endpoint]
        if not self._whole.has_one(now):
            return "global-rate"
        if not own.has_one(now):
            return "endpoint-rate"
        self._whole.take()
        own.take()
        return None


class Connection(asyncio.Protocol):
    """One kept-alive HTTP connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, rest = self._buffer.split(b"\r\n\r\n", 1)
            size = _length(head)
            if len(rest) < size:
                return
            body, self._buffer = rest[:size], rest[size:]
            method, target, _ = head.split(b" ", 2)
            answer, wait = self._server.answer(target.decode(), method.decode(), body)
            if wait:
                asyncio.get_running_loop().call_later(wait, self._transport.write, answer)
            else:
                self._transport.write(answer)


class Server:
    """Answers list requests and counts them."""

    def __init__(self, history: History, *, latency: float, limits: bool, seed: int) -> None:
        self._history = history
        self._latency = latency
        self._limits = Limits() if limits else None
        self._rng = random.Random(seed)
        self.counts: Counter[str] = Counter()

    def answer(self, target: str, method: str = "GET", body: bytes = b"") -> tuple[bytes, float]:
        """The bytes of an answer, and the seconds to wait before they go."""
        url = urlsplit(target)
        if url.path == "/_counts":
            return _http(200, json.dumps(self.counts).encode()), 0.0
        wait = self._rng.uniform(0.5, 1.5) * self._latency
        if url.path.startswith("/v1/account"):
            return _http(200, ACCOUNT), wait
        kind, _, name = url.path.removeprefix("/v1/").partition("/")
        endpoint = f"{method} /v1/{kind}/:id" if name else url.path
        reason = self._limits and self._limits.refused(endpoint, time.monotonic())
        if reason:
            self.counts["429"] += 1
            headers = f"Stripe-Rate-Limited-Reason: {reason}\r\nStripe-Should-Retry: true\r\n"
            return _http(429, b'{"error":{"type":"rate_limit_error"}}', headers), wait / 4
        self.counts[endpoint] += 1
        if name:
            whole = kind == "charges" and self._history.one(name)
            return _http(200, whole or _one(kind, name, parse_qs(body.decode()))), wait
        if url.path == "/v1/events":
            return _http(200, b'{"object":"list","has_more":false,"data":[]}'), wait
        return _http(200, self._history.page(parse_qs(url.query))), wait


def _length(head: bytes) -> int:
    """The bytes of a request's body."""
    found = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    return int(found.group(1)) if found else 0


def _one(kind: str, name: str, sent: dict[str, list[str]]) -> bytes:
    """One object, `metadata[step]` as it was sent, else 0."""
    step = sent.get("metadata[step]", ["0"])[0]
    shown = {"id": name, "object": kind.removesuffix("s"), "metadata": {"step": step}}
    return json.dumps({**shown, "description": "x" * 200, "livemode": True}).encode()


def _http(status: int, body: bytes, headers: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
        f"Date: {formatdate(usegmt=True)}\r\n"
        f"Request-Id: req_bench\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


async def serve(server: Server, port: int) -> None:
    """Print the URL, then serve until killed."""
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", port)
    print(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", flush=True)
    await listening.serve_forever()


def main() -> None:
    """Run the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--history", choices=HISTORIES, default="even")
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--limits", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(1)
    history = History(HISTORIES[options.history](options.objects, rng))
    server = Server(history, latency=options.latency, limits=options.limits, seed=2)
    asyncio.run(serve(server, options.port))


if __name__ == "__main__":
    main()
