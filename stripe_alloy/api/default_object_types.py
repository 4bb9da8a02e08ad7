"""The object types of the streams that are selected by default."""

from __future__ import annotations

from types import MappingProxyType

from stripe_alloy.api.events import RETENTION
from stripe_alloy.api.object_type import ObjectType

ACTIVE_OR_NOT = ((("active", "true"),), (("active", "false"),))
"""Parameters of lists that contain only active objects unless the others are requested."""

CUSTOMERS = ObjectType(
    path="/v1/customers",
    description="The people and companies that you charge.",
    permission="Customers: read",
    id_prefix="cus_",
    event_prefixes=("customer",),
    deletion_events=("customer.deleted",),
    test_clock_path=(("/v1/customers", "test_clock"),),
    selected_by_default=True,
)
CHARGES = ObjectType(
    path="/v1/charges",
    description="Each attempt to charge a payment method, successful or not.",
    permission="Charges and Refunds: read",
    id_prefix="ch_",
    event_prefixes=("charge",),
    selected_by_default=True,
)
PAYMENT_INTENTS = ObjectType(
    path="/v1/payment_intents",
    description="Payments, from the first attempt to the outcome.",
    permission="PaymentIntents: read",
    id_prefix="pi_",
    event_prefixes=("payment_intent",),
    has_silent_updates=True,
    selected_by_default=True,
)
INVOICES = ObjectType(
    path="/v1/invoices",
    description="Invoices, including drafts.",
    permission="Invoices: read",
    id_prefix="in_",
    event_prefixes=("invoice",),
    deletion_events=("invoice.deleted",),
    test_clock_path=((CUSTOMERS.path, "test_clock"), ("/v1/invoices", "customer")),
    selected_by_default=True,
)
INVOICE_LINE_ITEMS = ObjectType(
    path="/v1/invoices/{invoice}/lines",
    name="invoice_line_items",
    object_name="line_item",
    description="Every line of every invoice.",
    permission=INVOICES.permission,
    source="stripe._invoice_line_item.InvoiceLineItem",
    id_prefix="il_",
    params="InvoiceLineItem",
    parent=INVOICES,
    parent_field="lines",
    selected_by_default=True,
)
SUBSCRIPTIONS = ObjectType(
    path="/v1/subscriptions",
    description="Subscriptions, including canceled ones.",
    permission="Subscriptions: read",
    id_prefix="sub_",
    list_params=(("status", "all"),),
    event_prefixes=("customer.subscription",),
    test_clock_path=(("/v1/subscriptions", "test_clock"),),
    selected_by_default=True,
)
SUBSCRIPTION_ITEMS = ObjectType(
    path="/v1/subscription_items",
    description="The prices and quantities of each subscription.",
    permission=SUBSCRIPTIONS.permission,
    id_prefix="si_",
    parent=SUBSCRIPTIONS,
    parent_field="items",
    selected_by_default=True,
)
PRODUCTS = ObjectType(
    path="/v1/products",
    description="The products and services that you sell.",
    permission="Products: read",
    id_prefix="prod_",
    list_variants=ACTIVE_OR_NOT,
    event_prefixes=("product",),
    deletion_events=("product.deleted",),
    selected_by_default=True,
)
PRICES = ObjectType(
    path="/v1/prices",
    description="Prices of products, including archived ones.",
    permission="Plans: read",
    id_prefix="price_",
    key_permission="plan",
    list_variants=ACTIVE_OR_NOT,
    is_complete_history=False,  # inline prices are in no list
    event_prefixes=("price",),
    deletion_events=("price.deleted",),
    selected_by_default=True,
)
PAYMENT_METHODS = ObjectType(
    path="/v1/payment_methods",
    description="Cards and other payment methods of customers.",
    permission="PaymentMethods: read",
    id_prefix="pm_",
    other_paths=(CUSTOMERS.path,),
    filters_by_created=False,
    is_complete_history=False,  # custom ones are in no list, detached ones in no customer's
    event_prefixes=("payment_method",),
    # Cards and sources of the former API are deleted when they are detached.
    deletion_events_by_id=MappingProxyType({"payment_method.detached": ("card_", "src_")}),
    selected_by_default=True,
)
REFUNDS = ObjectType(
    path="/v1/refunds",
    description="Refunds of charges.",
    permission="Charges and Refunds: read",
    id_prefix="re_",
    key_permission="charge",
    event_prefixes=("refund", "charge.refund"),
    selected_by_default=True,
)
DISPUTES = ObjectType(
    path="/v1/disputes",
    description="Charges that a cardholder's bank disputes.",
    permission="Disputes: read",
    id_prefix="dp_",
    event_prefixes=("charge.dispute",),
    selected_by_default=True,
)
PAYOUTS = ObjectType(
    path="/v1/payouts",
    description="Transfers to your bank account.",
    permission="Payouts: read",
    id_prefix="po_",
    event_prefixes=("payout",),
    selected_by_default=True,
)
EVENTS = ObjectType(
    path="/v1/events",
    description="Events of the last 30 days.",
    permission="Events: read",
    id_prefix="evt_",
    history=RETENTION,
    is_complete_history=False,
    replication_key="created",
    selected_by_default=True,
)
BALANCE_TRANSACTIONS = ObjectType(
    path="/v1/balance_transactions",
    description="Every change of the Stripe balance, with its fee.",
    permission="Balance transactions: read",
    id_prefix="txn_",
    key_permission="balance_transaction_source",
    has_events=False,
    created_with_others=True,
    replication_key="created",
    selected_by_default=True,
)

DEFAULT_TYPES = (
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
