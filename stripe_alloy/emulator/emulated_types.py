"""The types of objects that the emulator stores: one declaration each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from stripe_alloy.api import default_object_types as types
from stripe_alloy.api.object_type import ObjectType
from stripe_alloy.api.object_types import OBJECT_TYPES, TEST_CLOCKS_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


def _frozen(**entries: T) -> Mapping[str, T]:
    return MappingProxyType(entries)


def _same(*names: str) -> Mapping[str, str]:
    return MappingProxyType({name: name for name in names})


@dataclass(frozen=True)
class Nested:
    """A list of children inside a parent: its first ten, the rest at `url`."""

    object: str
    column: str
    """Column of the child that holds the parent's ID."""
    url: str
    always: bool = False
    """Whether the parent contains the list without `expand`."""


@dataclass(frozen=True)
class EmulatedType:
    """A type of object that the emulator stores."""

    object: str
    path: str
    prefix: str
    params: str
    """Class name prefix of its parameters in `stripe.params`."""
    permission: str
    """Permission of a restricted key, as in `rak_charge_read`."""
    label: str = ""
    """Name in `No such …`; "" for the object's own."""
    stream: str = ""
    """Stream of the tap whose schema describes it."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column of the store → path of the field that it contains."""
    nested: Mapping[str, Nested] = field(default_factory=dict)
    """Field → the list in it."""
    listed: bool = True
    """Whether `path` can be requested."""
    leaves_tombstone: bool = False
    """Whether a deleted object can still be retrieved, as `{"deleted": true}`."""
    children_first: bool = False
    """Whether its lists begin with the oldest, as those of a parent's children."""

    @property
    def name(self) -> str:
        """Return the name that error messages use."""
        return self.label or self.object


def parent_id_field(kind: ObjectType) -> str:
    """Return the parameter or field with the ID of the parent that lists an object."""
    named = re.search(r"\{(\w+)\}", kind.path)
    return kind.parent_param or (named.group(1) if named else "")


def _of(kind: ObjectType, **more: Any) -> EmulatedType:
    """Return the emulated type of a declared one."""
    if kind.listed_by_parent:
        stored = "_parent" if kind.parent_column else parent_id_field(kind)
        more = {"listed": False, "columns": _frozen(parent=stored), **more}
    elif kind.parent:
        inside = {"columns": _frozen(parent="_parent"), "children_first": True}
        more = {"listed": False, **inside, **more}
    return EmulatedType(
        kind.object_name,
        kind.path,
        kind.id_prefix,
        kind.params,
        kind.key_permission,
        stream=kind.name,
        **more,
    )


_RESOURCES = (
    _of(
        types.CUSTOMERS,
        columns=_same("email", "test_clock"),
        nested=_frozen(
            subscriptions=Nested("subscription", "customer", "/v1/customers/{id}/subscriptions"),
            sources=Nested("source", "customer", "/v1/customers/{id}/sources"),
        ),
        leaves_tombstone=True,
    ),
    _of(
        types.CHARGES,
        columns=_same("customer", "payment_intent"),
        nested=_frozen(refunds=Nested("refund", "charge", "/v1/charges/{id}/refunds")),
    ),
    _of(types.PAYMENT_INTENTS, columns=_same("customer")),
    _of(
        types.INVOICES,
        columns=_frozen(
            customer="customer",
            status="status",
            subscription="parent.subscription_details.subscription",
            test_clock="test_clock",
        ),
        nested=_frozen(
            lines=Nested("line_item", "parent", "/v1/invoices/{id}/lines", always=True),
            payments=Nested("invoice_payment", "parent", "/v1/invoice_payments?invoice={id}"),
        ),
    ),
    _of(
        types.INVOICE_LINE_ITEMS,
        columns=_frozen(parent="invoice"),
        listed=False,
        children_first=True,
    ),
    EmulatedType(
        "invoiceitem",
        "/v1/invoiceitems",
        "ii_",
        "InvoiceItem",
        "invoice",
        columns=_same("customer", "invoice", "test_clock"),
    ),
    EmulatedType(
        "invoice_payment",
        "/v1/invoice_payments",
        "inpay_",
        "InvoicePayment",
        "invoice",
        columns=_frozen(
            invoice="invoice",
            parent="invoice",
            status="status",
            payment_intent="payment.payment_intent",
        ),
    ),
    _of(
        types.SUBSCRIPTIONS,
        columns=_same("customer", "status", "collection_method", "test_clock"),
        nested=_frozen(
            items=Nested(
                "subscription_item",
                "parent",
                "/v1/subscription_items?subscription={id}",
                always=True,
            )
        ),
    ),
    _of(
        types.SUBSCRIPTION_ITEMS,
        columns=_frozen(subscription="subscription", parent="subscription", price="price.id"),
        listed=True,
        children_first=True,
    ),
    _of(types.PRODUCTS, columns=_same("active"), leaves_tombstone=True),
    _of(
        types.PRICES,
        columns=_same("product", "active", "type", "currency", "lookup_key"),
    ),
    _of(types.PAYMENT_METHODS, label="PaymentMethod", columns=_same("customer", "type")),
    _of(types.REFUNDS, columns=_same("charge", "payment_intent")),
    _of(types.DISPUTES, columns=_same("charge", "payment_intent")),
    _of(types.PAYOUTS, columns=_same("status")),
    _of(types.EVENTS, columns=_same("type")),
    _of(
        types.BALANCE_TRANSACTIONS,
        label="balance transaction",
        columns=_frozen(source="source", type="type", currency="currency", payout="_payout"),
    ),
    EmulatedType("account", "/v1/accounts", "acct_", "Account", "accounts_kyc_basic"),
    EmulatedType("webhook_endpoint", "/v1/webhook_endpoints", "we_", "WebhookEndpoint", "webhook"),
    EmulatedType(
        "test_helpers.test_clock",
        TEST_CLOCKS_PATH,
        "clock_",
        "test_helpers.TestClock",
        "test_clock",
        label="test clock",
    ),
    EmulatedType("discount", "", "di_", "", "customer", columns=_same("customer"), listed=False),
)


def _all_types() -> dict[str, EmulatedType]:
    """Return object → its type; declared types without an entry above need nothing more."""
    declared = {kind.object_name: _of(kind) for kind in reversed(OBJECT_TYPES)}
    found = {**declared, **{known.object: known for known in _RESOURCES}}
    for name, known in found.items():
        if not known.stream and name in declared:
            found[name] = replace(known, stream=declared[name].stream)
    for kind in OBJECT_TYPES:
        if kind.parent and (kind.parent_field or "{" in kind.path):
            parent = found[kind.parent.object_name]
            url = kind.path_with("{id}")
            field_name = kind.parent_field or url.rpartition("/")[2]
            inside = Nested(kind.object_name, "parent", url, always=bool(kind.parent_field))
            found[parent.object] = replace(parent, nested={field_name: inside, **parent.nested})
    return found


RESOURCES: Mapping[str, EmulatedType] = MappingProxyType(_all_types())
STREAMS: Mapping[str, str] = MappingProxyType(
    {kind.name: kind.object_name for kind in OBJECT_TYPES}
)
COLUMNS: tuple[str, ...] = tuple(sorted({n for known in RESOURCES.values() for n in known.columns}))


def named(name: str) -> EmulatedType:
    """Return a type by its object's or its stream's name."""
    return RESOURCES[STREAMS.get(name, name)]
