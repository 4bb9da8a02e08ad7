"""Discounts: a coupon bound to something; invoices of a subscription take over its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects.periods import after
from stripe_alloy.emulator.errors import required

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


_HOLDERS = ("subscription", "invoice")


def discounted(ledger: Session, holder: JSON, chosen: Any) -> list[str]:
    """The ids of the discounts; "" clears them."""
    return [_one(ledger, holder, entry) for entry in chosen or []]


def _one(ledger: Session, holder: JSON, entry: JSON) -> str:
    if entry.get("discount"):
        return str(ledger.get("discount", entry["discount"], "discounts")["id"])
    if not entry.get("coupon"):
        raise required("discounts[0][coupon]")
    coupon = ledger.get("coupon", entry["coupon"], "coupon")
    ledger.change(coupon, times_redeemed=coupon["times_redeemed"] + 1)
    own = {holder["object"]: holder["id"]} if holder["object"] in _HOLDERS else {}
    months = coupon["duration_in_months"] if coupon["duration"] == "repeating" else None
    discount = ledger.add(
        "discount",
        customer=holder.get("customer"),
        end=after(ledger.now, "month", months) if months else None,
        source={"coupon": coupon["id"], "type": "coupon"},
        start=ledger.now,
        **own,
    )
    return str(discount["id"])
