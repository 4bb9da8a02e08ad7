"""Turns objects and records into the shape of request parameters: one function per object type.

Each changes a shallow copy in place. The second argument is the time in Unix seconds.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from stripe_alloy.api.json_types import JSON
from target_stripe_alloy.params_tree import unix_seconds_of


def price(source: JSON, _: float) -> None:
    """Normalize the amounts in each currency; the default currency is no option."""
    _amounts(source)
    options = source.get("currency_options")
    if isinstance(options, dict):
        default = source.get("currency")
        source["currency_options"] = {k: _option(v) for k, v in options.items() if k != default}


def _option(option: Any) -> Any:
    if isinstance(option, dict):
        option = dict(option)
        _amounts(option)
    return option


def _amounts(source: JSON) -> None:
    """Let tiers end at `inf`, and keep one form of each amount."""
    if isinstance(source.get("tiers"), list):
        source["tiers"] = [_tier(tier) for tier in source["tiers"]]
    _one_form(source, "unit_amount")
    custom = source.get("custom_unit_amount")
    if isinstance(custom, dict):
        source["custom_unit_amount"] = {"enabled": True, **custom}


def _tier(tier: Any) -> Any:
    if not isinstance(tier, dict):
        return tier
    tier = dict(tier)
    if "up_to" in tier and tier["up_to"] is None:
        tier["up_to"] = "inf"
    _one_form(tier, "unit_amount")
    _one_form(tier, "flat_amount")
    return tier


def _one_form(source: JSON, name: str) -> None:
    """Keep the integer form of a number if it is an integer, else its decimal form."""
    exact = f"{name}_decimal"
    integer = _integer(source.get(exact))
    if source.get(name) is None and integer is not None:
        source[name] = integer
    if source.get(name) is not None:
        source.pop(exact, None)
    elif source.get(exact) is not None:
        source.pop(name, None)


def _integer(value: Any) -> int | None:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    small = number.is_finite() and number.adjusted() <= 40  # digits: it is made an integer
    return int(number) if small and number == int(number) else None


def customer(source: JSON, _: float) -> None:
    """Turn tax ids into the data of a new customer; later they are separate objects."""
    tax_ids = source.pop("tax_ids", None)
    if isinstance(tax_ids, dict):
        tax_ids = tax_ids.get("data")
    if isinstance(tax_ids, list):
        source["tax_id_data"] = tax_ids


def subscription(source: JSON, now: float) -> None:
    """Drop past dates; `cancel_at_period_end` implies `cancel_at`."""
    for name in ("trial_end", "cancel_at"):
        if _is_past(source.get(name), now):
            del source[name]
    if source.get("cancel_at_period_end") is True:
        source.pop("cancel_at", None)
    discounts(source)
    items = source.get("items")
    if isinstance(items, dict) and isinstance(items.get("data"), list):
        items = items["data"]
    if isinstance(items, list):
        source["items"] = [_item(entry) for entry in items]


def _item(entry: Any) -> Any:
    if isinstance(entry, dict):
        entry = {name: value for name, value in entry.items() if name != "plan"}
        discounts(entry)
    return entry


def invoice(source: JSON, _: float) -> None:
    """Drop the due date of an invoice that is charged automatically."""
    if source.get("collection_method") != "send_invoice" and source.get("due_date") is None:
        source.pop("due_date", None)
    discounts(source)


def invoice_line_item(source: JSON, _: float) -> None:
    """Refer to a price by its id, in place of the amount."""
    pricing = source.get("pricing")
    if isinstance(pricing, dict) and "price_details" in pricing:
        details = pricing["price_details"] or {}
        chosen = details.get("price") if isinstance(details, dict) else None
        source["pricing"] = {"price": chosen} if chosen else details or None
        if chosen:
            source.pop("amount", None)
        elif not details:
            del source["pricing"]
    _one_form(source, "quantity")
    discounts(source)


def refund(source: JSON, _: float) -> None:
    """Prefer `charge` to `payment_intent`."""
    if source.get("charge"):
        source.pop("payment_intent", None)
    source.pop("currency", None)
    source.pop("customer", None)


def discounts(source: JSON, _: float = 0.0) -> None:
    """Refer to discounts by coupon, promotion code or id."""
    entries = source.get("discounts")
    if isinstance(entries, list):
        source["discounts"] = [_discount(entry) for entry in entries]


def _discount(entry: Any) -> Any:
    if isinstance(entry, str):
        return {"discount": entry}
    if isinstance(entry, dict) and entry.get("object") == "discount":
        of = entry.get("source") or {}
        if entry.get("promotion_code"):
            return {"promotion_code": entry["promotion_code"]}
        return {"coupon": of["coupon"]} if of.get("coupon") else {"discount": entry.get("id")}
    return entry


def _is_past(value: Any, now: float) -> bool:
    try:
        return unix_seconds_of(value) <= now
    except ValueError:
        return False  # it is none: the record is rejected for it
