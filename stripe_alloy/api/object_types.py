"""Declarations of Stripe's object types: stream name, list, events, permission.

The tap, the target, the emulator, the webhook registration, the permission tables and the schema
generator read these declarations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from stripe_alloy.api.events import RETENTION
from stripe_alloy.api.timestamps import DAY

TEST_CLOCKS_PATH = "/v1/test_helpers/test_clocks"
ACTIVE_OR_NOT = ((("active", "true"),), (("active", "false"),))
"""Parameters of lists that contain only active objects unless the others are requested."""
ASSUMED_HISTORY = 90 * DAY
"""Assumed length of a list's history in seconds."""


@dataclass(frozen=True)
class ObjectType:
    """A type of Stripe object that can be listed."""

    path: str
    """Path of the list; child streams are read from their parent's list (`root`)."""
    description: str
    permission: str
    """Permission to read of a restricted key, as named in the Dashboard."""
    id_prefix: str
    name: str = ""
    """Stream name, Stripe's plural in snake case; "" for the words of the path."""
    object_name: str = ""
    """Stripe's `object`, by which events are routed; "" for the path's singular."""
    source: str = ""
    """Class of the `stripe` package that the schema is generated from; "" for the object's own."""
    params: str = ""
    """Class name prefix of its parameters in `stripe.params`; "" for the object's own."""
    selected_by_default: bool = False
    """Whether the stream is read unless the user selects others."""
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

    def __post_init__(self) -> None:
        words = self.path.removeprefix("/v1/")
        object_name = self.object_name or words.replace("/", ".").removesuffix("s")
        namespace, _, own = object_name.rpartition(".")
        camel = "".join(map(str.title, own.split("_")))
        in_namespace = f"{namespace}." if namespace else ""
        object.__setattr__(self, "name", self.name or words.replace("/", "_"))
        object.__setattr__(self, "object_name", object_name)
        object.__setattr__(self, "source", self.source or f"stripe.{in_namespace}_{own}.{camel}")
        object.__setattr__(self, "params", self.params or f"{in_namespace}{camel}")

    @property
    def root(self) -> ObjectType:
        """The type whose list contains the objects: the parent, or the type itself."""
        return self.parent or self


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
    has_events=False,
    replication_key="created",
    selected_by_default=True,
)

COUPONS = ObjectType(
    path="/v1/coupons",
    description="Discounts that can be redeemed, without those that were deleted.",
    permission="Coupons: read",
    id_prefix="",
    event_prefixes=("coupon",),
    deletion_events=("coupon.deleted",),
)
PROMOTION_CODES = ObjectType(
    path="/v1/promotion_codes",
    description="Codes that customers redeem for a coupon.",
    permission="Promotion Codes: read",
    id_prefix="promo_",
    event_prefixes=("promotion_code",),
)
CREDIT_NOTES = ObjectType(
    path="/v1/credit_notes",
    description="Corrections of finalized invoices.",
    permission="Credit notes: read",
    id_prefix="cn_",
    event_prefixes=("credit_note",),
)
TAX_RATES = ObjectType(
    path="/v1/tax_rates",
    description="Tax rates for invoices and subscriptions, including archived ones.",
    permission="Tax Rates: read",
    id_prefix="txr_",
    event_prefixes=("tax_rate",),
)
SUBSCRIPTION_SCHEDULES = ObjectType(
    path="/v1/subscription_schedules",
    description="Planned phases of subscriptions.",
    permission="Subscriptions: read",
    id_prefix="sub_sched_",
    event_prefixes=("subscription_schedule",),
)
SETUP_INTENTS = ObjectType(
    path="/v1/setup_intents",
    description="Setups of payment methods for later payments.",
    permission="SetupIntents: read",
    id_prefix="seti_",
    event_prefixes=("setup_intent",),
    has_silent_updates=True,
)
TRANSFERS = ObjectType(
    path="/v1/transfers",
    description="Transfers of funds to connected accounts.",
    permission="Transfers: read",
    id_prefix="tr_",
    event_prefixes=("transfer",),
)
TOPUPS = ObjectType(
    path="/v1/topups",
    description="Top-ups of the Stripe balance from a bank account.",
    permission="Top-ups: read",
    id_prefix="tu_",
    event_prefixes=("topup",),
    has_silent_updates=True,
)
REVIEWS = ObjectType(
    path="/v1/reviews",
    description="Payments that Radar flagged for a manual review.",
    permission="Reviews: read",
    id_prefix="prv_",
    event_prefixes=("review",),
)
RADAR_EARLY_FRAUD_WARNINGS = ObjectType(
    path="/v1/radar/early_fraud_warnings",
    description="Warnings by card issuers that a charge may be fraudulent.",
    permission="Early fraud warnings: read",
    id_prefix="issfr_",
    event_prefixes=("radar.early_fraud_warning",),
)
IDENTITY_VERIFICATION_SESSIONS = ObjectType(
    path="/v1/identity/verification_sessions",
    description="Verifications of the identity of a person.",
    permission="Verification Sessions and Reports: read",
    id_prefix="vs_",
    event_prefixes=("identity.verification_session",),
    has_silent_updates=True,
)
ISSUING_AUTHORIZATIONS = ObjectType(
    path="/v1/issuing/authorizations",
    description="Authorizations of payments with issued cards.",
    permission="Issuing Authorizations: read",
    id_prefix="iauth_",
    event_prefixes=("issuing_authorization",),
)
ISSUING_CARDHOLDERS = ObjectType(
    path="/v1/issuing/cardholders",
    description="People and companies that hold issued cards.",
    permission="Issuing Cardholders: read",
    id_prefix="ich_",
    event_prefixes=("issuing_cardholder",),
)
ISSUING_CARDS = ObjectType(
    path="/v1/issuing/cards",
    description="Cards that were issued.",
    permission="Issuing Cards: read",
    id_prefix="ic_",
    event_prefixes=("issuing_card",),
)
ISSUING_DISPUTES = ObjectType(
    path="/v1/issuing/disputes",
    description="Disputes of payments with issued cards.",
    permission="Issuing Disputes: read",
    id_prefix="idp_",
    event_prefixes=("issuing_dispute",),
)
ISSUING_TRANSACTIONS = ObjectType(
    path="/v1/issuing/transactions",
    description="Payments and refunds with issued cards.",
    permission="Issuing Transactions: read",
    id_prefix="ipi_",
    event_prefixes=("issuing_transaction",),
)

OBJECT_TYPES: tuple[ObjectType, ...] = tuple(
    declared for declared in list(globals().values()) if isinstance(declared, ObjectType)
)
"""All types that are declared above, in that order."""
DEFAULT_TYPES = tuple(kind for kind in OBJECT_TYPES if kind.selected_by_default)
BY_NAME: Mapping[str, ObjectType] = MappingProxyType({kind.name: kind for kind in OBJECT_TYPES})
BY_OBJECT: Mapping[str, ObjectType] = MappingProxyType(
    {kind.object_name: kind for kind in OBJECT_TYPES}
)


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
