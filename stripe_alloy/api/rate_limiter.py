"""Rate limiter: when the next request may be sent, per account and per endpoint.

It starts at Stripe's documented limits (docs.stripe.com/rate-limits), slows down after a 429 and
recovers gradually. Pure: the time is passed in.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field

LIVE_PER_SECOND = 100.0
TEST_PER_SECOND = 25.0
ENDPOINT_PER_SECOND = 25.0
HEADROOM = 0.99
"""Share of a limit that is used, because the network bunches evenly spaced requests."""
SLOW_DOWN = 0.8
RECOVERY_SECONDS = 20.0
"""Seconds in which a rate recovers from zero to its ceiling."""
FLOOR_PER_SECOND = 0.5
COOL_DOWN = 1.0
"""Seconds in which further 429s are ignored: their requests were in flight at the first."""


@dataclass
class Rate:
    """Evenly spaced turns: `rate` per second now, `ceiling` at most."""

    ceiling: float
    rate: float = field(init=False)
    free_at: float = 0.0
    _recovers_from: float = 0.0
    _slowed_at: float = -math.inf

    def __post_init__(self) -> None:
        self.rate = self.ceiling

    def take(self, at: float) -> None:
        """Use a turn at `at` or later; the next one is 1/rate later."""
        self._recover(at)
        self.free_at = max(at, self.free_at) + 1.0 / self.rate

    def slow_down(self, now: float) -> None:
        """Reduce the rate after a 429; it recovers over the next seconds."""
        if math.isinf(self.ceiling):
            self.ceiling = self.rate = LIVE_PER_SECOND
        if now - self._slowed_at < COOL_DOWN:
            return
        self.rate = max(FLOOR_PER_SECOND, self.rate * SLOW_DOWN)
        self._slowed_at = self._recovers_from = now

    def _recover(self, now: float) -> None:
        if self.rate >= self.ceiling:
            return
        gained = self.ceiling * max(0.0, now - self._recovers_from) / RECOVERY_SECONDS
        self.rate = min(self.ceiling, self.rate + gained)
        self._recovers_from = now


class RateLimiter:
    """Reserves turns for requests; one per key. Thread-safe.

    `per_second` is the account's limit (None: no limit, for a server without one). Each endpoint
    has Stripe's 25/s, in proportion more if the account's limit was raised.
    """

    def __init__(self, per_second: float | None, *, documented: float = LIVE_PER_SECOND) -> None:
        self._global_ceiling = per_second * HEADROOM if per_second else math.inf
        raised = max(1.0, per_second / documented) if per_second else math.inf
        self.ceiling_of_endpoint = min(
            ENDPOINT_PER_SECOND * HEADROOM * raised, self._global_ceiling
        )
        """Requests per second of one endpoint, if nothing slows it down."""
        self._paces: dict[tuple[str | None, str | None], Rate] = {}
        self._lock = threading.Lock()

    def reserve(self, account: str | None, endpoint: str, now: float) -> float:
        """Reserve the next turn; return the seconds to wait for it."""
        with self._lock:
            whole, own = self._pace(account, None), self._pace(account, endpoint)
            at = max(now, whole.free_at, own.free_at)
            own.take(at)
            # Not at `at`: a request that waits for its endpoint must not delay other endpoints.
            whole.take(now)
            return at - now

    def slow_down(self, account: str | None, endpoint: str, reason: str | None, now: float) -> None:
        """Slow down after a 429; `reason` is its `Stripe-Rate-Limited-Reason`.

        The limit of a single resource does not affect the rates.
        """
        if reason == "resource-specific":
            return
        whole_account = bool(reason and reason.startswith("global"))
        with self._lock:
            self._pace(account, None if whole_account else endpoint).slow_down(now)

    def _pace(self, account: str | None, endpoint: str | None) -> Rate:
        ceiling = self._global_ceiling if endpoint is None else self.ceiling_of_endpoint
        return self._paces.setdefault((account, endpoint), Rate(ceiling))


def budget_for(api_key: str, max_requests_per_second: float | None) -> RateLimiter:
    """Return a rate limiter with Stripe's limit for the key's mode, or the user's own value."""
    documented = LIVE_PER_SECOND if "_live_" in api_key else TEST_PER_SECOND
    return RateLimiter(max_requests_per_second or documented, documented=documented)
