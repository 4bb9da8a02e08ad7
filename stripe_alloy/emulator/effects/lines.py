"""Invoice lines, and the totals of invoices."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects.catalog import amount_of

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


def pricing(price: JSON) -> JSON:
    """Return the `pricing` of a line for a price."""
    unit = price["unit_amount_decimal"]
    if unit is None and price["unit_amount"] is not None:
        unit = str(price["unit_amount"])
    return {
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": unit,
    }


def from_subscription(
    item: JSON, *, proration: bool = False, invoice_item: str | None = None
) -> JSON:
    """Return the `parent` of a line for a subscription item."""
    details = {
        "invoice_item": invoice_item,
        "proration": proration,
        "proration_details": {"credited_items": None} if proration else None,
        "subscription": item["subscription"],
        "subscription_item": item["id"],
    }
    return {
        "invoice_item_details": None,
        "subscription_item_details": details,
        "type": "subscription_item_details",
    }


def from_item(invoiceitem_id: str, subscription: str | None = None) -> JSON:
    """Return the `parent` of a line for an invoice item."""
    details = {
        "invoice_item": invoiceitem_id,
        "proration": False,
        "proration_details": None,
        "subscription": subscription,
    }
    return {
        "invoice_item_details": details,
        "subscription_item_details": None,
        "type": "invoice_item_details",
    }


def add_line(session: Session, invoice: JSON, amount: int, **fields: Any) -> JSON:
    """Add a line to a draft, without recalculating the totals."""
    period = {"start": invoice["period_start"], "end": invoice["period_end"]}
    quantity = fields.get("quantity", 1)
    return session.add(
        "line_item",
        amount=amount,
        currency=invoice["currency"],
        invoice=invoice["id"],
        quantity_decimal=str(quantity),
        subtotal=amount,
        **{"period": period, **fields},
    )


def add_priced(session: Session, invoice: JSON, price: JSON, quantity: int, **fields: Any) -> JSON:
    """Add a line for a quantity at a price."""
    amount = amount_of(price, quantity, session.private_fields(price).get("tiers"))
    product = session.find("product", price["product"])
    name = product["name"] if product else price["product"]
    described = {"description": f"{quantity} x {name}", **fields}
    return add_line(
        session, invoice, amount, quantity=quantity, pricing=pricing(price), **described
    )


def add_proration(
    session: Session, invoice: JSON, item: JSON, amount: int, text: str, period: JSON
) -> JSON:
    """Add a credit for unused time, or a charge for remaining time."""
    return add_line(
        session,
        invoice,
        amount,
        description=text,
        discountable=False,
        parent=from_subscription(item, proration=True),
        period=period,
        pricing=pricing(item["price"]),
        quantity=item["quantity"] or 1,
        subscription=item["subscription"],
    )


def total(session: Session, invoice: JSON) -> None:
    """Recalculate an invoice's amounts and its nested list of lines."""
    lines = session.children("line_item", "parent", invoice["id"])
    subtotal = sum(line["amount"] for line in lines)
    discounts = _discount(session, invoice, lines)
    reduced = subtotal - sum(entry["amount"] for entry in discounts)
    due = max(reduced + invoice["starting_balance"], 0)
    session.nest(invoice)
    session.change(
        invoice,
        amount_due=due,
        amount_remaining=due - invoice["amount_paid"],
        subtotal=subtotal,
        subtotal_excluding_tax=subtotal,
        total=reduced,
        total_discount_amounts=discounts,
        total_excluding_tax=reduced,
    )


def _discount(session: Session, invoice: JSON, lines: list[JSON]) -> list[JSON]:
    """Apply the discounts to each line; return their sums."""
    reduced_by: dict[str, list[JSON]] = {line["id"]: [] for line in lines}
    sums = []
    for discount_id in invoice["discounts"]:
        discount = session.find("discount", discount_id)
        coupon = discount and session.find("coupon", discount["source"]["coupon"])
        if coupon is None:
            continue
        left = {
            line["id"]: line["amount"] - sum(entry["amount"] for entry in reduced_by[line["id"]])
            for line in lines
            if line["discountable"] and line["amount"] > 0
        }
        shares = _shares(coupon, invoice["currency"], left)
        for line_id, amount in shares.items():
            reduced_by[line_id].append({"amount": amount, "discount": discount_id})
        sums.append({"amount": sum(shares.values()), "discount": discount_id})
    for line in lines:
        if line["discount_amounts"] != reduced_by[line["id"]]:
            session.change(line, discount_amounts=reduced_by[line["id"]])
    return sums


def _shares(coupon: JSON, currency: str, left: dict[str, int]) -> dict[str, int]:
    """Return the reduction of each line by a coupon, in minor units."""
    if coupon["percent_off"]:
        share = Decimal(str(coupon["percent_off"])) / 100
        return {name: int((amount * share + Decimal("0.5")) // 1) for name, amount in left.items()}
    if coupon["currency"] not in (None, currency):
        return {}
    shares, whole = {}, sum(left.values())
    rest = min(coupon["amount_off"] or 0, whole)
    for name, amount in left.items():  # in proportion; the last line takes what rounding left
        shares[name] = rest * amount // whole if whole else 0
        rest, whole = rest - shares[name], whole - amount
    return shares
