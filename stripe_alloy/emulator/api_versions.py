"""Renders snapshots in an older API version, for accounts that were never upgraded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stripe_alloy.api.json_types import JSON

if TYPE_CHECKING:
    from collections.abc import Mapping


class OlderVersion(NamedTuple):
    """Fields that an object lacks in an older version, and fields it has with their new paths."""

    lacks: tuple[str, ...]
    carries: Mapping[str, str]


# Before 2025-03-31.basil: docs.stripe.com/changelog/basil
VINTAGES: Mapping[str, OlderVersion] = {
    "invoice": OlderVersion(
        ("parent", "total_taxes", "total_pretax_credit_amounts", "amount_overpaid"),
        {
            "charge": "charge",
            "payment_intent": "payment_intent",
            "subscription": "parent.subscription_details.subscription",
        },
    ),
    "line_item": OlderVersion(
        ("parent", "pricing", "taxes"),
        {"plan": "pricing.price_details.price"},
    ),
    "subscription": OlderVersion(
        ("billing_mode", "billing_schedules"),
        {
            "current_period_end": "items.data.0.current_period_end",
            "current_period_start": "items.data.0.current_period_start",
            "quantity": "items.data.0.quantity",
        },
    ),
    "charge": OlderVersion(("presentment_details",), {"invoice": "invoice", "dispute": "dispute"}),
    "payment_intent": OlderVersion(
        ("excluded_payment_method_types", "hooks"), {"invoice": "invoice"}
    ),
    "customer": OlderVersion(
        ("business_name", "individual_name"), {"default_card": "default_source"}
    ),
    "product": OlderVersion(("marketing_features",), {"features": "marketing_features"}),
    "price": OlderVersion(("tax_behavior",), {}),
    "payment_method": OlderVersion(("allow_redisplay",), {}),
    "refund": OlderVersion(("destination_details",), {}),
    "dispute": OlderVersion(("enhanced_eligibility_types",), {}),
    "payout": OlderVersion(("reconciliation_status", "trace_id"), {"bank_account": "destination"}),
}


def older(obj: JSON) -> JSON:
    """Return an object in the older shape, nested lists included."""
    vintage = VINTAGES.get(obj["object"], OlderVersion((), {}))
    kept = {name: _within(value) for name, value in obj.items() if name not in vintage.lacks}
    carried = {name: _at(obj, path) for name, path in vintage.carries.items()}
    return {**kept, **carried}


def _within(value: Any) -> Any:
    is_list = isinstance(value, dict) and value.get("object") == "list"
    return {**value, "data": [older(entry) for entry in value["data"]]} if is_list else value


def _at(node: Any, path: str) -> Any:
    for name in path.split("."):
        if isinstance(node, dict):
            node = node.get(name)
        elif isinstance(node, list) and node:
            node = node[int(name)]
        else:
            return None
    return node
