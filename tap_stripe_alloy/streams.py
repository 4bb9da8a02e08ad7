"""One declaration a stream: what Stripe calls it, where it is listed, how its end is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tap_stripe_alloy.events.change_detection import RETENTION
from tap_stripe_alloy.stream import StripeStream

ACTIVE_OR_NOT = ((("active", "true"),), (("active", "false"),))
"""Some lists show active objects only, unless they are asked for the others."""


class Customers(StripeStream):
    """The people and companies that are charged."""

    name = "customers"
    object_name = "customer"
    path = "/v1/customers"
    subjects = ("customer",)
    deleted_by = ("customer.deleted",)
    on_clocks = ((path, "test_clock"),)
    permission = "Customers: read"


class Charges(StripeStream):
    """Attempts to move money, one a try."""

    name = "charges"
    object_name = "charge"
    path = "/v1/charges"
    subjects = ("charge",)
    permission = "Charges and Refunds: read"


class PaymentIntents(StripeStream):
    """Payments, each with its charges' outcome."""

    name = "payment_intents"
    object_name = "payment_intent"
    path = "/v1/payment_intents"
    edited_in_silence = True
    subjects = ("payment_intent",)
    permission = "PaymentIntents: read"


class Invoices(StripeStream):
    """Invoices, drafts included."""

    name = "invoices"
    object_name = "invoice"
    path = "/v1/invoices"
    subjects = ("invoice",)
    deleted_by = ("invoice.deleted",)
    on_clocks = ((Customers.path, "test_clock"), (path, "customer"))
    permission = "Invoices: read"


class InvoiceLineItems(StripeStream):
    """The lines of each invoice, all of them."""

    name = "invoice_line_items"
    object_name = "line_item"
    path = Invoices.path
    parent = Invoices
    parent_field = "lines"
    permission = Invoices.permission


class Subscriptions(StripeStream):
    """Subscriptions, canceled ones included."""

    name = "subscriptions"
    object_name = "subscription"
    path = "/v1/subscriptions"
    list_params = (("status", "all"),)
    subjects = ("customer.subscription",)
    on_clocks = ((path, "test_clock"),)
    permission = "Subscriptions: read"


class SubscriptionItems(StripeStream):
    """What each subscription is to."""

    name = "subscription_items"
    object_name = "subscription_item"
    path = Subscriptions.path
    parent = Subscriptions
    parent_field = "items"
    permission = Subscriptions.permission


class Products(StripeStream):
    """What is sold."""

    name = "products"
    object_name = "product"
    path = "/v1/products"
    list_variants = ACTIVE_OR_NOT
    subjects = ("product",)
    deleted_by = ("product.deleted",)
    permission = "Products: read"


class Prices(StripeStream):
    """What it costs."""

    name = "prices"
    object_name = "price"
    path = "/v1/prices"
    list_variants = ACTIVE_OR_NOT
    whole = False  # inline prices are in no list
    subjects = ("price",)
    deleted_by = ("price.deleted",)
    permission = "Plans: read"


class PaymentMethods(StripeStream):
    """Cards and other ways to pay that customers keep."""

    name = "payment_methods"
    object_name = "payment_method"
    path = "/v1/payment_methods"
    other_paths = (Customers.path,)
    by_created = False
    whole = False  # custom ones are in no list, detached ones in no customer's
    subjects = ("payment_method",)
    # Cards and sources of the former API are deleted when they are detached.
    deleted_for: ClassVar = {"payment_method.detached": ("card_", "src_")}
    permission = "PaymentMethods: read"


class Refunds(StripeStream):
    """Money given back."""

    name = "refunds"
    object_name = "refund"
    path = "/v1/refunds"
    subjects = ("refund", "charge.refund")
    permission = "Charges and Refunds: read"


class Disputes(StripeStream):
    """Charges that a customer's bank contests."""

    name = "disputes"
    object_name = "dispute"
    path = "/v1/disputes"
    subjects = ("charge.dispute",)
    permission = "Disputes: read"


class Payouts(StripeStream):
    """Money moved to the bank."""

    name = "payouts"
    object_name = "payout"
    path = "/v1/payouts"
    subjects = ("payout",)
    permission = "Payouts: read"


class Events(StripeStream):
    """What happened in the last 30 days."""

    name = "events"
    object_name = "event"
    path = "/v1/events"
    history = RETENTION
    whole = False
    replication_key = "created"
    permission = "Events: read"


class BalanceTransactions(StripeStream):
    """Every movement of the balance, with its fee."""

    name = "balance_transactions"
    object_name = "balance_transaction"
    path = "/v1/balance_transactions"
    replication_key = "created"
    told_by_events = False
    permission = "Balance transactions: read"


STREAMS: tuple[type[StripeStream], ...] = (
    Customers,
    Charges,
    PaymentIntents,
    Invoices,
    InvoiceLineItems,
    Subscriptions,
    SubscriptionItems,
    Products,
    Prices,
    PaymentMethods,
    Refunds,
    Disputes,
    Payouts,
    Events,
    BalanceTransactions,
)

CLOCKS = "/v1/test_helpers/test_clocks"


@dataclass(frozen=True)
class Way:
    """A list on the way to what is on test clocks."""

    path: str
    param: str | None
    """What narrows it by an id of the list before; the first, that of the clocks, has none."""
    permission: str


def ways(stream: type[StripeStream]) -> list[Way]:
    """The lists to go through to a stream's objects on test clocks; none if it has no such."""
    root = stream.parent or stream
    permissions = {of.path: of.permission for of in STREAMS}
    found = [Way(path, param, permissions[path]) for path, param in root.on_clocks]
    return [Way(CLOCKS, None, "Test clocks: read"), *found] if found else []


BY_NAME: Mapping[str, type[StripeStream]] = {stream.name: stream for stream in STREAMS}


def expand_families(expand: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Complete `expand`: what is expanded in a child is so inside its parent, and vice versa."""
    full = {name: list(paths) for name, paths in expand.items()}
    for child in STREAMS:
        if child.parent is None:
            continue
        inside = f"{child.parent_field}.data."
        of_child = expand.get(child.name, ())
        of_parent = expand.get(child.parent.name, ())
        full.setdefault(child.parent.name, []).extend(inside + path for path in of_child)
        full.setdefault(child.name, []).extend(
            path.removeprefix(inside) for path in of_parent if path.startswith(inside)
        )
    return {name: list(dict.fromkeys(paths)) for name, paths in full.items()}
