"""Seeds the business: products, then the customers one after the other, then payouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.clock import SEED_END
from stripe_alloy.emulator.seed.accounts import SPAN, fields_of_account
from stripe_alloy.emulator.seed.customer_simulation import CustomerSimulation
from stripe_alloy.emulator.seed.payout_schedule import PayoutSchedule
from stripe_alloy.emulator.seed.products import CURRENCIES, Catalog
from stripe_alloy.emulator.seed.scripted_customers import SCRIPTED_CUSTOMERS
from stripe_alloy.emulator.seeded_random import SeededRandom
from stripe_alloy.emulator.session import Session

if TYPE_CHECKING:
    from stripe_alloy.emulator.store import Store


EVENTS_FOR = 45 * DAY  # older events would not be listed
BATCH = 100  # customers flushed together
CONNECTED_SHARE = 5  # a connected account has a fifth of the platform's customers


def account_ids(seed: int, connected: int) -> list[str]:
    """Return the IDs of the platform and of the connected accounts."""
    dice = SeededRandom(seed * 7919 + 17)
    return [f"acct_{dice.text(16)}" for _ in range(connected + 1)]


def seed_accounts(store: Store, ids: list[str], seed: int, version: str) -> None:
    """Create the account objects, all stored with the platform."""
    session = Session(store, ids[0], SeededRandom(seed), SEED_END - SPAN, version, alone=True)
    for index, account_id in enumerate(ids):
        session.add(
            "account",
            id=account_id,
            **fields_of_account(index, account_id),
            private_fields={"_unlisted": index == 0},
        )
    session.flush()


class Seeder:
    """Seeds one account."""

    def __init__(
        self, store: Store, account: str, seed: int, shape: tuple[str, str | None]
    ) -> None:
        version, since = shape
        self._session = Session(
            store, account, SeededRandom(seed), SEED_END - SPAN, version, alone=True
        )
        self._session.shape_since = since
        self._session.today = SEED_END
        self._session.events_since = SEED_END - EVENTS_FOR
        self._store = store

    def fill(self, customers: int) -> None:
        """Seed the business of this number of customers."""
        if not customers:
            return
        session = self._session
        books = PayoutSchedule(session, SEED_END)
        shop = Catalog(session)
        shop.open(CURRENCIES)
        begin = session.now
        for first in range(0, customers, BATCH):
            for number in range(first, min(first + BATCH, customers)):
                self._live(shop, number, begin)
            self._flush()
        self._close(books, begin)

    def _live(self, shop: Catalog, number: int, begin: int) -> None:
        if number < len(SCRIPTED_CUSTOMERS):
            actor = SCRIPTED_CUSTOMERS[number]
            moment = SEED_END - actor.days * DAY + number * 600
            life: CustomerSimulation = actor(self._session, shop, number, moment, SEED_END - 1)
        else:
            latest = SEED_END - 3 * DAY
            moment = begin + self._session.dice.between(DAY, latest - begin)
            life = CustomerSimulation(self._session, shop, number, moment, SEED_END - 1)
        life.timeline.run()

    def _close(self, books: PayoutSchedule, begin: int) -> None:
        books.charge_fees(begin, CURRENCIES[0])
        books.pay_out()
        self._flush()

    def _flush(self) -> None:
        with self._store.transaction():
            self._session.flush()
        self._session.forget("product", "price")


def seed_business(
    store: Store, ids: list[str], seed: int, customers: int, shape: tuple[str, str | None]
) -> None:
    """Seed all accounts."""
    with store.transaction():
        seed_accounts(store, ids, seed, shape[0])
    fill_accounts(store, ids, seed, customers, shape)


def fill_accounts(
    store: Store, ids: list[str], seed: int, customers: int, shape: tuple[str, str | None]
) -> None:
    """Seed the objects of each account, the platform's first."""
    for index, account in enumerate(ids):
        size = customers if index == 0 else -(-customers // CONNECTED_SHARE)
        Seeder(store, account, seed * 1000 + index, shape).fill(size)
