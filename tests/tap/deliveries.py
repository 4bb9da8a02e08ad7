"""Stripe's deliveries to a receiver, played on the emulator's clock: late, twice, out of order."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable

import msgspec

from stripe_alloy.emulator import Emulator
from stripe_alloy.webhooks.inbox import Inbox, row_of

HEARTBEAT = 5


class Deliveries:
    """What a receiver's inbox gets of an account's events, as time goes by."""

    def __init__(
        self, emulator: Emulator, url: str, clock: Callable[[], float], rng: random.Random
    ) -> None:
        self.emulator, self.clock, self.rng = emulator, clock, rng
        self.inbox = Inbox(url, clock=clock)
        self.pending: dict[tuple[str, str], tuple[float, bytes]] = {}
        self.known: set[tuple[str, str]] = set()
        self.session: tuple[str, float] | None = None
        self.accounts = [emulator.account_id, *emulator.account_ids]
        self.notice(register=False)

    def start(self) -> None:
        self.session = uuid.uuid4().hex, self.clock()
        self._beat()

    def stop(self) -> None:
        """Killed: its last sign of life is that of its last heartbeat."""
        self.session = None

    def notice(self, *, register: bool = True) -> None:
        """New events wait to be delivered, unless there is no endpoint yet."""
        for account in self.accounts:
            for event in self.emulator.objects("event", account):
                key = account, event["id"]
                if key in self.known:
                    continue
                self.known.add(key)
                if account != self.emulator.account_id:
                    event["account"] = account
                if register:
                    due = self.clock() + self.rng.choice([0, 0, 0, 1, 2, 20])
                    self.pending[key] = due, msgspec.json.encode(event)

    def tick(self) -> None:
        """Deliver what is due; what fails is tried again within hours."""
        self.notice()
        due = [key for key, (at, _) in self.pending.items() if at <= self.clock()]
        self.rng.shuffle(due)
        for key in due:
            if self.session:
                body = self.pending[key][1]
                self._deliver(body)
                if self.rng.random() < 0.8:  # else it comes once more
                    del self.pending[key]
                    continue
            again = self.clock() + self.rng.choice([60, 600, 3_600, 7_200])
            self.pending[key] = again, self.pending[key][1]
        if self.session:
            self._beat()

    def deliver_all(self) -> None:
        """Let every delivery come through."""
        self.notice()
        for _, body in self.pending.values():
            self._deliver(body)
        self.pending.clear()
        self._beat()

    def _deliver(self, body: bytes) -> None:
        self.inbox.deliver([row_of(body, self.clock())])

    def _beat(self) -> None:
        if self.session:
            self.inbox.heartbeat(*self.session)

    def close(self) -> None:
        self.inbox.close()
