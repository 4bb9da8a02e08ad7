"""Subscriptions: items, periods and invoices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.effects import invoices
from stripe_alloy.emulator.effects.catalog import amount_of, plan_of
from stripe_alloy.emulator.effects.lines import add_priced, add_proration, from_subscription
from stripe_alloy.emulator.effects.periods import after, day
from stripe_alloy.emulator.templates import copied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stripe_alloy.emulator.session import Session


BILLED = ("active", "past_due", "trialing")


def create(
    session: Session,
    customer: JSON,
    chosen: Sequence[tuple[JSON, int]],
    *,
    trial_end: int | None = None,
    **fields: Any,
) -> JSON:
    """Create a subscription with an item per (price, quantity), without an invoice."""
    first = chosen[0][0]
    known = {
        "billing_cycle_anchor": trial_end or session.now,
        "currency": first["currency"],
        "customer": customer["id"],
        "start_date": session.now,
        "status": "trialing" if trial_end else "active",
        "test_clock": customer["test_clock"],
        "trial_end": trial_end,
        "trial_start": session.now if trial_end else None,
    }
    subscription = session.add("subscription", **{**known, **fields})
    for price, quantity in chosen:
        add_item(session, subscription, price, quantity)
    session.nest(subscription)
    return subscription


def announce(session: Session, subscription: JSON) -> None:
    """Emit the event of a subscription that is complete."""
    session.nest(subscription)
    session.emit("customer.subscription.created", subscription)


def add_item(
    session: Session, subscription: JSON, price: JSON, quantity: int, **fields: Any
) -> JSON:
    """Add an item in the subscription's current period."""
    start, end = period_of(session, subscription, price)
    metered = (price["recurring"] or {}).get("usage_type") == "metered"
    return session.add(
        "subscription_item",
        current_period_start=start,
        current_period_end=end,
        plan=plan_of(price),
        price=dict(price),
        quantity=None if metered else quantity,
        subscription=subscription["id"],
        **fields,
    )


def period_of(session: Session, subscription: JSON, price: JSON) -> tuple[int, int]:
    """Return the current period: that of the existing items, or the first one."""
    items = items_of(session, subscription)
    if items:
        return items[0]["current_period_start"], items[0]["current_period_end"]
    if subscription["trial_end"]:
        return session.now, subscription["trial_end"]
    if subscription["billing_cycle_anchor"] > session.now:
        return session.now, subscription["billing_cycle_anchor"]
    recurring = price["recurring"] or {"interval": "month", "interval_count": 1}
    end = after(session.now, recurring["interval"], recurring["interval_count"])
    return session.now, end


def items_of(session: Session, subscription: JSON) -> list[JSON]:
    """Return the subscription's items."""
    return session.children("subscription_item", "parent", subscription["id"])


def draft(session: Session, subscription: JSON, reason: str, **fields: Any) -> JSON:
    """Create a draft invoice without lines."""
    return invoices.draft(
        session,
        session.get("customer", subscription["customer"]),
        subscription["currency"],
        auto_advance=True,
        billing_reason=reason,
        discounts=discounts_of(session, subscription),
        parent=invoices.of_subscription(subscription),
        **copied(subscription, "collection_method", "default_payment_method"),
        **fields,
    )


def bill(session: Session, subscription: JSON, reason: str) -> JSON:
    """Create a draft invoice with a line for each item's current period."""
    items = items_of(session, subscription)
    start, end = items[0]["current_period_start"], items[0]["current_period_end"]
    automatic = subscription["collection_method"] == "charge_automatically"
    invoice = draft(
        session,
        subscription,
        reason,
        automatically_finalizes_at=session.now + invoices.FINALIZES_AFTER,
        due_date=None if automatic else session.now + (subscription["days_until_due"] or 30) * DAY,
        period_start=start,
        period_end=end if reason == "subscription_create" else start,
    )
    free = subscription["status"] == "trialing"
    for item in items:
        _bill_item(session, invoice, item, {"start": start, "end": end}, free=free)
    return invoice


def discounts_of(session: Session, subscription: JSON) -> list[str]:
    """Return the discounts that have not ended when the current period begins."""
    start = items_of(session, subscription)[0]["current_period_start"]
    found = [session.get("discount", discount_id) for discount_id in subscription["discounts"]]
    return [one["id"] for one in found if one["end"] is None or one["end"] > start]


def _spend_discounts(session: Session, subscription: JSON, invoice: JSON) -> None:
    """Remove discounts that are valid for one invoice only."""
    used = {entry["discount"] for entry in invoice["total_discount_amounts"]}
    left = [one for one in subscription["discounts"] if one not in used or not _once(session, one)]
    if left != subscription["discounts"]:
        session.change(subscription, discounts=left)


def _once(session: Session, discount_id: str) -> bool:
    discount = session.get("discount", discount_id)
    coupon = session.find("coupon", discount["source"]["coupon"])
    return coupon is not None and coupon["duration"] == "once"


def _bill_item(session: Session, invoice: JSON, item: JSON, period: JSON, *, free: bool) -> JSON:
    price = session.find("price", item["price"]["id"]) or item["price"]
    known = {
        "metadata": item["metadata"],
        "parent": from_subscription(item),
        "period": period,
        "subscription": item["subscription"],
    }
    if free:
        known["description"] = "Trial period"
        line = add_priced(session, invoice, price, 0, **known)
        return session.change(line, quantity=item["quantity"], amount=0, subtotal=0)
    return add_priced(session, invoice, price, item["quantity"] or 0, **known)


def bind(session: Session, subscription: JSON, invoice: JSON) -> None:
    """Make an invoice the subscription's latest."""
    invoices.announce(session, invoice)
    session.change(subscription, latest_invoice=invoice["id"])
    _spend_discounts(session, subscription, invoice)


def advance(session: Session, subscription: JSON) -> None:
    """Advance to the next period."""
    items = items_of(session, subscription)
    recurring = items[0]["price"]["recurring"]
    start = items[0]["current_period_end"]
    end = after(
        start,
        recurring["interval"],
        recurring["interval_count"],
        subscription["billing_cycle_anchor"],
    )
    for item in items:
        session.change(item, current_period_start=start, current_period_end=end)
    session.nest(subscription)


def restart(session: Session, subscription: JSON) -> None:
    """Start a period now, with a new anchor."""
    session.change(subscription, billing_cycle_anchor=session.now)
    for item in items_of(session, subscription):
        session.change(item, current_period_end=session.now)
    advance(session, subscription)


def set_status(session: Session, subscription: JSON, status: str, **fields: Any) -> None:
    """Change the status, and emit the event."""
    if subscription["status"] != status or fields:
        session.change(subscription, status=status, **fields)
        session.emit("customer.subscription.updated", subscription)


def cancel(session: Session, subscription: JSON, reason: str = "cancellation_requested") -> JSON:
    """Cancel immediately; the object remains."""
    details = {**(subscription["cancellation_details"] or {}), "reason": reason}
    session.change(
        subscription,
        status="canceled",
        canceled_at=subscription["canceled_at"] or session.now,
        cancellation_details=details,
        ended_at=session.now,
    )
    session.emit("customer.subscription.deleted", subscription)
    return subscription


def prorate(session: Session, invoice: JSON, old: JSON, new: JSON) -> None:
    """Add two lines: a credit for the old item's unused time, a charge for the new one's."""
    start, end = old["current_period_start"], old["current_period_end"]
    left = max(end - session.now, 0)
    period = {"start": session.now, "end": end}
    for item, sign, words in ((old, -1, "Unused time on"), (new, 1, "Remaining time on")):
        price = item["price"]
        tiers = session.private_fields(price).get("tiers")
        whole = amount_of(price, item["quantity"] or 0, tiers)
        share = whole * left // max(end - start, 1)
        product = session.find("product", price["product"])
        name = product["name"] if product else price["product"]
        text = f"{words} {item['quantity']} x {name} after {day(session.now)}"
        add_proration(session, invoice, item, sign * share, text, period)
