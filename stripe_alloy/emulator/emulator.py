"""The embedded Stripe: start it, connect a client, and inspect its objects."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.schemas import api_version
from stripe_alloy.emulator.api_keys import Keys
from stripe_alloy.emulator.clock import Clock
from stripe_alloy.emulator.control import ControlledService
from stripe_alloy.emulator.deliveries import RETRIES
from stripe_alloy.emulator.effects import catalog
from stripe_alloy.emulator.emulated_types import named
from stripe_alloy.emulator.faults import Faults
from stripe_alloy.emulator.listing import Lists
from stripe_alloy.emulator.rate_limits import Limits
from stripe_alloy.emulator.seed.seeder import account_ids, fill_accounts, seed_business
from stripe_alloy.emulator.seeded_random import SeededRandom
from stripe_alloy.emulator.server import Server
from stripe_alloy.emulator.service import LIVE, Service
from stripe_alloy.emulator.store import DELETED, LISTED, Query, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from stripe_alloy.emulator.deliveries import Webhooks
    from stripe_alloy.emulator.http_messages import Request
    from stripe_alloy.emulator.store import StoredObject


API_KEY = "sk_test_emulator"
LIVE_KEY = "sk_live_emulator"
STARTS_APART = 1 << 40
"""Distance between the seeds of two starts on one file, which may create objects concurrently."""
BULK = 100
"""Maximum number of objects changed in one transaction."""
UNSCOPED = ("serve", "refuse", "empty")
UNFILTERED = ("active", "all")


class Emulator:
    """An emulated Stripe account with a seeded business.

    `customers` is the size of the business, `db` its file; the business in an existing file is
    used unchanged. `clock` returns Unix seconds. `limits` is "test" or "live" for Stripe's rate
    limits. `latency` delays each response, in seconds. `account_api_version` renders the
    events' snapshots in an older shape. `webhook_retries` are the seconds before each further try
    to deliver a webhook. With `live` the accounts have a live mode of their own, of so many
    customers, which `live_key` reads; else all keys read the same.
    `unfiltered_prices` is what `/v1/prices` lists where no `active` is given:
    "active" ones, as Stripe documents it, or "all".
    """

    def __init__(
        self,
        seed: int = 0,
        customers: int = 150,
        *,
        db: str | Path = ":memory:",
        clock: Callable[[], float] | None = None,
        limits: str | None = None,
        latency: float = 0.0,
        accounts: int = 0,
        live: int | None = None,
        unscoped_payment_methods: str = "serve",
        unfiltered_prices: str = "active",
        account_api_version: str | None = None,
        webhook_retries: Sequence[float] = RETRIES,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        if unscoped_payment_methods not in UNSCOPED:
            raise ValueError(f"expected one of {UNSCOPED}, got {unscoped_payment_methods!r}")
        if unfiltered_prices not in UNFILTERED:
            raise ValueError(f"expected one of {UNFILTERED}, got {unfiltered_prices!r}")
        self.seed, self.customers, self.db = seed, customers, str(db)
        self.api_key = API_KEY
        self.live_key = LIVE_KEY
        self.keys = Keys(API_KEY, *([] if live is None else [LIVE_KEY]))
        self.faults = Faults()
        self._clock = Clock(clock)
        self._limits = Limits(limits)
        self._latency = latency
        self._connected = accounts
        self._live = live
        self._unscoped = unscoped_payment_methods
        self._unfiltered_prices = unfiltered_prices
        self._account_version = account_api_version
        self._webhook_retries = webhook_retries
        self._address = (host, port)
        self._service: Service | None = None
        self._server: Server | None = None

    # ------------------------------------------------------------------ running

    def start(self) -> Self:
        """Seed the store if it is empty, and listen."""
        if self._server is not None:
            return self
        store = Store(self.db)
        try:
            self._service = self._make_service(store)
            controlled = ControlledService(self._service)
            self._server = Server(*self._address, controlled.answer, controlled.admits)
        except BaseException:
            store.close()
            raise
        loop = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="stripe-emulator", daemon=True
        )
        loop.start()
        return self

    def stop(self) -> None:
        """Stop listening, and close the store."""
        if self._server is not None:
            self._server.stop()
            self._server = None
            self.service.webhooks.stop()
            self.store.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _make_service(self, store: Store) -> Service:
        version = api_version()
        with store.transaction():
            ids = self._stored_accounts(store)
            if not ids:
                ids = account_ids(self.seed, self._connected)
                older = self._account_version if self._account_version != version else None
                seed_business(store, ids, self.seed, self.customers, (version, older))
                if self._live is not None:
                    live = [account + LIVE for account in ids]
                    fill_accounts(store, live, self.seed + 500, self._live, (version, older))
                value = msgspec.json.encode(ids).decode()
                store.execute("INSERT INTO facts VALUES ('accounts', ?)", value)
            starts = store.count_start()
        return Service(
            store,
            self._clock,
            SeededRandom(self.seed * 104_729 + store.size() + starts * STARTS_APART),
            self.keys,
            self.faults,
            self._limits,
            platform=ids[0],
            accounts=frozenset(ids),
            version=version,
            account_version=self._account_version or version,
            latency=self._latency,
            unscoped_payment_methods=self._unscoped,
            unfiltered_prices=self._unfiltered_prices,
            webhook_retries=self._webhook_retries,
            modes_apart=self._live is not None,
        )

    @staticmethod
    def _stored_accounts(store: Store) -> list[str]:
        rows = store.execute("SELECT value FROM facts WHERE name = 'accounts'")
        return list(msgspec.json.decode(str(rows[0][0]))) if rows else []

    @property
    def service(self) -> Service:
        """Return the running service."""
        if self._service is None:
            raise RuntimeError("the emulator was not started")
        return self._service

    @property
    def store(self) -> Store:
        """Return the store of the objects."""
        return self.service.store

    @property
    def url(self) -> str:
        """Return the base URL for clients."""
        if self._server is None:
            raise RuntimeError("the emulator is not running")
        return f"http://{self._address[0]}:{self._server.port}"

    @property
    def account_id(self) -> str:
        """Return the platform's own account."""
        return self.service.platform

    @property
    def account_ids(self) -> list[str]:
        """Return the connected accounts."""
        return [a for a in self._stored_accounts(self.store) if a != self.account_id]

    def in_live_mode(self, account: str | None = None) -> str:
        """Return the `account` argument for the live mode of an account."""
        return (account or self.account_id) + LIVE

    @property
    def requests(self) -> list[Request]:
        """Return all requests, oldest first."""
        return self.service.log.all()

    # ------------------------------------------------------------------ the truth

    def objects(
        self, name: str, account: str | None = None, *, everything: bool = False
    ) -> list[JSON]:
        """Return the objects of a list, newest first, by object or stream name.

        Canceled subscriptions are included. Events older than 30 days and objects on test clocks
        are only included with `everything`.
        """
        return [msgspec.json.decode(row.body) for row in self._rows(name, account, everything)]

    def ids(self, name: str, account: str | None = None, *, everything: bool = False) -> list[str]:
        """Return the IDs of these objects, newest first."""
        return [row.id for row in self._rows(name, account, everything)]

    def count(self, name: str, account: str | None = None, *, everything: bool = False) -> int:
        """Return the number of these objects."""
        return len(self._rows(name, account, everything))

    def _rows(self, name: str, account: str | None, everything: bool) -> list[StoredObject]:
        kind = named(name).object
        owner = account or self.account_id
        if everything:
            query = Query(owner, kind)
            query.add(f"shown != {DELETED}")
            return self.store.select(query)
        lists = Lists(self.store, owner, self._clock())
        query = lists.query(kind, {"status": "all"} if kind == "subscription" else {})
        query.add(_NOT_ON_A_CLOCK.get(kind, f"shown = {LISTED}"))
        return self.store.select(query)

    # ------------------------------------------------------------------ from outside the API

    def add(
        self, kind: str, event: str | None = None, account: str | None = None, **fields: Any
    ) -> JSON:
        """Create an object that today's API does not create, such as a `card_…` or a legacy plan.

        `fields` may contain its ID; `event` is the type of the event to emit, if any.
        """
        with self.store.transaction():
            session = self.service.session(account or self.account_id)
            made = session.add(kind, **fields)
            if event:
                session.emit(event, made)
            session.flush()
        self.service.deliver(session)
        return made

    def delete(self, kind: str, object_id: str, account: str | None = None) -> None:
        """Delete a price, as only the Dashboard can."""
        if kind != "price":
            raise ValueError(f"only prices are deleted this way, got {kind!r}")
        with self.store.transaction():
            session = self.service.session(account or self.account_id)
            catalog.delete_price(session, session.get(kind, object_id))
            session.flush()
        self.service.deliver(session)

    def bulk(self, number: int, account: str | None = None) -> None:
        """Emit many `customer.updated` events, in turns over the account's customers."""
        owner = account or self.account_id
        ids = self.ids("customer", owner)
        if not ids:
            raise ValueError("expected customers to change, the account has none")
        for start in range(0, number, BULK):
            with self.store.transaction():
                session = self.service.session(owner)
                for count in range(start, min(start + BULK, number)):
                    customer = session.get("customer", ids[count % len(ids)])
                    news = {"bulk": session.dice.text(12)}
                    session.change(customer, metadata={**customer["metadata"], **news})
                    session.emit("customer.updated", customer)
                session.flush()
            self.service.deliver(session)

    def revoke_access(self, account: str) -> None:
        """Revoke the platform's access to a connected account; requests for it get a 403."""
        self.service.revoked.add(account)

    def restore_access(self, account: str) -> None:
        """Restore the access."""
        self.service.revoked.discard(account)

    @property
    def webhooks(self) -> Webhooks:
        """Return the deliveries to webhook endpoints."""
        return self.service.webhooks

    def clock_advance(self, seconds: float) -> None:
        """Advance the clock."""
        self._clock.advance(seconds)


# Children have no test_clock of their own; their parent's counts.
_NOT_ON_A_CLOCK = {
    kind: (
        f"shown = {LISTED} AND parent IN (SELECT p.id FROM objects AS p "  # noqa: S608
        f"WHERE p.object = '{parent}' AND p.shown = {LISTED})"
    )
    for kind, parent in (("line_item", "invoice"), ("subscription_item", "subscription"))
}
