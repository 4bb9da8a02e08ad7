"""A small shop whose every payment is made by hand, so that each figure of it is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import pytest
import stripe

from stripe_alloy.emulator import Emulator
from stripe_alloy.emulator.effects import disputes, invoices, payouts
from stripe_alloy.emulator.session import Session
from tests.e2e.answers import Row

OPENED = datetime(2027, 2, 28, 23, 59, 59, tzinfo=timezone.utc)
GOOD, NO_FUNDS, DECLINED = "4242424242424242", "4000000000009995", "4000000000000002"


class Shop:
    """A few weeks in March 2027. Stripe's fee is 2.9 % + 30, a dispute's 1500."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        client = stripe.StripeClient(emulator.api_key, base_addresses={"api": emulator.url})
        self.api: Any = client.v1
        self.now = OPENED
        self.product = self.api.products.create({"name": "Plan"}).id
        self.plan = self.price({"interval": "month"})
        self.metered = self.price({"interval": "month", "usage_type": "metered"})

    def day(self, day: int, hour: int = 0) -> None:
        """Let the time pass until a day in March."""
        then = datetime(2027, 3, day, hour, tzinfo=timezone.utc)
        self.emulator.clock_advance((then - self.now).total_seconds())
        self.now = then

    def price(self, recurring: Row) -> str:
        given = {"currency": "usd", "unit_amount": 2_000, "product": self.product}
        made: str = self.api.prices.create({**given, "recurring": recurring}).id
        return made

    def customer(self, name: str, number: str = GOOD, expires: tuple[int, int] = (12, 2030)) -> str:
        details = {"number": GOOD, "exp_month": expires[0], "exp_year": expires[1]}
        method = self.api.payment_methods.create({"type": "card", "card": details}).id
        settings = {"default_payment_method": method}
        email = f"{name.lower()}@example.com"
        customer = {"name": name, "email": email, "payment_method": method}
        made: str = self.api.customers.create({**customer, "invoice_settings": settings}).id
        if number != GOOD:
            self._turns_bad(method, number)
        return made

    def _turns_bad(self, method: str, number: str) -> None:
        """A card is declined from now on, as another one is: no customer can get such a card."""
        with self.emulator.store.transaction():
            session = self.emulator.service.session(self.emulator.account_id)
            found = session.get("payment_method", method)
            session.change(found, card={**found["card"], "last4": number[-4:]})
            session.flush()

    def pays(self, customer: str, amount: int, currency: str, capture: str = "automatic") -> Any:
        held = self.api.customers.retrieve(customer).invoice_settings.default_payment_method
        given = {"amount": amount, "currency": currency, "customer": customer}
        how = {"payment_method": held, "confirm": True, "capture_method": capture}
        return self.api.payment_intents.create({**given, **how})

    def owes(self, customer: str, amount: int, currency: str = "usd", **more: Any) -> str:
        given = {"customer": customer, "currency": currency}
        invoice: str = self.api.invoices.create({**given, **more}).id
        self.api.invoice_items.create({**given, "invoice": invoice, "amount": amount})
        return invoice

    def sends(self, customer: str, amount: int, days: int) -> str:
        """An invoice is sent, due in some days."""
        method = "send_invoice"
        invoice = self.owes(customer, amount, collection_method=method, days_until_due=days)
        self.api.invoices.send_invoice(invoice)
        return invoice

    def fails(self, invoice: str, method: str | None = None) -> None:
        """A payment of the invoice, by a method or the customer's own, is declined."""
        with pytest.raises(stripe.CardError):
            self.api.invoices.pay(invoice, {"payment_method": method} if method else {})

    def subscribes(self, customer: str, quantity: int = 1, **more: Any) -> str:
        items = [{"price": self.plan, "quantity": quantity}]
        made: str = self.api.subscriptions.create({"customer": customer, "items": items, **more}).id
        return made

    def tries(self, name: str, days: int, **more: Any) -> str:
        return self.subscribes(self.customer(name), trial_period_days=days, **more)

    def records(self, invoice: str) -> None:
        """A payment outside Stripe is recorded for the invoice."""
        with self.ledger() as ledger:
            paid = ledger.get("invoice", invoice)
            made = ledger.add(
                "invoice_payment",
                amount_paid=paid["amount_due"],
                amount_requested=paid["amount_due"],
                currency=paid["currency"],
                invoice=invoice,
                is_default=False,
                payment={"type": "payment_record", "payment_record": "pr_1"},
                status="paid",
            )
            ledger.emit("invoice_payment.paid", made)
            invoices.settle_off_stripe(ledger, paid)

    @contextmanager
    def ledger(self) -> Iterator[Session]:
        """For what banks and Stripe do, which the API has no request for."""
        with self.emulator.store.transaction():
            ledger = self.emulator.service.session(self.emulator.account_id)
            yield ledger
            ledger.flush()


def first_days(shop: Shop) -> dict[str, str]:
    """What happens before the first run of the job; ids of what goes on after it."""
    lea = shop.customer("Lea")
    shop.pays(lea, 1_500, "usd")  # fee 74; the last second of February
    shop.day(1)
    shop.subscribes(shop.customer("Ada", expires=(3, 2027)), quantity=2)  # 4000, fee 146
    bob = shop.customer("Bob", expires=(3, 2027))
    leaving = shop.subscribes(bob)  # 2000, fee 88
    shop.day(5)
    shop.tries("Cleo", 20)
    shop.day(6)
    dan = shop.customer("Dan", NO_FUNDS)
    twice = shop.owes(dan, 5_000)
    shop.fails(twice, "pm_card_chargeDeclined")
    shop.fails(shop.owes(dan, 700), "pm_card_chargeDeclined")
    mia = shop.customer("Mia", DECLINED)
    shop.fails(shop.owes(mia, 900))
    shop.day(7)
    yen = shop.pays(shop.customer("Eri"), 5_000, "jpy")  # fee 175
    shop.api.refunds.create({"payment_intent": yen.id, "amount": 1_200})
    shop.day(8)
    fay = shop.customer("Fay")
    shop.pays(fay, 12_340, "kwd")  # fee 388
    shop.pays(fay, 5_670, "kwd")  # fee 194
    nia = shop.customer("Nia", DECLINED)
    shop.fails(shop.owes(nia, 1_100))
    wes = shop.customer("Wes")
    shop.sends(wes, 2_500, days=4)
    shop.sends(wes, 2_600, days=14)
    xia = shop.customer("Xia")
    shop.api.invoices.pay(shop.sends(xia, 3_300, days=4), {"paid_out_of_band": True})
    transferred = shop.sends(xia, 3_400, days=4)
    yul = shop.customer("Yul")
    brought = shop.sends(yul, 3_500, days=4)
    shop.day(9)
    held = shop.pays(shop.customer("Gil"), 10_000, "usd", "manual")
    shop.api.payment_intents.capture(held.id, {"amount_to_capture": 7_000})  # fee 233
    held = shop.pays(shop.customer("Hal"), 8_000, "usd", "manual")
    shop.api.payment_intents.cancel(held.id)
    shop.pays(shop.customer("Ida"), 9_000, "usd", "manual")
    regretted = shop.pays(shop.customer("Jan"), 3_000, "usd")  # fee 117, which is not given back
    shop.api.refunds.create({"payment_intent": regretted.id})
    known = {"Lea": lea, "Bob": bob, "Mia": mia, "leaving": leaving, "twice": twice}
    return {**known, "Nia": nia, "transferred": transferred, "brought": brought}


def further_days(shop: Shop, known: dict[str, str]) -> None:
    """What happens between the first and the second run."""
    shop.day(10)
    shop.fails(shop.owes(known["Nia"], 1_100), "pm_card_chargeDeclinedInsufficientFunds")
    shop.api.invoices.pay(known["transferred"], {"paid_out_of_band": True})
    shop.records(known["brought"])
    amy = shop.customer("Amy")
    shop.api.invoices.pay(shop.owes(amy, 0))
    sold = shop.api.invoices.pay(shop.owes(amy, 1_000, "gbp"))  # fee 59
    [payment] = shop.api.invoice_payments.list({"invoice": sold.id}).data
    shop.api.refunds.create({"payment_intent": payment.payment.payment_intent})
    kim = shop.subscribes(shop.customer("Kim"))  # 2000, fee 88
    shop.api.subscriptions.update(known["leaving"], {"cancel_at_period_end": True})
    shop.pays(shop.customer("Ola"), 50_000, "ugx")  # fee 1480
    converted = shop.pays(shop.customer("Pia"), 600, "chf")
    with shop.ledger() as ledger:
        charge = ledger.get("charge", converted.latest_charge)
        moved = ledger.get("balance_transaction", charge["balance_transaction"])
        settled = {"currency": "usd", "exchange_rate": 1.1, "amount": 660, "fee": 49, "net": 611}
        ledger.change(moved, **settled, fee_details=[])
    shop.day(11)
    quin = shop.tries("Quin", 18)
    shop.api.subscriptions.update(quin, {"cancel_at_period_end": True})
    shop.day(12)
    shop.api.subscriptions.update(quin, {"cancel_at_period_end": False})
    shop.api.subscriptions.cancel(kim)
    rex = shop.tries("Rex", 12)
    shop.api.subscriptions.update(rex, {"pause_collection": {"behavior": "void"}})
    sam = shop.tries("Sam", 14)
    end = int(datetime(2027, 3, 26, tzinfo=timezone.utc).timestamp())
    shop.api.subscriptions.update(sam, {"cancel_at": end})
    shop.tries("Tia", 15, items=[{"price": shop.plan}, {"price": shop.metered}])
    shop.api.subscriptions.pause(shop.tries("Val", 13))
    shop.day(14)
    shop.api.customers.delete(known["Lea"])
    shop.api.customers.delete(known["Mia"])
    shop.fails(known["twice"])
    with shop.ledger() as ledger:
        [disputed] = ledger.children("charge", "customer", known["Bob"])
        disputes.open_dispute(ledger, disputed, "fraudulent")
    shop.day(15)
    with shop.ledger() as ledger:
        payouts.pay_out(ledger, 16_365, "usd")
    shop.day(16)
    shop.pays(shop.customer("Uma"), 6_000, "usd")  # fee 204
    shop.api.payouts.create({"amount": 500, "currency": "jpy"})
    shop.day(20)
    with shop.ledger() as ledger:
        payouts.pay_out(ledger, 2_296, "usd")
    shop.day(21, hour=12)
    shop.customer("Zoe")
