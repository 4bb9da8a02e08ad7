"""Webhooks: each event goes to the endpoints that want it, signed, again until it is taken."""

from __future__ import annotations

import heapq
import hmac
import http.client
import itertools
import random
import threading
import time
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from stripe_alloy.emulator.store import Query

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stripe_alloy.emulator.clock import Clock
    from stripe_alloy.emulator.store import Store

JSON = dict[str, Any]
KIND = "webhook_endpoint"
RETRIES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before each further try: Stripe's own go up to three days."""
TIMEOUT = 10.0
WORKERS = 8
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Attempt:
    """One try to deliver an event; status 0 stands for no answer."""

    event: str
    endpoint: str
    attempt: int
    status: int
    at: float


@dataclass(frozen=True, order=True)
class _Delivery:
    due: float
    number: int
    event: str = field(compare=False)
    endpoint: str = field(compare=False)
    body: bytes = field(compare=False)
    attempt: int = field(compare=False, default=1)
    again: bool = field(compare=False, default=False)  # a success that is made a second time


class Webhooks:
    """What is to be delivered, and who does it; threads begin with the first delivery."""

    def __init__(
        self, store: Store, clock: Clock, platform: str, version: str, retries: Sequence[float]
    ) -> None:
        self._store, self._clock = store, clock
        self._platform, self._version = platform, version
        self._retries = tuple(retries)
        self._random = random.Random(1)  # noqa: S311 - it only shuffles
        self._change = threading.Condition()
        self._queue: list[_Delivery] = []
        self._numbers = itertools.count()
        self._pending = 0
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self.duplicates = 0.0
        """Share of the deliveries that are made a second time."""
        self.disorder = 0.0
        """Seconds that a delivery waits at the most, each for a time of its own."""
        self.paused = False
        self.deliveries: list[Attempt] = []
        """What was tried, oldest first."""

    # ------------------------------------------------------------------ what there is to tell

    def endpoints(self) -> list[tuple[JSON, JSON]]:
        """Each endpoint, with what is stored beside it: its secrets, and whose events it gets."""
        found = self._store.select(Query(self._platform, KIND))
        return [(_decode(row.body), _decode(row.extra or "{}")) for row in found]

    def tell(self, account: str, told: Iterable[tuple[JSON, JSON]]) -> None:
        """Deliver events of an account, each given with its object as it was."""
        endpoints = [
            endpoint
            for endpoint, beside in self.endpoints()
            if endpoint["status"] == "enabled"
            and bool(beside.get("connect")) == (account != self._platform)
        ]
        for event, snapshot in told if endpoints else ():
            for endpoint in endpoints:
                if {"*", event["type"]} & set(endpoint["enabled_events"]):
                    self._put(event["id"], endpoint, self._body(account, event, snapshot, endpoint))

    def _body(self, account: str, event: JSON, snapshot: JSON, endpoint: JSON) -> bytes:
        shown = dict(event)
        if endpoint["api_version"] == self._version:
            shown["api_version"] = self._version
            shown["data"] = {**event["data"], "object": snapshot}
        if account != self._platform:
            shown["account"] = account
        return msgspec.json.format(_encode(shown), indent=2)

    def _put(self, event: str, endpoint: JSON, body: bytes) -> None:
        with self._change:
            wait = self._random.uniform(0, self.disorder) if self.disorder else 0.0
            due = time.monotonic() + wait
            self._pending += 1
            self._push(_Delivery(due, next(self._numbers), event, endpoint["id"], body))
            while len(self._threads) < WORKERS and not self._stopped:
                thread = threading.Thread(target=self._work, name="stripe-webhooks", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _push(self, delivery: _Delivery) -> None:
        heapq.heappush(self._queue, delivery)
        self._change.notify()

    # ------------------------------------------------------------------ from outside

    def pause(self) -> None:
        """Hold all deliveries back."""
        self.paused = True

    def resume(self) -> None:
        """Let them go."""
        with self._change:
            self.paused = False
            self._change.notify_all()

    def pending(self) -> int:
        """How many deliveries are neither done nor given up."""
        with self._change:
            return self._pending

    def wait(self, timeout: float) -> bool:
        """Wait until none is pending; whether that came in time (seconds)."""
        with self._change:
            return self._change.wait_for(lambda: not self._pending, timeout)

    def roll_secret(self, endpoint_id: str, *, expires_in: float = 86_400) -> str:
        """A new signing secret; until the old one expires (seconds) both sign."""
        made = new_secret(self._random)
        with self._store.transaction():
            beside = dict(self._endpoint(endpoint_id)[1])
            until = self._clock() + expires_in
            beside.update(secret=made, old_secret=beside["secret"], old_until=until)
            self._store.execute(
                "UPDATE objects SET extra = ? WHERE object = ? AND id = ?",
                _encode(beside).decode(),
                KIND,
                endpoint_id,
            )
        return made

    def _endpoint(self, endpoint_id: str) -> tuple[JSON, JSON]:
        found = self._store.get(self._platform, KIND, endpoint_id)
        if found is None:
            raise KeyError(endpoint_id)
        return _decode(found.body), _decode(found.extra or "{}")

    def stop(self) -> None:
        """Deliver nothing more."""
        with self._change:
            self._stopped = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join(TIMEOUT)

    # ------------------------------------------------------------------ the workers

    def _work(self) -> None:
        connections: dict[str, http.client.HTTPConnection] = {}
        while (delivery := self._next()) is not None:
            try:
                endpoint, beside = self._endpoint(delivery.endpoint)
            except KeyError:  # deleted meanwhile
                self._settle()
                continue
            status = self._send(connections, delivery, endpoint["url"], beside)
            self._after(delivery, status)
        for connection in connections.values():
            connection.close()

    def _next(self) -> _Delivery | None:
        with self._change:
            while not self._stopped:
                wait = None
                if self._queue and not self.paused:
                    wait = self._queue[0].due - time.monotonic()
                    if wait <= 0:
                        return heapq.heappop(self._queue)
                self._change.wait(wait)
        return None

    def _after(self, delivery: _Delivery, status: int) -> None:
        now = time.monotonic()
        with self._change:
            self.deliveries.append(
                Attempt(delivery.event, delivery.endpoint, delivery.attempt, status, self._clock())
            )
            if 200 <= status < 300:
                if not delivery.again and self._random.random() < self.duplicates:
                    self._push(replace(delivery, due=now, again=True))
                    return
            elif delivery.attempt <= len(self._retries):
                due = now + self._retries[delivery.attempt - 1]
                self._push(replace(delivery, due=due, attempt=delivery.attempt + 1))
                return
        self._settle()

    def _settle(self) -> None:
        with self._change:
            self._pending -= 1
            self._change.notify_all()

    def _send(
        self,
        connections: dict[str, http.client.HTTPConnection],
        delivery: _Delivery,
        url: str,
        beside: JSON,
    ) -> int:
        place = urlsplit(url)
        target = (place.path or "/") + (f"?{place.query}" if place.query else "")
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": self._signature(delivery.body, beside),
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        kept = connections.pop(url, None)
        for connection in (kept, None) if kept else (None,):  # one that was kept may be closed
            made = connection or _connect(place.scheme, place.netloc)
            try:
                made.request("POST", target, delivery.body, headers)
                answer = made.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                made.close()
                continue
            connections[url] = made
            return answer.status
        return 0

    def _signature(self, body: bytes, beside: JSON) -> str:
        now = self._clock()
        secrets = [beside["secret"]]
        if beside.get("old_until", 0) > now:
            secrets.append(beside["old_secret"])
        signed = b"%d.%s" % (int(now), body)
        made = [hmac.new(secret.encode(), signed, sha256).hexdigest() for secret in secrets]
        return ",".join([f"t={int(now)}", *(f"v1={signature}" for signature in made)])


def _connect(scheme: str, netloc: str) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    return kind(netloc, timeout=TIMEOUT)


def new_secret(dice: random.Random) -> str:
    """A signing secret."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return "whsec_" + "".join(dice.choices(letters, k=32))
