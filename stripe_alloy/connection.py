"""Opens the connection to Stripe, or to the embedded emulator."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from stripe_alloy.api.client import StripeClient
from stripe_alloy.api.errors import SettingsError
from stripe_alloy.api.rate_limiter import RateLimiter, budget_for
from stripe_alloy.emulator import IN_MEMORY, emulates, store_of

if TYPE_CHECKING:
    from stripe_alloy.emulator import Emulator


class Connection:
    """A client, and the emulator behind it if the settings name it."""

    def __init__(
        self,
        *,
        api_key: str,
        api_url: str,
        api_version: str,
        max_requests_per_second: float | None,
        max_concurrency: int,
        read_only: bool = True,
    ) -> None:
        self._emulator: Emulator | None = None
        budget = budget_for(api_key, max_requests_per_second)
        if emulates(api_key, api_url):
            self._emulator = _started(store_of(api_url))
            api_key, api_url = self._emulator.api_key, self._emulator.url
            budget = RateLimiter(max_requests_per_second)  # it has no limit of its own
        self.transport = StripeClient(
            api_key=api_key,
            api_url=api_url,
            api_version=api_version,
            budget=budget,
            max_concurrency=max_concurrency,
            read_only=read_only,
        )

    def close(self) -> None:
        """Close the connections and stop the emulator."""
        self.transport.close()
        if self._emulator:
            self._emulator.stop()


def _started(store: str) -> Emulator:
    from stripe_alloy.emulator import Emulator  # noqa: PLC0415 - others do without it

    try:
        if store != IN_MEMORY:
            Path(store).parent.mkdir(parents=True, exist_ok=True)
        return Emulator(db=store).start()
    except (OSError, ValueError, sqlite3.Error) as error:
        raise SettingsError(
            f"`api_url`: the emulated account cannot be kept in {store!r}: {error}. "
            "Name a file that can be written, or delete what is no account of the emulator."
        ) from None
