"""Delivers events to subscribed webhook endpoints, signed and with retries."""

from __future__ import annotations

import heapq
import itertools
import random
import sqlite3
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator import webhook_endpoints as endpoints
from stripe_alloy.emulator.http_client import Caller

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stripe_alloy.emulator.clock import Clock
    from stripe_alloy.emulator.seeded_random import SeededRandom
    from stripe_alloy.emulator.store import Store
    from stripe_alloy.emulator.webhook_endpoints import WebhookEndpoint

RETRIES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before each retry; Stripe retries for three days."""
WORKERS = 8
STOPPING = 2.0  # seconds for the workers to end
_HEADERS = {
    "Content-Type": "application/json; charset=utf-8",
    "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
}


@dataclass(frozen=True)
class Attempt:
    """An attempt to deliver an event; status 0 means no response."""

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
    account: str = field(compare=False)  # the endpoint's
    endpoint: str = field(compare=False)
    body: bytes = field(compare=False)
    attempt: int = field(compare=False, default=1)
    again: bool = field(compare=False, default=False)  # a repetition of a success


class Webhooks:
    """Queues and delivers webhooks; the threads start with the first delivery."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        dice: SeededRandom,
        platform: str,
        retries: Sequence[float],
    ) -> None:
        self._store, self._clock, self._dice = store, clock, dice
        self._platform = platform
        self._retries = tuple(retries)
        self._random = random.Random(1)  # noqa: S311 - it only shuffles
        lock = threading.Lock()
        self._work_there, self._settled = threading.Condition(lock), threading.Condition(lock)
        self._queue: list[_Delivery] = []
        self._numbers = itertools.count()
        self._pending = 0
        self._undelivered: Counter[str] = Counter()  # event → endpoints that lack it
        self._log: list[Attempt] = []
        self._threads: list[threading.Thread] = []
        self._callers: list[Caller] = []
        self._paused = self._stopped = False
        self.duplicates = 0.0
        """Share of the deliveries that are repeated."""
        self.disorder = 0.0
        """Maximum random delay of a delivery in seconds."""

    # ------------------------------------------------------------------ the queue

    def listening(self, account: str) -> list[WebhookEndpoint]:
        """Return the endpoints that may receive an account's events."""
        return endpoints.found_in(self._store, self._platform, account)

    def enqueue(self, account: str, deliverable: Iterable[tuple[JSON, JSON]]) -> None:
        """Queue an account's events, each with a snapshot of its object."""
        there = self.listening(account)
        for event, snapshot in deliverable:
            for endpoint in there:
                if endpoint.wants(account, event["type"]):
                    body = endpoint.body(account, event, snapshot)
                    self._put(event["id"], endpoint, body)

    def _put(self, event: str, endpoint: WebhookEndpoint, body: bytes) -> None:
        with self._work_there:
            number, at = next(self._numbers), self._random_due()
            to = endpoint.account, endpoint.shown["id"]
            self._pending += 1
            self._undelivered[event] += 1
            self._push(_Delivery(at, number, event, *to, body))
            if not self._threads and not self._stopped:
                self._begin()

    def _begin(self) -> None:
        self._callers = [Caller() for _ in range(WORKERS)]
        self._threads = [
            threading.Thread(target=self._work, args=(caller,), name="stripe-webhooks", daemon=True)
            for caller in self._callers
        ]
        for thread in self._threads:
            thread.start()

    def _random_due(self) -> float:
        return time.monotonic() + self._random.random() * self.disorder

    def _push(self, delivery: _Delivery) -> None:
        heapq.heappush(self._queue, delivery)
        self._work_there.notify()

    # ------------------------------------------------------------------ from outside

    @property
    def paused(self) -> bool:
        """Whether deliveries are paused."""
        return self._paused

    @paused.setter
    def paused(self, value: bool) -> None:
        with self._work_there:
            self._paused = value
            self._work_there.notify_all()

    @property
    def deliveries(self) -> list[Attempt]:
        """Return all attempts, oldest first."""
        with self._settled:
            return list(self._log)

    def pending(self) -> int:
        """Return the number of deliveries that are neither done nor abandoned."""
        with self._settled:
            return self._pending

    def undelivered(self) -> list[str]:
        """Return the IDs of events that some endpoint has not received."""
        with self._settled:
            return list(self._undelivered)

    def wait(self, timeout: float) -> bool:
        """Wait until no delivery is pending; return whether that happened in `timeout` seconds."""
        with self._settled:
            self._settled.wait_for(lambda: not self._pending or self._stopped, timeout)
            return not self._pending

    def roll_secret(self, endpoint_id: str, *, expires_in: float = DAY) -> str:
        """Return a new signing secret; the old one also signs until it expires (seconds)."""
        return endpoints.roll(self._store, endpoint_id, self._dice, self._clock(), expires_in)

    def stop(self) -> None:
        """Stop all deliveries."""
        with self._work_there:
            self._stopped = True
            self._work_there.notify_all()
            self._settled.notify_all()
        for caller in self._callers:
            caller.interrupt()
        until = time.monotonic() + STOPPING
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    # ------------------------------------------------------------------ the workers

    def _work(self, caller: Caller) -> None:
        while (delivery := self._next()) is not None:
            try:
                endpoint = endpoints.find(self._store, delivery.account, delivery.endpoint)
            except sqlite3.ProgrammingError:
                break  # the store is closed
            if endpoint is not None and endpoint.enabled:
                self._try(caller, delivery, endpoint)
            else:  # no further attempts, as at Stripe
                with self._settled:
                    self._settle(delivery, delivered=True)
        caller.close()

    def _next(self) -> _Delivery | None:
        with self._work_there:
            while not self._stopped:
                wait = None
                if self._queue and not self._paused:
                    wait = self._queue[0].due - time.monotonic()
                    if wait <= 0:
                        return heapq.heappop(self._queue)
                self._work_there.wait(wait)
        return None

    def _try(self, caller: Caller, delivery: _Delivery, endpoint: WebhookEndpoint) -> None:
        now = self._clock()
        headers = {**_HEADERS, "Stripe-Signature": endpoint.signature(delivery.body, now)}
        status = caller.post(endpoint.shown["url"], delivery.body, headers)
        tried = Attempt(delivery.event, delivery.endpoint, delivery.attempt, status, now)
        delivered = 200 <= status < 300
        with self._work_there:
            self._log.append(tried)
            further = self._next_attempt(delivery, delivered=delivered)
            if further is None:
                self._settle(delivery, delivered=delivered)
            else:
                self._push(further)

    def _next_attempt(self, delivery: _Delivery, *, delivered: bool) -> _Delivery | None:
        """Return the next delivery after an attempt, if any."""
        if delivered:
            more = not delivery.again and self._random.random() < self.duplicates
            return replace(delivery, due=self._random_due(), again=True) if more else None
        if delivery.attempt > len(self._retries):
            return None
        due = time.monotonic() + self._retries[delivery.attempt - 1]
        return replace(delivery, due=due, attempt=delivery.attempt + 1)

    def _settle(self, delivery: _Delivery, *, delivered: bool) -> None:
        self._pending -= 1
        if delivered or delivery.again:
            self._undelivered[delivery.event] -= 1
        if not self._undelivered[delivery.event]:
            del self._undelivered[delivery.event]
        if not self._pending:
            self._settled.notify_all()
