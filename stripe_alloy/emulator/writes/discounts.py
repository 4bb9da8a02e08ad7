"""Discounts: coupons applied to customers, subscriptions and invoices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects.periods import after
from stripe_alloy.emulator.errors import required

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


_HOLDERS = ("subscription", "invoice")


def discounted(session: Session, holder: JSON, chosen: Any) -> list[str]:
    """Return the IDs of the discounts; "" clears them."""
    return [_one(session, holder, entry) for entry in chosen or []]


def _one(session: Session, holder: JSON, entry: JSON) -> str:
    if entry.get("discount"):
        return str(session.get("discount", entry["discount"], "discounts")["id"])
    if not entry.get("coupon"):
        raise required("discounts[0][coupon]")
    coupon = session.get("coupon", entry["coupon"], "coupon")
    session.change(coupon, times_redeemed=coupon["times_redeemed"] + 1)
    own = {holder["object"]: holder["id"]} if holder["object"] in _HOLDERS else {}
    months = coupon["duration_in_months"] if coupon["duration"] == "repeating" else None
    discount = session.add(
        "discount",
        customer=holder.get("customer"),
        end=after(session.now, "month", months) if months else None,
        source={"coupon": coupon["id"], "type": "coupon"},
        start=session.now,
        **own,
    )
    return str(discount["id"])
