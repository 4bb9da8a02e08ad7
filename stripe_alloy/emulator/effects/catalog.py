"""Products and prices."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.errors import invalid
from stripe_alloy.emulator.templates import build, copied

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


DEFAULT_RECURRING = {
    "interval": "month",
    "interval_count": 1,
    "meter": None,
    "trial_period_days": None,
    "usage_type": "licensed",
}
_OF_PLAN_TOO = (
    *("id", "active", "billing_scheme", "created", "currency", "livemode", "metadata", "nickname"),
    *("product", "tiers_mode"),
)


def create_product(session: Session, **fields: Any) -> JSON:
    """Create a product."""
    product = session.add("product", updated=session.now, **fields)
    session.emit("product.created", product)
    return product


def touch_product(session: Session, product: JSON, **fields: Any) -> JSON:
    """Change a product, and its `updated` time."""
    session.change(product, **fields, updated=session.now)
    session.emit("product.updated", product)
    return product


def delete_product(session: Session, product: JSON) -> JSON:
    """Delete a product that has no prices."""
    if session.children("price", "product", product["id"]):
        raise invalid(
            "This product cannot be deleted because it has one or more user-created prices.",
        )
    session.emit("product.deleted", product)
    return session.remove(product)


def create_price(session: Session, *, private_fields: JSON | None = None, **fields: Any) -> JSON:
    """Create a price; with `recurring` it is for subscriptions."""
    recurring = fields.pop("recurring", None)
    if recurring:
        fields["recurring"] = {**DEFAULT_RECURRING, **recurring}
    fields["type"] = "recurring" if recurring else "one_time"
    price = session.add("price", private_fields=private_fields, **fields)
    session.emit("price.created", price)
    return price


def give_up_lookup_key(session: Session, holder: JSON) -> None:
    """Remove a price's lookup key, so that another price can have it."""
    session.change(holder, lookup_key=None)
    session.emit("price.updated", holder)


def delete_price(session: Session, price: JSON) -> JSON:
    """Delete a price, as the Dashboard can."""
    session.emit("price.deleted", price)
    return session.remove(price)


def plan_of(price: JSON) -> JSON:
    """Return a price as the plan that subscription items still contain."""
    recurring = price["recurring"] or {}
    return build(
        "plan",
        **copied(price, *_OF_PLAN_TOO),
        **{**DEFAULT_RECURRING, **recurring},
        amount=price["unit_amount"],
        amount_decimal=price["unit_amount_decimal"],
    )


def amount_of(price: JSON, quantity: int, tiers: list[JSON] | None) -> int:
    """Return the cost of a quantity in minor units, rounded half up."""
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


def spread(session: Session, price: JSON) -> None:
    """Update the subscription items that embed the price; Stripe emits no event for it."""
    for item in session.children("subscription_item", "price", price["id"]):
        session.change(item, price=dict(price), plan=plan_of(price))
        subscription = session.find("subscription", item["subscription"])
        if subscription is not None:
            session.nest(subscription)
