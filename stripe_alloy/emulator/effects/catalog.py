"""Products and prices."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.errors import invalid
from stripe_alloy.emulator.templates import build

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


DEFAULT_RECURRING = {
    "interval": "month",
    "interval_count": 1,
    "meter": None,
    "trial_period_days": None,
    "usage_type": "licensed",
}


def create_product(ledger: Session, **fields: Any) -> JSON:
    """A new product."""
    product = ledger.add("product", updated=ledger.now, **fields)
    ledger.emit("product.created", product)
    return product


def touch_product(ledger: Session, product: JSON, **fields: Any) -> JSON:
    """Change a product; it knows when."""
    ledger.change(product, **fields, updated=ledger.now)
    ledger.emit("product.updated", product)
    return product


def delete_product(ledger: Session, product: JSON) -> JSON:
    """Delete a product that has no prices."""
    if ledger.children("price", "product", product["id"]):
        raise invalid(
            "This product cannot be deleted because it has one or more user-created prices.",
        )
    ledger.emit("product.deleted", product)
    return ledger.remove(product)


def create_price(ledger: Session, *, hidden: JSON | None = None, **fields: Any) -> JSON:
    """A new price; one with `recurring` is billed again and again."""
    recurring = fields.pop("recurring", None)
    if recurring:
        fields["recurring"] = {**DEFAULT_RECURRING, **recurring}
    fields["type"] = "recurring" if recurring else "one_time"
    price = ledger.add("price", hidden=hidden, **fields)
    ledger.emit("price.created", price)
    return price


def give_up_lookup_key(ledger: Session, holder: JSON) -> None:
    """Make a price's lookup key free for another."""
    ledger.change(holder, lookup_key=None)
    ledger.emit("price.updated", holder)


def delete_price(ledger: Session, price: JSON) -> JSON:
    """What only the dashboard can do."""
    ledger.emit("price.deleted", price)
    return ledger.remove(price)


def plan_of(price: JSON) -> JSON:
    """The price as the plan that subscription items still carry."""
    recurring = price["recurring"] or {}
    return build(
        "plan",
        id=price["id"],
        active=price["active"],
        amount=price["unit_amount"],
        amount_decimal=price["unit_amount_decimal"],
        billing_scheme=price["billing_scheme"],
        created=price["created"],
        currency=price["currency"],
        interval=recurring.get("interval", "month"),
        interval_count=recurring.get("interval_count", 1),
        livemode=price["livemode"],
        metadata=price["metadata"],
        meter=recurring.get("meter"),
        nickname=price["nickname"],
        product=price["product"],
        tiers_mode=price["tiers_mode"],
        trial_period_days=recurring.get("trial_period_days"),
        usage_type=recurring.get("usage_type", "licensed"),
    )


def amount_of(price: JSON, quantity: int, tiers: list[JSON] | None) -> int:
    """What a quantity costs, in minor units, rounded half up."""
    if price["billing_scheme"] == "tiered":
        return _tiered(tiers or [], quantity, price["tiers_mode"])
    unit = Decimal(str(price["unit_amount_decimal"] or price["unit_amount"] or 0))
    return int((unit * quantity + Decimal("0.5")) // 1)


def _tiered(tiers: list[JSON], quantity: int, mode: str) -> int:
    total, done = 0, 0
    for tier in tiers:
        last = tier["up_to"] is None or quantity <= tier["up_to"]
        if mode == "graduated" or last:
            top = quantity if last else tier["up_to"]
            counted = top - done if mode == "graduated" else quantity
            total += counted * (tier["unit_amount"] or 0) + (tier["flat_amount"] or 0)
            done = top
        if last:
            break
    return total


def spread(ledger: Session, price: JSON) -> None:
    """Bring subscription items that embed the price up to date; Stripe makes no event of that."""
    for item in ledger.children("subscription_item", "price", price["id"]):
        ledger.change(item, price=dict(price), plan=plan_of(price))
        subscription = ledger.find("subscription", item["subscription"])
        if subscription is not None:
            ledger.nest(subscription)
