"""Scripted customers for cases that the random generator may not produce."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.effects import (
    customers,
    disputes,
    invoices,
    lines,
    payments,
    refunds,
    subscriptions,
)
from stripe_alloy.emulator.seed import names
from stripe_alloy.emulator.seed.customer_simulation import CustomerSimulation
from stripe_alloy.emulator.seed.new_customers import create_customer, give_payment_method

AMERICA = names.PLACES[0][0]


class ScriptedCustomer(CustomerSimulation):
    """A customer in the United States who joins some days before the end."""

    days = 200  # before the end
    fails = churns = upgrades = refunded = disputed = 0.0  # nothing random

    @override
    def join(self) -> None:
        self.place = AMERICA
        super().join()

    def monthly(self, index: int = 0) -> JSON:
        """Return a monthly plan."""
        return self.shop.plans[self.place.currency, "month"][index]

    def invoice(self, count: int, **fields: Any) -> JSON:
        """Create the draft of a one-off purchase with this number of lines."""
        invoice = invoices.draft(self.session, self.customer, self.place.currency, **fields)
        goods = self.shop.once[self.place.currency]
        for index in range(count):
            price, quantity = goods[index % len(goods)], 1 + index % 3
            item = self.session.add(
                "invoiceitem",
                amount=price["unit_amount"] * quantity,
                currency=price["currency"],
                customer=self.customer["id"],
                date=self.session.now,
                invoice=invoice["id"],
                net_amount=price["unit_amount"] * quantity,
                period={"start": self.session.now, "end": self.session.now},
                pricing=lines.pricing(price),
                quantity=quantity,
                quantity_decimal=str(quantity),
            )
            parent = lines.from_item(item["id"])
            lines.add_priced(self.session, invoice, price, quantity, parent=parent)
        invoices.announce(self.session, invoice)
        return invoice


class ManyItems(ScriptedCustomer):
    """A subscription with fifteen items."""

    @override
    def first_steps(self, now: int) -> None:
        shelves = self.shop.plans[self.place.currency, "month"], self.shop.extras["usd"]
        goods = [price for shelf in shelves for price in shelf]
        chosen = [(goods[i % len(goods)], 1 + i % 4) for i in range(14)]
        self.timeline.at(now + DAY, self.begin, [*chosen, (self.shop.tiered, 25)])


class LongInvoice(ScriptedCustomer):
    """An invoice with 250 lines."""

    count = 250

    @override
    def first_steps(self, now: int) -> None:
        self.timeline.at(now + DAY, self.order)

    def order(self) -> None:
        """Purchase many items at once."""
        self.collect(self.invoice(self.count, description="Refit"), None, 1)


class FullInvoices(LongInvoice):
    """Invoices with 11 to 40 lines."""

    @override
    def order(self) -> None:
        for count in (11, 23, 40):
            self.collect(self.invoice(count, description="Bulk order"), None, 1)


class Paused(ScriptedCustomer):
    """A subscription with paused collection that ends with its period."""

    @override
    def first_steps(self, now: int) -> None:
        self.timeline.at(now + DAY, self.start)

    def start(self) -> None:
        """Subscribe, and pause some days before the end."""
        subscription = self.begin([(self.monthly(), 1)])
        moment = self.session.now + (self.days - 10) * DAY
        self.timeline.at(moment, self.pause, subscription)

    def pause(self, subscription: JSON) -> None:
        """Pause the collection."""
        behavior = {"behavior": "mark_uncollectible", "resumes_at": None}
        if subscription["status"] == "active":
            self.session.change(subscription, pause_collection=behavior, cancel_at_period_end=True)
            self.session.emit("customer.subscription.updated", subscription)


class Incomplete(ScriptedCustomer):
    """A subscription that expires within a day, because its first payment fails."""

    days = 120

    @override
    def first_steps(self, now: int) -> None:
        self.timeline.at(now + HOUR_ONE, self.begin, [(self.monthly(1), 1)])

    @override
    def collect(self, invoice: JSON, subscription: JSON | None, attempt: int) -> None:
        invoices.finalize(self.session, invoice)
        invoices.pay(self.session, invoice, self.method, "insufficient_funds")
        if subscription is not None:
            subscriptions.set_status(self.session, subscription, "incomplete")
            later = self.session.now + DAY - HOUR_ONE
            self.timeline.at(later, self.expire, invoice, subscription)

    def expire(self, invoice: JSON, subscription: JSON) -> None:
        """Expire the subscription."""
        invoices.close(self.session, invoice, "void")
        subscriptions.set_status(
            self.session, subscription, "incomplete_expired", ended_at=self.session.now
        )


class Unlucky(ScriptedCustomer):
    """Past due at the end: the last payments were declined."""

    days = 62

    @override
    def first_steps(self, now: int) -> None:
        self.timeline.at(now + 1, self.begin, [(self.monthly(1), 2)])

    @override
    def collect(self, invoice: JSON, subscription: JSON | None, attempt: int) -> None:
        last = self.session.today - self.session.now < 7 * DAY
        if invoice["status"] == "draft":
            invoices.finalize(self.session, invoice)
        decline = "expired_card" if last else None
        if invoices.pay(self.session, invoice, self.method, decline):
            return
        if subscription is not None:
            subscriptions.set_status(self.session, subscription, "past_due")


class Billed(ScriptedCustomer):
    """Pays by transfer: an open, a void, an uncollectible, and two draft invoices."""

    days = 150

    @override
    def first_steps(self, now: int) -> None:
        for index, end in enumerate(("paid", "void", "uncollectible", "open", "draft", "draft")):
            self.timeline.at(now + (index + 1) * 24 * DAY, self.send, end)

    def send(self, end: str) -> None:
        """Send an invoice and bring it to a status."""
        invoice = self.invoice(2, collection_method="send_invoice")
        if end == "draft":
            return
        invoices.finalize(self.session, invoice)
        self.session.emit("invoice.sent", invoice)
        if end == "paid":
            invoices.settle_off_stripe(self.session, invoice)
        elif end != "open":
            self.timeline.at(self.session.now + 5 * DAY, invoices.close, self.session, invoice, end)


class Trialing(ScriptedCustomer):
    """In a trial at the end."""

    days = 5

    @override
    def first_steps(self, now: int) -> None:
        self.timeline.at(now + DAY, self.begin_trial)

    def begin_trial(self) -> None:
        """Start a trial of two weeks."""
        self.begin([(self.monthly(), 1)], trial_end=self.session.now + 14 * DAY)


class Clocked(ScriptedCustomer):
    """On a test clock, so that only lists filtered by the clock contain its objects."""

    days = 90

    @override
    def join(self) -> None:
        now = self.session.now
        clock = self.session.add(
            "test_helpers.test_clock",
            name="Renewal rehearsal",
            frozen_time=now,
            deletes_after=now + 30 * DAY,
        )
        self.place = AMERICA
        self.customer = create_customer(
            self.session, self.place, self.number, test_clock=clock["id"]
        )
        self.method = give_payment_method(self.session, self.customer, self.place)
        self.timeline.at(self.session.now + DAY, self.begin_trial)

    def begin_trial(self) -> None:
        """Start a long trial, so that no money moves."""
        self.begin([(self.monthly(), 1)], trial_end=self.session.now + 120 * DAY)


class Leaver(ScriptedCustomer):
    """A deleted customer whose subscription was canceled."""

    days = 40

    @override
    def first_steps(self, now: int) -> None:
        self.timeline.at(now + 1, self.begin, [(self.monthly(), 1)])
        self.timeline.at(now + 25 * DAY, lambda: customers.delete(self.session, self.customer))


class Metered(ScriptedCustomer):
    """Metered prices, tax IDs, and an old plan."""

    days = 300

    @override
    def first_steps(self, now: int) -> None:
        self.timeline.at(now + DAY, self.begin, [(self.shop.metered, 1), (self.shop.tiered, 120)])
        self.timeline.at(now + 2 * DAY, self.begin, [(self.shop.old["8"], 1)])
        self.timeline.at(now + 280 * DAY, self.shop.archive)
        for value in ("DE123456789", "FRAB123456789"):
            self.timeline.at(
                now + 1, customers.add_tax_id, self.session, self.customer, "eu_vat", value
            )


class Contested(ScriptedCustomer):
    """One purchase is disputed, the refund of another is pending."""

    days = 30

    @override
    def first_steps(self, now: int) -> None:
        self.timeline.at(now + DAY, self.order, 24_000)
        self.timeline.at(now + 2 * DAY, self.order, 8_000)

    def order(self, amount: int) -> None:
        """Purchase without an invoice, and regret it later."""
        intent = payments.create_intent(
            self.session, amount, self.place.currency, customer=self.customer["id"]
        )
        charge = payments.confirm(self.session, intent, self.method)
        later = self.session.now + 20 * DAY
        if amount > 10_000:
            self.timeline.at(later, disputes.open_dispute, self.session, charge, "fraudulent")
        else:
            self.timeline.at(later, refunds.refund, self.session, charge, 3_000, "pending")


HOUR_ONE = 3600
SCRIPTED_CUSTOMERS: tuple[type[ScriptedCustomer], ...] = (
    ManyItems, LongInvoice, FullInvoices, Paused, Incomplete, Unlucky, Billed, Trialing, Clocked,
    Leaver, Metered, Contested, Incomplete,
)  # fmt: skip
