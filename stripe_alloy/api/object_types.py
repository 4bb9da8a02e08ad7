"""Declarations of Stripe's object types: stream name, list, events, permission.

The tap, the target, the emulator, the webhook registration, the permission tables and the schema
generator read these declarations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from stripe_alloy.api.events import RETENTION

TEST_CLOCKS_PATH = "/v1/test_helpers/test_clocks"
ACTIVE_OR_NOT = ((("active", "true"),), (("active", "false"),))
"""Parameters of lists that contain only active objects unless the others are requested."""
ASSUMED_HISTORY = 90 * 86_400
"""Assumed length of a list's history in seconds."""


@dataclass(frozen=True)
class ObjectType:
    """A type of Stripe object that can be listed."""

    name: str
    """Stream name: Stripe's plural in snake case."""
    object_name: str
    """Stripe's `object`; events are routed by it."""
    description: str
    path: str
    """Path of the list; child streams are read from their parent's list (`root`)."""
    permission: str
    """Permission to read of a restricted key, as named in the Dashboard."""
    source: str
    """Class of the `stripe` package that the schema is generated from."""
    id_prefix: str
    params: str
    """Class name prefix of its parameters in `stripe.params`."""
    other_paths: tuple[str, ...] = ()
    """Fallback lists, if an account refuses the first."""
    list_params: tuple[tuple[str, str], ...] = ()
    list_variants: tuple[tuple[tuple[str, str], ...], ...] = ()
    """Sets of parameters, if several lists together contain all objects."""
    filters_by_created: bool = True
    """Whether the list can be filtered by `created`."""
    history: int = ASSUMED_HISTORY
    """Assumed length of the history in seconds."""
    has_events: bool = True
    """Whether changes emit events; otherwise only new objects can be read."""
    event_prefixes: tuple[str, ...] = ()
    """Event types, up to the last dot."""
    deletion_events: tuple[str, ...] = ()
    """Event types after which the object no longer exists."""
    deletion_events_by_id: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Event type → ID prefixes of the objects that it ends; others stay."""
    has_silent_updates: bool = False
    """Whether some updates emit no event."""
    is_complete_history: bool = True
    """Whether the list contains all existing objects.

    Otherwise a listing does not show which rows are gone, and no ACTIVATE_VERSION follows it.
    """
    parent: ObjectType | None = None
    parent_field: str | None = None
    """Field of the parent that contains these objects."""
    test_clock_path: tuple[tuple[str, str], ...] = ()
    """(path, filter parameter) of the lists that lead from a test clock to these objects.

    Each parameter takes an ID from the previous list, the first one the ID of a clock.
    """
    replication_key: str = "updated"

    @property
    def root(self) -> ObjectType:
        """The type whose list contains the objects: the parent, or the type itself."""
        return self.parent or self


CUSTOMERS = ObjectType(
    name="customers",
    object_name="customer",
    description="The people and companies that you charge.",
    path="/v1/customers",
    permission="Customers: read",
    source="stripe._customer.Customer",
    id_prefix="cus_",
    params="Customer",
    event_prefixes=("customer",),
    deletion_events=("customer.deleted",),
    test_clock_path=(("/v1/customers", "test_clock"),),
)
CHARGES = ObjectType(
    name="charges",
    object_name="charge",
    description="Each attempt to charge a payment method, successful or not.",
    path="/v1/charges",
    permission="Charges and Refunds: read",
    source="stripe._charge.Charge",
    id_prefix="ch_",
    params="Charge",
    event_prefixes=("charge",),
)
PAYMENT_INTENTS = ObjectType(
    name="payment_intents",
    object_name="payment_intent",
    description="Payments, from the first attempt to the outcome.",
    path="/v1/payment_intents",
    permission="PaymentIntents: read",
    source="stripe._payment_intent.PaymentIntent",
    id_prefix="pi_",
    params="PaymentIntent",
    event_prefixes=("payment_intent",),
    has_silent_updates=True,
)
INVOICES = ObjectType(
    name="invoices",
    object_name="invoice",
    description="Invoices, including drafts.",
    path="/v1/invoices",
    permission="Invoices: read",
    source="stripe._invoice.Invoice",
    id_prefix="in_",
    params="Invoice",
    event_prefixes=("invoice",),
    deletion_events=("invoice.deleted",),
    test_clock_path=((CUSTOMERS.path, "test_clock"), ("/v1/invoices", "customer")),
)
INVOICE_LINE_ITEMS = ObjectType(
    name="invoice_line_items",
    object_name="line_item",
    description="Every line of every invoice.",
    path="/v1/invoices/{invoice}/lines",
    permission=INVOICES.permission,
    source="stripe._invoice_line_item.InvoiceLineItem",
    id_prefix="il_",
    params="InvoiceLineItem",
    parent=INVOICES,
    parent_field="lines",
)
SUBSCRIPTIONS = ObjectType(
    name="subscriptions",
    object_name="subscription",
    description="Subscriptions, including canceled ones.",
    path="/v1/subscriptions",
    permission="Subscriptions: read",
    source="stripe._subscription.Subscription",
    id_prefix="sub_",
    params="Subscription",
    list_params=(("status", "all"),),
    event_prefixes=("customer.subscription",),
    test_clock_path=(("/v1/subscriptions", "test_clock"),),
)
SUBSCRIPTION_ITEMS = ObjectType(
    name="subscription_items",
    object_name="subscription_item",
    description="The prices and quantities of each subscription.",
    path="/v1/subscription_items",
    permission=SUBSCRIPTIONS.permission,
    source="stripe._subscription_item.SubscriptionItem",
    id_prefix="si_",
    params="SubscriptionItem",
    parent=SUBSCRIPTIONS,
    parent_field="items",
)
PRODUCTS = ObjectType(
    name="products",
    object_name="product",
    description="The products and services that you sell.",
    path="/v1/products",
    permission="Products: read",
    source="stripe._product.Product",
    id_prefix="prod_",
    params="Product",
    list_variants=ACTIVE_OR_NOT,
    event_prefixes=("product",),
    deletion_events=("product.deleted",),
)
PRICES = ObjectType(
    name="prices",
    object_name="price",
    description="Prices of products, including archived ones.",
    path="/v1/prices",
    permission="Plans: read",
    source="stripe._price.Price",
    id_prefix="price_",
    params="Price",
    list_variants=ACTIVE_OR_NOT,
    is_complete_history=False,  # inline prices are in no list
    event_prefixes=("price",),
    deletion_events=("price.deleted",),
)
PAYMENT_METHODS = ObjectType(
    name="payment_methods",
    object_name="payment_method",
    description="Cards and other payment methods of customers.",
    path="/v1/payment_methods",
    permission="PaymentMethods: read",
    source="stripe._payment_method.PaymentMethod",
    id_prefix="pm_",
    params="PaymentMethod",
    other_paths=(CUSTOMERS.path,),
    filters_by_created=False,
    is_complete_history=False,  # custom ones are in no list, detached ones in no customer's
    event_prefixes=("payment_method",),
    # Cards and sources of the former API are deleted when they are detached.
    deletion_events_by_id=MappingProxyType({"payment_method.detached": ("card_", "src_")}),
)
REFUNDS = ObjectType(
    name="refunds",
    object_name="refund",
    description="Refunds of charges.",
    path="/v1/refunds",
    permission="Charges and Refunds: read",
    source="stripe._refund.Refund",
    id_prefix="re_",
    params="Refund",
    event_prefixes=("refund", "charge.refund"),
)
DISPUTES = ObjectType(
    name="disputes",
    object_name="dispute",
    description="Charges that a cardholder's bank disputes.",
    path="/v1/disputes",
    permission="Disputes: read",
    source="stripe._dispute.Dispute",
    id_prefix="dp_",
    params="Dispute",
    event_prefixes=("charge.dispute",),
)
PAYOUTS = ObjectType(
    name="payouts",
    object_name="payout",
    description="Transfers to your bank account.",
    path="/v1/payouts",
    permission="Payouts: read",
    source="stripe._payout.Payout",
    id_prefix="po_",
    params="Payout",
    event_prefixes=("payout",),
)
EVENTS = ObjectType(
    name="events",
    object_name="event",
    description="Events of the last 30 days.",
    path="/v1/events",
    permission="Events: read",
    source="stripe._event.Event",
    id_prefix="evt_",
    params="Event",
    history=RETENTION,
    is_complete_history=False,
    replication_key="created",
)
BALANCE_TRANSACTIONS = ObjectType(
    name="balance_transactions",
    object_name="balance_transaction",
    description="Every change of the Stripe balance, with its fee.",
    path="/v1/balance_transactions",
    permission="Balance transactions: read",
    source="stripe._balance_transaction.BalanceTransaction",
    id_prefix="txn_",
    params="BalanceTransaction",
    has_events=False,
    replication_key="created",
)

OBJECT_TYPES: tuple[ObjectType, ...] = (
    CUSTOMERS,
    CHARGES,
    PAYMENT_INTENTS,
    INVOICES,
    INVOICE_LINE_ITEMS,
    SUBSCRIPTIONS,
    SUBSCRIPTION_ITEMS,
    PRODUCTS,
    PRICES,
    PAYMENT_METHODS,
    REFUNDS,
    DISPUTES,
    PAYOUTS,
    EVENTS,
    BALANCE_TRANSACTIONS,
)
BY_NAME: Mapping[str, ObjectType] = MappingProxyType({kind.name: kind for kind in OBJECT_TYPES})


@dataclass(frozen=True)
class ListHop:
    """A list on the way from a test clock to an object."""

    path: str
    param: str | None
    """Filter parameter that takes an ID from the previous list; None for the list of clocks."""
    permission: str


def test_clock_hops(kind: ObjectType) -> list[ListHop]:
    """Return the lists to read for a type's objects on test clocks; empty if it has none."""
    permissions = {of.path: of.permission for of in OBJECT_TYPES}
    found = [ListHop(path, param, permissions[path]) for path, param in kind.root.test_clock_path]
    return [ListHop(TEST_CLOCKS_PATH, None, "Test clocks: read"), *found] if found else []
