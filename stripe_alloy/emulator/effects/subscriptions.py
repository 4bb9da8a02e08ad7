"""Subscriptions: their items, their periods, the invoices they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.clock import DAY
from stripe_alloy.emulator.effects import invoices
from stripe_alloy.emulator.effects.catalog import amount_of, plan_of
from stripe_alloy.emulator.effects.lines import add_priced, add_proration, from_subscription
from stripe_alloy.emulator.effects.periods import after, day

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stripe_alloy.emulator.session import Session


BILLED = ("active", "past_due", "trialing")


def create(
    ledger: Session,
    customer: JSON,
    chosen: Sequence[tuple[JSON, int]],
    *,
    trial_end: int | None = None,
    **fields: Any,
) -> JSON:
    """A subscription with an item for each (price, quantity); its first invoice comes later."""
    first = chosen[0][0]
    known = {
        "billing_cycle_anchor": trial_end or ledger.now,
        "currency": first["currency"],
        "customer": customer["id"],
        "start_date": ledger.now,
        "status": "trialing" if trial_end else "active",
        "test_clock": customer["test_clock"],
        "trial_end": trial_end,
        "trial_start": ledger.now if trial_end else None,
    }
    subscription = ledger.add("subscription", **{**known, **fields})
    for price, quantity in chosen:
        add_item(ledger, subscription, price, quantity)
    ledger.nest(subscription)
    return subscription


def announce(ledger: Session, subscription: JSON) -> None:
    """The subscription is complete."""
    ledger.nest(subscription)
    ledger.emit("customer.subscription.created", subscription)


def add_item(
    ledger: Session, subscription: JSON, price: JSON, quantity: int, **fields: Any
) -> JSON:
    """One more item, in the subscription's current period."""
    start, end = period_of(ledger, subscription, price)
    metered = (price["recurring"] or {}).get("usage_type") == "metered"
    return ledger.add(
        "subscription_item",
        current_period_start=start,
        current_period_end=end,
        plan=plan_of(price),
        price=dict(price),
        quantity=None if metered else quantity,
        subscription=subscription["id"],
        **fields,
    )


def period_of(ledger: Session, subscription: JSON, price: JSON) -> tuple[int, int]:
    """The current period: that of the items there are, or the first one."""
    items = items_of(ledger, subscription)
    if items:
        return items[0]["current_period_start"], items[0]["current_period_end"]
    if subscription["trial_end"]:
        return ledger.now, subscription["trial_end"]
    if subscription["billing_cycle_anchor"] > ledger.now:
        return ledger.now, subscription["billing_cycle_anchor"]
    recurring = price["recurring"] or {"interval": "month", "interval_count": 1}
    end = after(ledger.now, recurring["interval"], recurring["interval_count"])
    return ledger.now, end


def items_of(ledger: Session, subscription: JSON) -> list[JSON]:
    """The subscription's items."""
    return ledger.children("subscription_item", "parent", subscription["id"])


def bill(ledger: Session, subscription: JSON, reason: str) -> JSON:
    """A draft with a line for each item's current period, and what is pending besides."""
    customer = ledger.get("customer", subscription["customer"])
    items = items_of(ledger, subscription)
    start, end = items[0]["current_period_start"], items[0]["current_period_end"]
    automatic = subscription["collection_method"] == "charge_automatically"
    invoice = invoices.draft(
        ledger,
        customer,
        subscription["currency"],
        auto_advance=True,
        automatically_finalizes_at=ledger.now + invoices.FINALIZES_AFTER,
        billing_reason=reason,
        collection_method=subscription["collection_method"],
        default_payment_method=subscription["default_payment_method"],
        discounts=discounts_of(ledger, subscription),
        due_date=None if automatic else ledger.now + (subscription["days_until_due"] or 30) * DAY,
        parent=invoices.of_subscription(subscription),
        period_start=start,
        period_end=end if reason == "subscription_create" else start,
    )
    free = subscription["status"] == "trialing"
    for item in items:
        _bill_item(ledger, invoice, item, {"start": start, "end": end}, free=free)
    return invoice


def discounts_of(ledger: Session, subscription: JSON) -> list[str]:
    """The subscription's discounts that have not ended when its current period begins."""
    start = items_of(ledger, subscription)[0]["current_period_start"]
    found = [ledger.get("discount", discount_id) for discount_id in subscription["discounts"]]
    return [one["id"] for one in found if one["end"] is None or one["end"] > start]


def _spend_discounts(ledger: Session, subscription: JSON, invoice: JSON) -> None:
    """A coupon that is good for one invoice leaves the subscription with it."""
    used = {entry["discount"] for entry in invoice["total_discount_amounts"]}
    left = [one for one in subscription["discounts"] if one not in used or not _once(ledger, one)]
    if left != subscription["discounts"]:
        ledger.change(subscription, discounts=left)


def _once(ledger: Session, discount_id: str) -> bool:
    discount = ledger.get("discount", discount_id)
    coupon = ledger.find("coupon", discount["source"]["coupon"])
    return coupon is not None and coupon["duration"] == "once"


def _bill_item(ledger: Session, invoice: JSON, item: JSON, period: JSON, *, free: bool) -> JSON:
    price = ledger.find("price", item["price"]["id"]) or item["price"]
    known = {
        "metadata": item["metadata"],
        "parent": from_subscription(item),
        "period": period,
        "subscription": item["subscription"],
    }
    if free:
        known["description"] = "Trial period"
        line = add_priced(ledger, invoice, price, 0, **known)
        return ledger.change(line, quantity=item["quantity"], amount=0, subtotal=0)
    return add_priced(ledger, invoice, price, item["quantity"] or 0, **known)


def bind(ledger: Session, subscription: JSON, invoice: JSON) -> None:
    """The invoice is the subscription's latest now."""
    invoices.announce(ledger, invoice)
    ledger.change(subscription, latest_invoice=invoice["id"])
    _spend_discounts(ledger, subscription, invoice)


def advance(ledger: Session, subscription: JSON) -> None:
    """Go on to the next period."""
    items = items_of(ledger, subscription)
    recurring = items[0]["price"]["recurring"]
    start = items[0]["current_period_end"]
    end = after(
        start,
        recurring["interval"],
        recurring["interval_count"],
        subscription["billing_cycle_anchor"],
    )
    for item in items:
        ledger.change(item, current_period_start=start, current_period_end=end)
    ledger.nest(subscription)


def restart(ledger: Session, subscription: JSON) -> None:
    """Begin a period now, with a new anchor."""
    ledger.change(subscription, billing_cycle_anchor=ledger.now)
    for item in items_of(ledger, subscription):
        ledger.change(item, current_period_end=ledger.now)
    advance(ledger, subscription)


def set_status(ledger: Session, subscription: JSON, status: str, **fields: Any) -> None:
    """Change the status, and say so."""
    if subscription["status"] != status or fields:
        ledger.change(subscription, status=status, **fields)
        ledger.emit("customer.subscription.updated", subscription)


def cancel(ledger: Session, subscription: JSON, reason: str = "cancellation_requested") -> JSON:
    """End it now. Canceled is final; the object stays."""
    details = {**(subscription["cancellation_details"] or {}), "reason": reason}
    ledger.change(
        subscription,
        status="canceled",
        canceled_at=subscription["canceled_at"] or ledger.now,
        cancellation_details=details,
        ended_at=ledger.now,
    )
    ledger.emit("customer.subscription.deleted", subscription)
    return subscription


def prorate(ledger: Session, invoice: JSON, old: JSON, new: JSON) -> None:
    """Two lines: credit for the old item's unused time, charge for the new one's."""
    start, end = old["current_period_start"], old["current_period_end"]
    left = max(end - ledger.now, 0)
    period = {"start": ledger.now, "end": end}
    for item, sign, words in ((old, -1, "Unused time on"), (new, 1, "Remaining time on")):
        price = item["price"]
        tiers = ledger.hidden(price).get("tiers")
        whole = amount_of(price, item["quantity"] or 0, tiers)
        share = whole * left // max(end - start, 1)
        product = ledger.find("product", price["product"])
        name = product["name"] if product else price["product"]
        text = f"{words} {item['quantity']} x {name} after {day(ledger.now)}"
        add_proration(ledger, invoice, item, sign * share, text, period)
