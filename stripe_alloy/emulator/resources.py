"""The kinds of objects the emulator holds: one declaration each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stripe_alloy.api.default_object_types import (
    BALANCE_TRANSACTIONS,
    CHARGES,
    CUSTOMERS,
    DISPUTES,
    EVENTS,
    INVOICE_LINE_ITEMS,
    INVOICES,
    PAYMENT_INTENTS,
    PAYMENT_METHODS,
    PAYOUTS,
    PRICES,
    PRODUCTS,
    REFUNDS,
    SUBSCRIPTION_ITEMS,
    SUBSCRIPTIONS,
)
from stripe_alloy.api.object_type import ObjectType
from stripe_alloy.api.object_types import OBJECT_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping


def _same(*names: str) -> Mapping[str, str]:
    return MappingProxyType({name: name for name in names})


def _paths(**paths: str) -> Mapping[str, str]:
    return MappingProxyType(paths)


@dataclass(frozen=True)
class Nested:
    """A list of children inside a parent: its first ten, the rest at `url`."""

    object: str
    column: str  # the child's column that holds the parent's id
    url: str
    always: bool = True  # false: only when expanded
    filters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class EmulatedType:
    """One kind of object."""

    object: str
    path: str
    prefix: str
    params: str  # how stripe.params calls it
    permission: str  # how restricted keys call it
    label: str = ""  # how "No such ..." calls it
    stream: str = ""  # the tap's stream, whose schema describes it
    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    nested: Mapping[str, Nested] = field(default_factory=lambda: MappingProxyType({}))
    listed: bool = True  # GET path
    leaves_tombstone: bool = False  # a deleted one is still found, as {"deleted": true}
    children_first: bool = False  # oldest first, as children of a parent are

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.label or self.object


def parent_id_field(kind: ObjectType) -> str:
    """Return the parameter or field that names the parent of objects that each parent lists."""
    named = re.search(r"\{(\w+)\}", kind.path)
    return kind.parent_param or (named.group(1) if named else "")


def _of(kind: ObjectType, permission: str, **more: Any) -> EmulatedType:
    """What is declared of an object type, and what the emulator adds."""
    if kind.listed_by_parent:
        stored = "_parent" if kind.parent_column else parent_id_field(kind)
        more = {"listed": False, "columns": _paths(parent=stored), **more}
    elif kind.parent:
        inside = {"columns": _paths(parent="_parent"), "children_first": True}
        more = {"listed": False, **inside, **more}
    return EmulatedType(
        kind.object_name,
        kind.path,
        kind.id_prefix,
        kind.params,
        permission,
        **more,
    )


_RESOURCES = (
    _of(
        CUSTOMERS,
        "customer",
        columns=_same("email", "test_clock"),
        nested=MappingProxyType(
            {
                "subscriptions": Nested(
                    "subscription", "customer", "/v1/customers/{id}/subscriptions", always=False
                ),
                "tax_ids": Nested("tax_id", "customer", "/v1/customers/{id}/tax_ids", always=False),
                "sources": Nested("source", "customer", "/v1/customers/{id}/sources", always=False),
            }
        ),
        leaves_tombstone=True,
    ),
    _of(
        CHARGES,
        "charge",
        columns=_same("customer", "payment_intent"),
        nested=MappingProxyType(
            {"refunds": Nested("refund", "charge", "/v1/charges/{id}/refunds", always=False)}
        ),
    ),
    _of(
        PAYMENT_INTENTS,
        "payment_intent",
        columns=_same("customer"),
    ),
    _of(
        INVOICES,
        "invoice",
        columns=_paths(
            customer="customer",
            status="status",
            subscription="parent.subscription_details.subscription",
            test_clock="test_clock",
        ),
        nested=MappingProxyType(
            {
                "lines": Nested("line_item", "parent", "/v1/invoices/{id}/lines"),
                "payments": Nested(
                    "invoice_payment", "parent", "/v1/invoice_payments?invoice={id}", always=False
                ),
            }
        ),
    ),
    _of(
        INVOICE_LINE_ITEMS,
        "invoice",
        columns=_paths(parent="invoice"),
        listed=False,
        children_first=True,
    ),
    EmulatedType(
        "invoiceitem",
        "/v1/invoiceitems",
        "ii_",
        "InvoiceItem",
        "invoice",
        columns=_paths(customer="customer", invoice="invoice", test_clock="test_clock"),
    ),
    EmulatedType(
        "invoice_payment",
        "/v1/invoice_payments",
        "inpay_",
        "InvoicePayment",
        "invoice",
        columns=_paths(
            invoice="invoice",
            parent="invoice",
            status="status",
            payment_intent="payment.payment_intent",
        ),
    ),
    _of(
        SUBSCRIPTIONS,
        "subscription",
        columns=_same("customer", "status", "collection_method", "test_clock"),
        nested=MappingProxyType(
            {
                "items": Nested(
                    "subscription_item", "parent", "/v1/subscription_items?subscription={id}"
                )
            }
        ),
    ),
    _of(
        SUBSCRIPTION_ITEMS,
        "subscription",
        columns=_paths(subscription="subscription", parent="subscription", price="price.id"),
        children_first=True,
    ),
    _of(
        PRODUCTS,
        "product",
        columns=_same("active"),
        leaves_tombstone=True,
    ),
    _of(
        PRICES,
        "plan",
        columns=_same("product", "active", "type", "currency", "lookup_key"),
    ),
    _of(
        PAYMENT_METHODS,
        "payment_method",
        label="PaymentMethod",
        columns=_same("customer", "type"),
    ),
    _of(
        REFUNDS,
        "charge",
        columns=_same("charge", "payment_intent"),
    ),
    _of(
        DISPUTES,
        "dispute",
        columns=_same("charge", "payment_intent"),
    ),
    _of(
        PAYOUTS,
        "payout",
        columns=_same("status"),
    ),
    _of(
        EVENTS,
        "event",
        columns=_same("type"),
    ),
    _of(
        BALANCE_TRANSACTIONS,
        "balance_transaction_source",
        label="balance transaction",
        columns=_paths(source="source", type="type", currency="currency", payout="_payout"),
    ),
    EmulatedType("account", "/v1/accounts", "acct_", "Account", "accounts_kyc_basic"),
    EmulatedType("coupon", "/v1/coupons", "", "Coupon", "coupon"),
    EmulatedType("webhook_endpoint", "/v1/webhook_endpoints", "we_", "WebhookEndpoint", "webhook"),
    EmulatedType(
        "test_helpers.test_clock",
        "/v1/test_helpers/test_clocks",
        "clock_",
        "test_helpers.TestClock",
        "test_clock",
        label="test clock",
    ),
    EmulatedType("discount", "", "di_", "", "customer", columns=_same("customer"), listed=False),
)


def _with_declared() -> dict[str, EmulatedType]:
    """All types: of those that are declared as object types, some need nothing more."""
    found = {known.object: known for known in _RESOURCES}
    for kind in OBJECT_TYPES:
        known = found.get(kind.object_name) or _of(kind, kind.object_name)
        if not known.stream:
            found[kind.object_name] = replace(known, stream=kind.name)
    for kind in OBJECT_TYPES:
        if kind.parent and kind.parent_field:
            parent = found[kind.parent.object_name]
            url = re.sub(r"\{\w+\}", "{id}", kind.path)
            nested = {kind.parent_field: Nested(kind.object_name, "parent", url), **parent.nested}
            found[parent.object] = replace(parent, nested=MappingProxyType(nested))
    return found


RESOURCES: Mapping[str, EmulatedType] = MappingProxyType(_with_declared())
STREAMS: Mapping[str, str] = MappingProxyType(
    {kind.name: kind.object_name for kind in OBJECT_TYPES}
)
COLUMNS: tuple[str, ...] = tuple(sorted({n for known in RESOURCES.values() for n in known.columns}))


def named(name: str) -> EmulatedType:
    """A resource by its object's name, or by its stream's."""
    return RESOURCES[STREAMS.get(name, name)]
