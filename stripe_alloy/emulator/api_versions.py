"""Renders objects in an older API version: in responses, and in snapshots of old accounts."""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.params import param_type
from stripe_alloy.emulator.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OLDEST, BASIL, CLOVER = "2022-11-15", "2025-03-31", "2025-09-30"
"""The oldest version in which responses are rendered; versions that changed the shape."""


class OlderVersion(NamedTuple):
    """Fields that an object lacks in an older version, and fields it has with their new paths."""

    lacks: tuple[str, ...]
    carries: Mapping[str, str]


# Before BASIL: docs.stripe.com/changelog/basil
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


# Before CLOVER, these contained their coupon; since then `source` or `promotion` has its ID.
_WITH_COUPON = {"discount": "source", "promotion_code": "promotion"}


class OlderParameter(NamedTuple):
    """A parameter that has another name, or another place, since a version."""

    since: str
    path: tuple[str, ...]
    """Where its value belongs now."""
    beside: Mapping[str, str] = MappingProxyType({})
    """What belongs beside it now."""


_METHODS = {"payment_method_types": OlderParameter("2026-10-28", ("allowed_payment_method_types",))}
_PARAMETERS: Mapping[str, Mapping[str, OlderParameter]] = {
    "payment_intent": _METHODS,
    "setup_intent": _METHODS,
    "promotion_code": {
        "coupon": OlderParameter(CLOVER, ("promotion", "coupon"), {"type": "coupon"}),
    },
}


def params_of(version: str, kind: str, params: JSON) -> JSON:
    """Return the parameters of a request in a version, as the pinned version calls them."""
    current = dict(params)
    for name, older in _PARAMETERS.get(kind, {}).items():
        if name in current and version < older.since:
            value = current.pop(name)
            *outer, last = older.path
            for part in reversed(outer):
                value, last = {**older.beside, last: value}, part
            current[last] = value
    return current


@cache
def _published() -> tuple[str, ...]:
    """Return all versions of Stripe's API, oldest first."""
    fields = param_type("WebhookEndpointCreateParams").fields or {}
    return tuple(fields["api_version"].literals)


def check(header: str) -> str:
    """Return the version in a `Stripe-Version` header; raises a 400 if it cannot be rendered."""
    version = header.partition(";")[0]
    if version not in _published():
        raise invalid(f"Invalid Stripe API version: {header}")
    if version < OLDEST:
        raise invalid(
            f"The emulator cannot render Stripe's API version {version}; it knows the versions "
            f"from {OLDEST} to {_published()[-1]}."
        )
    return version


def snapshot_as_of(version: str, obj: JSON) -> JSON:
    """Return the snapshot of an event in a version, nested lists included."""
    if version >= BASIL:
        return obj
    inside = {name: _within(version, value) for name, value in obj.items()}
    return _reshaped(inside, obj, VINTAGES.get(obj["object"]))


def _within(version: str, value: Any) -> Any:
    if not isinstance(value, dict) or value.get("object") != "list":
        return value
    return {**value, "data": [snapshot_as_of(version, entry) for entry in value["data"]]}


def response_as_of(version: str, node: Any, coupon_of: Callable[[str], JSON | None]) -> Any:
    """Return a response in a version; the snapshots of events stay as they were recorded."""
    if version >= CLOVER:
        return node
    if isinstance(node, list):
        return [response_as_of(version, entry, coupon_of) for entry in node]
    if not isinstance(node, dict) or node.get("object") == "event":
        return node
    kind = str(node.get("object"))
    inside = {name: response_as_of(version, value, coupon_of) for name, value in node.items()}
    if kind in _WITH_COUPON:
        return _with_coupon(inside, _WITH_COUPON[kind], coupon_of)
    return _reshaped(inside, node, VINTAGES.get(kind) if version < BASIL else None)


def _with_coupon(obj: JSON, holder: str, coupon_of: Callable[[str], JSON | None]) -> JSON:
    found = (obj.get(holder) or {}).get("coupon")
    coupon = coupon_of(found) if isinstance(found, str) else found
    return {**{name: value for name, value in obj.items() if name != holder}, "coupon": coupon}


def _reshaped(obj: JSON, whole: JSON, vintage: OlderVersion | None) -> JSON:
    if vintage is None:
        return obj
    kept = {name: value for name, value in obj.items() if name not in vintage.lacks}
    return {**kept, **{name: _at(whole, path) for name, path in vintage.carries.items()}}


def _at(node: Any, path: str) -> Any:
    for name in path.split("."):
        if isinstance(node, dict):
            node = node.get(name)
        elif isinstance(node, list) and node:
            node = node[int(name)]
        else:
            return None
    return node
