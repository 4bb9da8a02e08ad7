"""Simulates an ordinary customer: subscribes, pays, sometimes fails, upgrades, returns, leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.effects import disputes, invoices, payments, refunds, subscriptions
from stripe_alloy.emulator.seed import names
from stripe_alloy.emulator.seed.new_customers import create_customer, give_payment_method
from stripe_alloy.emulator.seed.timeline import Timeline

if TYPE_CHECKING:
    from stripe_alloy.emulator.seed.names import Place
    from stripe_alloy.emulator.seed.products import Catalog
    from stripe_alloy.emulator.session import Session


HOUR = 3600
RECOVERS = 0.7  # of payments that are tried again
RETRIES = 3


class CustomerSimulation:
    """The simulated life of one customer."""

    fails, churns, upgrades = 0.04, 0.025, 0.04  # of payments, renewals, periods
    refunded, disputed = 0.035, 0.012  # of charges

    def __init__(self, session: Session, shop: Catalog, number: int, begins: int, end: int) -> None:
        self.session, self.shop, self.number = session, shop, number
        self.dice = session.dice
        self.timeline = Timeline(session, end)
        self.place: Place = self.dice.weighted(names.PLACES)
        self.customer: JSON = {}
        self.method: JSON = {}
        self.timeline.at(begins, self.join)

    def join(self) -> None:
        """Sign up, then subscribe or buy once in a while."""
        self.customer = create_customer(self.session, self.place, self.number)
        self.method = give_payment_method(self.session, self.customer, self.place)
        self.first_steps(self.session.now)

    def first_steps(self, now: int) -> None:
        """Plan the first actions."""
        if self.dice.chance(0.85):
            self.timeline.at(now + self.dice.between(60, 3 * DAY), self.subscribe)
        if self.dice.chance(0.2):
            self.timeline.at(now + self.dice.between(DAY, 60 * DAY), self.buy)
        if self.dice.chance(0.06):
            self.timeline.at(now + self.dice.between(DAY, 60 * DAY), self.abandon)
        if self.dice.chance(0.1):
            self.timeline.at(now + self.dice.between(90 * DAY, 500 * DAY), self.move_house)

    # ------------------------------------------------------------------ subscriptions

    def subscribe(self) -> None:
        """Choose a plan, perhaps an extra, perhaps with a trial."""
        interval = "year" if self.dice.chance(0.2) else "month"
        plan = self.dice.pick(self.shop.plans[self.place.currency, interval])
        chosen = [(plan, self.dice.weighted(((1, 60), (2, 20), (5, 15), (12, 5))))]
        extras = self.shop.extras.get(self.place.currency, [])
        if interval == "month" and extras and self.dice.chance(0.25):
            chosen.append((self.dice.pick(extras), 1))
        trial = self.session.now + 14 * DAY if self.dice.chance(0.25) else None
        self.begin(chosen, trial_end=trial)

    def begin(self, chosen: list[tuple[JSON, int]], **fields: Any) -> JSON:
        """Start a subscription and bill it."""
        known = {"default_payment_method": self.method["id"], "metadata": {"channel": "web"}}
        subscription = subscriptions.create(
            self.session, self.customer, chosen, **{**known, **fields}
        )
        invoice = subscriptions.bill(self.session, subscription, "subscription_create")
        subscriptions.bind(self.session, subscription, invoice)
        subscriptions.announce(self.session, subscription)
        self.collect(invoice, subscription, 1)
        self.plan_renewal(subscription)
        return subscription

    def plan_renewal(self, subscription: JSON) -> None:
        """Plan the next invoice, and an upgrade before it."""
        item = subscriptions.items_of(self.session, subscription)[0]
        start, end = item["current_period_start"], item["current_period_end"]
        self.timeline.at(end, self.renew, subscription)
        if subscription["status"] == "active" and self.dice.chance(self.upgrades):
            middle = start + self.dice.between(1, end - start - 1)
            self.timeline.at(middle, self.upgrade, subscription)

    def renew(self, subscription: JSON) -> None:
        """Bill another period, or cancel."""
        if subscription["status"] not in subscriptions.BILLED:
            return
        if self.dice.chance(self.churns):
            subscriptions.cancel(self.session, subscription)
            return
        if subscription["status"] == "trialing":
            self.session.change(subscription, status="active")
        subscriptions.advance(self.session, subscription)
        invoice = subscriptions.bill(self.session, subscription, "subscription_cycle")
        subscriptions.bind(self.session, subscription, invoice)
        self.session.emit("customer.subscription.updated", subscription)
        self.timeline.at(self.session.now + HOUR, self.collect, invoice, subscription, 1)
        self.plan_renewal(subscription)

    def upgrade(self, subscription: JSON) -> None:
        """Change the quantity within a period, prorated immediately."""
        if subscription["status"] != "active":
            return
        item = subscriptions.items_of(self.session, subscription)[0]
        before = dict(item)
        more = (item["quantity"] or 1) + self.dice.between(1, 3)
        self.session.change(item, quantity=more)
        self.session.nest(subscription)
        start = item["current_period_start"]
        invoice = subscriptions.draft(
            self.session, subscription, "subscription_update", period_start=start
        )
        subscriptions.prorate(self.session, invoice, before, item)
        subscriptions.bind(self.session, subscription, invoice)
        self.session.emit("customer.subscription.updated", subscription)
        self.collect(invoice, subscription, 1)

    # ------------------------------------------------------------------ money

    def collect(self, invoice: JSON, subscription: JSON | None, attempt: int) -> None:
        """Finalize the invoice if it is a draft, and try to collect it."""
        if invoice["status"] == "draft":
            invoices.finalize(self.session, invoice)
        if invoice["status"] != "open":
            return
        odds = self.fails if attempt == 1 else 1 - RECOVERS
        decline = self.dice.weighted(names.DECLINES) if self.dice.chance(odds) else None
        if invoices.pay(self.session, invoice, self.method, decline):
            self.paid(invoice, subscription)
        else:
            self.unpaid(invoice, subscription, attempt)

    def paid(self, invoice: JSON, subscription: JSON | None) -> None:
        """Continue after a payment; it may be refunded or disputed."""
        if subscription is not None and subscription["status"] == "past_due":
            subscriptions.set_status(self.session, subscription, "active")
        rows = self.session.children("invoice_payment", "parent", invoice["id"])
        for payment in rows:
            intent = self.session.get("payment_intent", payment["payment"]["payment_intent"])
            self.after_charge(self.session.get("charge", intent["latest_charge"]))

    def unpaid(self, invoice: JSON, subscription: JSON | None, attempt: int) -> None:
        """Retry in three days, and finally give up."""
        if subscription is not None and subscription["status"] == "active":
            subscriptions.set_status(self.session, subscription, "past_due")
        later = self.session.now + invoices.RETRY_AFTER
        if attempt < RETRIES:
            self.timeline.at(later, self.collect, invoice, subscription, attempt + 1)
        else:
            self.timeline.at(later, self.give_up, invoice, subscription)

    def give_up(self, invoice: JSON, subscription: JSON | None) -> None:
        """Mark the invoice uncollectible, and cancel the subscription."""
        invoices.close(self.session, invoice, "uncollectible")
        if subscription is not None and subscription["status"] in subscriptions.BILLED:
            subscriptions.cancel(self.session, subscription, "payment_failed")

    def after_charge(self, charge: JSON) -> None:
        """Plan a refund or a dispute, by chance."""
        now = self.session.now
        if self.dice.chance(self.refunded):
            self.timeline.at(now + self.dice.between(DAY, 12 * DAY), self.refund, charge)
        elif self.dice.chance(self.disputed):
            self.timeline.at(now + self.dice.between(5 * DAY, 25 * DAY), self.dispute, charge)

    def refund(self, charge: JSON) -> None:
        """Refund all or a part; some refunds are pending first, and some of these fail."""
        part = self.dice.chance(0.4) and charge["amount"] >= 2
        amount = self.dice.between(1, charge["amount"] - 1) if part else None
        reason = self.dice.weighted(names.REFUND_REASONS)
        if self.dice.chance(0.75):
            refunds.refund(self.session, charge, amount, reason=reason)
            return
        made = refunds.refund(
            self.session, charge, amount, "pending", reason=reason, pending_reason="processing"
        )
        later = self.session.now + self.dice.between(DAY, 20 * DAY)
        self.timeline.at(later, self.end_refund, made, charge)

    def end_refund(self, made: JSON, charge: JSON) -> None:
        """Complete a pending refund, or fail it."""
        self.session.change(made, pending_reason=None)
        refunds.settle(self.session, made)
        if self.dice.chance(0.4):
            later = self.session.now + self.dice.between(DAY, 5 * DAY)
            self.timeline.at(
                later, refunds.fail, self.session, made, charge, "expired_or_canceled_card"
            )

    def dispute(self, charge: JSON) -> None:
        """Open a dispute; the decision takes a month."""
        reason = self.dice.weighted(names.DISPUTE_REASONS)
        made = disputes.open_dispute(self.session, charge, reason)
        if self.dice.chance(0.8):
            outcome = "won" if self.dice.chance(0.4) else "lost"
            later = self.session.now + self.dice.between(20 * DAY, 45 * DAY)
            self.timeline.at(later, disputes.close, self.session, made, outcome)

    # ------------------------------------------------------------------ besides

    def buy(self) -> None:
        """Purchase without an invoice; some customers purchase again."""
        currency = self.place.currency
        dollars = self.dice.between(20, 400)
        intent = payments.create_intent(
            self.session,
            dollars * 100,
            currency,
            customer=self.customer["id"],
            description="Webshop order",
            metadata={"order": f"W-{self.dice.digits(7)}"},
            receipt_email=self.customer["email"],
        )
        decline = self.dice.weighted(names.DECLINES) if self.dice.chance(0.15) else None
        charge = payments.confirm(self.session, intent, self.method, decline)
        if charge["status"] == "failed" and self.dice.chance(RECOVERS):
            later = self.session.now + self.dice.between(60, HOUR)
            self.timeline.at(later, payments.confirm, self.session, intent, self.method)
        elif charge["status"] == "succeeded":
            self.after_charge(charge)
        if self.dice.chance(0.6):
            self.timeline.at(self.session.now + self.dice.between(20 * DAY, 120 * DAY), self.buy)

    def abandon(self) -> None:
        """Abandon a checkout; half of them are canceled."""
        intent = payments.create_intent(
            self.session, 100 * self.dice.between(5, 90), self.place.currency,
            customer=self.customer["id"],
        )  # fmt: skip
        if self.dice.chance(0.5):
            later = self.session.now + DAY
            self.timeline.at(later, payments.cancel, self.session, intent, "abandoned")

    def move_house(self) -> None:
        """Change the address."""
        city, postal_code = self.dice.pick(self.place.cities)
        address = {**self.customer["address"], "city": city, "postal_code": postal_code}
        self.session.change(self.customer, address=address)
        self.session.emit("customer.updated", self.customer)
