"""Rate limits: token buckets, as described on docs.stripe.com/rate-limits."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from stripe_alloy.emulator.errors import rate_limited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Plan(NamedTuple):
    """Limits: requests per second, and concurrent requests."""

    account: int
    endpoint: int
    together: int  # not published; Stripe only documents that it exists


SEARCHES = 20
"""Searches per second, of all types together."""
PLANS = {"test": Plan(25, 25, 50), "live": Plan(100, 25, 100)}


class Bucket:
    """A token bucket that holds the tokens of one second."""

    def __init__(self, rate: int, now: float) -> None:
        self._rate = rate
        self._tokens = float(rate)
        self._then = now

    def fill(self, now: float) -> bool:
        """Add tokens for the elapsed time; return whether one is available."""
        self._tokens = min(self._rate, self._tokens + (now - self._then) * self._rate)
        self._then = now
        return self._tokens >= 1

    def take(self) -> None:
        """Use one token."""
        self._tokens -= 1


class Limits:
    """The limits of the accounts; a rejected request uses up nothing."""

    def __init__(self, plan: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan = PLANS[plan] if plan else None
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._running: dict[str, int] = {}

    @contextmanager
    def admit(self, account: str, endpoint: str) -> Iterator[None]:
        """Admit a request, or raise Stripe's 429."""
        if self._plan is None:
            yield
            return
        with self._lock:
            self._enter(self._plan, account, endpoint)
        try:
            yield
        finally:
            with self._lock:
                self._running[account] -= 1

    def _enter(self, plan: Plan, account: str, endpoint: str) -> None:
        running = self._running.get(account, 0)
        if running >= plan.together:
            raise rate_limited("global-concurrency")
        now = self._clock()
        overall = self._bucket(account, "", plan.account, now)
        searches = endpoint.endswith("/search")
        rate = SEARCHES if searches else plan.endpoint
        own = self._bucket(account, "search" if searches else endpoint, rate, now)
        if not overall.fill(now):
            raise rate_limited("global-rate")
        if not own.fill(now):
            raise rate_limited("endpoint-rate")
        overall.take()
        own.take()
        self._running[account] = running + 1

    def _bucket(self, account: str, endpoint: str, rate: int, now: float) -> Bucket:
        return self._buckets.setdefault((account, endpoint), Bucket(rate, now))
