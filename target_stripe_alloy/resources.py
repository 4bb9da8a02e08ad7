"""Declares how each type of object is written, on top of the parameter types of `stripe.params`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources as files
from types import MappingProxyType
from typing import Any

import msgspec

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.object_types import BY_NAME
from stripe_alloy.api.params import ParamType, param_type, union
from stripe_alloy.api.paths import segment
from stripe_alloy.api.schemas import generated
from stripe_alloy.text_enum import TextEnum
from target_stripe_alloy import normalize
from target_stripe_alloy.params_tree import InvalidRecord, Path, with_time


class Operation(TextEnum):
    """What a request does to an object."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


ACTION = "_action"
"""The field of a record that asks for an action, such as `finalize`; a status never does."""
OCCASION = "_action_id"
"""The field that makes an action another one: June's reminder is not May's."""

_NOT_PARAMETERS = frozenset({"expand"})
BEHAVIOR_PARAMS = frozenset(
    {
        "error_on_requires_action",
        "off_session",
        "payment_behavior",
        "pending_invoice_items_behavior",
        "proration_behavior",
        "proration_date",
        "refund_application_fee",
        "return_url",
        "reverse_transfer",
        "transfer_lookup_key",
        "trial_from_plan",
        "validate",
    }
)
"""Parameters that control how an update is applied: sent only with a change that is not free."""


INTEGERS = "integer_parameters.json"
"""Classes each integer parameter as a time or as a number; reviewed, a test compares it."""


@cache
def integer_parameters() -> Mapping[str, Sequence[str]]:
    """Read the reviewed list: `times` and `numbers`, each `stream.path`, `*` for any entry."""
    text = files.files("target_stripe_alloy").joinpath(INTEGERS).read_bytes()
    return msgspec.json.decode(text, type=dict[str, list[str]])


def _times_of(stream: str) -> Iterator[Path]:
    for label in integer_parameters()["times"]:
        name, _, path = label.partition(".")
        if name == stream:
            yield tuple(path.split("."))


def _map(**values: Any) -> Mapping[str, Any]:
    return MappingProxyType(values)


@dataclass(frozen=True)
class Action:
    """`POST {path}/{suffix}`, in one of the statuses `when`; in `done` it happened already."""

    suffix: str
    when: frozenset[str]
    done: frozenset[str] = frozenset()
    method: str = "POST"
    event: str = ""
    """The type of the event that shows that it happened, where no status does."""
    includes: Mapping[str, str] = field(default_factory=_map)
    """Status → the action that this one does first then."""
    fills: str = ""
    """The field that has a value once it happened, where no status shows it."""


@dataclass(frozen=True)
class Resource:
    """How the objects of a stream are written."""

    stream: str
    why_not: str = ""
    """Why none can be created; empty: one can."""
    create_class: str = ""
    """The class of `stripe.params` for a new one, if it is not named after the type."""
    item_path: str = ""
    """The path of one, if not `{path}/{id}`; `{invoice}` stands for that field."""
    references: Mapping[str, str] = field(default_factory=_map)
    """Parameter (`a.b`, `items.*.price`) → stream of the object it names; `*` is any entry."""
    requires_with: Mapping[str, Mapping[str, str]] = field(default_factory=_map)
    """Parameter → value → what creation then requires, too; a tap may have to `expand` it."""
    requires_one_of: tuple[str, ...] = ()
    """Parameters of which a new one must have one."""
    deferrable_references: frozenset[str] = frozenset()
    """References that may be set after creation: the other object needs this one first."""
    ignored: frozenset[str] = frozenset()
    """Parameters that are never derived from what is read."""
    own_to_account: frozenset[str] = frozenset()
    """Parameters whose values make no sense in another account."""
    normalize: Callable[[JSON, float], None] | None = None
    """Turns a copy of an object, or of a record, into the shape of request parameters."""
    terminal_states: Mapping[str, frozenset[str]] = field(default_factory=_map)
    """Field → values with which no copy is made."""
    update_defaults: Mapping[str, str] = field(default_factory=_map)
    """Sent with each update unless the record says otherwise."""
    sub_resources: Mapping[str, str] = field(default_factory=_map)
    """List → parameter that creates its entries with the object (`tax_ids` → `tax_id_data`). Later
    they are created and deleted at an endpoint of the list's name."""
    archive: Mapping[str, str] = field(default_factory=_map)
    deletes: bool = False
    actions: Mapping[str, Action] = field(default_factory=_map)
    adds: frozenset[str] = frozenset()
    """Parameters that add something each time they are sent, and cannot be read back."""
    shown_by: Mapping[str, str] = field(default_factory=_map)
    """Parameter that is `true` or not → path of the count of how often it was."""
    lock_fields: str = ""
    """Fields, separated by spaces, that name an object that Stripe locks during a write: writes
    with the same value are sent one after another."""
    parent_field: str = ""
    """The field that names the object that contains this one."""
    replaced_on_change: bool = False
    """Whether a change of an immutable field creates an object that replaces this one (prices)."""
    found_by: str = ""
    """The field by which a copy is found again: `id`, `lookup_key`; empty: by its stamp."""
    attach_field: str = ""
    """The field that an attach request sets and a detach request clears."""
    item_stream: str = ""
    """The stream of the objects in the list `items`, which are created with this one."""
    writable: bool = True

    @property
    def path(self) -> str:
        """Where Stripe lists and creates them."""
        return BY_NAME[self.stream].root.path

    @property
    def object_name(self) -> str:
        """What Stripe calls one."""
        return BY_NAME[self.stream].object_name

    @property
    def create(self) -> str:
        """The class of `stripe.params` for a new one; empty if none can be created."""
        default = f"{BY_NAME[self.stream].params}CreateParams"
        return "" if self.why_not else self.create_class or default

    @property
    def update(self) -> str:
        """The class of `stripe.params` for an update; empty if none can be updated."""
        return f"{BY_NAME[self.stream].params}UpdateParams" if self.writable else ""

    @property
    def permission(self) -> str:
        """What a restricted key needs to write it, as the Dashboard names it; it may read then."""
        return BY_NAME[self.stream].permission.replace(": read", ": write")

    @cached_property
    def create_params(self) -> Mapping[str, ParamType]:
        """Parameters of a new one."""
        return self._fields(self.create)

    @cached_property
    def update_params(self) -> Mapping[str, ParamType]:
        """Parameters of an update."""
        return self._fields(self.update)

    @cached_property
    def required(self) -> frozenset[str]:
        """Parameters that a new one must have."""
        return frozenset(param_type(self.create).needed) if self.create else frozenset()

    def required_with(self, params: Mapping[str, Any]) -> frozenset[str]:
        """Parameters that a new one with these ones must have as well."""
        return frozenset(
            more[params[name]]
            for name, more in self.requires_with.items()
            if params.get(name) in more
        )

    @cached_property
    def shape(self) -> ParamType:
        """All parameters, those of an update where both have one."""
        more = {
            name: ParamType(scalars={"string"})
            for name in (self.attach_field, self.parent_field)
            if name
        }
        shape = union(
            ParamType(fields={**more, **self.create_params}),
            ParamType(fields=dict(self.update_params)),
        )
        for path in _times_of(self.stream):
            shape = with_time(shape, path)
        return shape

    @cached_property
    def readable(self) -> frozenset[str]:
        """Fields that an object of Stripe's has."""
        return frozenset(generated(self.stream)["properties"])

    @cached_property
    def write_only(self) -> frozenset[str]:
        """Parameters that cannot be read back: `source`, `proration_behavior`."""
        return frozenset((self.create_params.keys() | self.update_params.keys()) - self.readable)

    @cached_property
    def immutable(self) -> frozenset[str]:
        """Parameters that only creation accepts, and the parent."""
        within = {self.parent_field} if self.parent_field else set()
        return frozenset(
            (self.create_params.keys() & self.readable) - self.update_params.keys() | within
        )

    @cached_property
    def expand_only(self) -> frozenset[str]:
        """Fields that Stripe returns only if they are expanded."""
        entries = generated("_expandable")[self.stream]
        return frozenset(path for path, entry in entries.items() if entry["kind"] == "include")

    def _fields(self, params: str) -> Mapping[str, ParamType]:
        fields = (param_type(params).fields or {}) if params else {}
        out = self.ignored | _NOT_PARAMETERS
        return {name: shape for name, shape in fields.items() if name not in out}

    def path_of(self, object_id: str, fields: Mapping[str, Any]) -> str:
        """Return the path of one object."""
        if not self.item_path:
            return f"{self.path}/{_segment(object_id)}"
        around = {k: _segment(v) for k, v in fields.items() if k != "id" and isinstance(v, str)}
        return self.item_path.format(**around, id=_segment(object_id))


def _segment(object_id: str) -> str:
    try:
        return segment(object_id)
    except ValueError as error:
        raise InvalidRecord(f"id: {error}") from None


def _set(*names: str) -> frozenset[str]:
    return frozenset(names)


_DRAFTS = _map(draft="finalize")
"""docs.stripe.com/api/invoices/finalize: Stripe finalizes drafts before it sends or charges."""

RESOURCES: Sequence[Resource] = (
    Resource(
        "products",
        references=_map(default_price="prices"),
        deferrable_references=_set("default_price"),
        archive=_map(active="false"),
        deletes=True,
        found_by="id",
    ),
    Resource(
        "prices",
        references=_map(product="products"),
        requires_with=_map(billing_scheme={"tiered": "tiers"}),
        normalize=normalize.price,
        archive=_map(active="false"),
        lock_fields="product",
        found_by="lookup_key",
        replaced_on_change=True,
    ),
    Resource(
        "customers",
        adds=_set("source"),
        references={
            "invoice_settings.default_payment_method": "payment_methods",
            "payment_method": "payment_methods",
        },
        own_to_account=_set("next_invoice_sequence", "invoice_prefix"),
        sub_resources=_map(tax_ids="tax_id_data"),
        normalize=normalize.customer,
        deletes=True,
    ),
    Resource(
        "payment_methods",
        why_not="a payment method is not made of what can be read of it: attach one by its id",
        references=_map(customer="customers"),
        deletes=True,
        attach_field="customer",
        lock_fields="customer",
    ),
    Resource(
        "subscriptions",
        adds=_set("add_invoice_items"),
        references={
            "customer": "customers",
            "items.*.price": "prices",
            "items.*.price_data.product": "products",
            "default_payment_method": "payment_methods",
            "add_invoice_items.*.price": "prices",
            "add_invoice_items.*.price_data.product": "products",
        },
        ignored=_set("billing_cycle_anchor", "billing_schedules", "customer_account"),
        own_to_account=_set("billing_mode"),
        normalize=normalize.subscription,
        terminal_states=_map(
            status=_set("canceled", "incomplete_expired", "incomplete", "paused", "unpaid")
        ),
        deletes=True,
        actions=_map(
            cancel=Action(
                "",
                _set("active", "trialing", "past_due", "unpaid", "incomplete", "paused"),
                _set("canceled", "incomplete_expired"),
                "DELETE",
            ),
            pause=Action("pause", _set("active", "trialing"), _set("paused")),
            resume=Action("resume", _set("paused"), _set("active")),
        ),
        lock_fields="customer",
        item_stream="subscription_items",
    ),
    Resource(
        "subscription_items",
        item_path="/v1/subscription_items/{id}",
        references={
            "subscription": "subscriptions",
            "price": "prices",
            "price_data.product": "products",
        },
        ignored=_set("plan", "current_trial"),
        normalize=normalize.discounts,
        deletes=True,
        parent_field="subscription",
        lock_fields="subscription",
    ),
    Resource(
        "invoices",
        references={
            "customer": "customers",
            "subscription": "subscriptions",
            "default_payment_method": "payment_methods",
        },
        ignored=_set(
            "from_invoice",
            "number",
            "automatically_finalizes_at",
            "effective_at",
            "customer_account",
        ),
        own_to_account=_set("rendering"),
        normalize=normalize.invoice,
        terminal_states=_map(
            status=_set("paid", "void", "uncollectible"),
            billing_reason=_set(
                "subscription",
                "subscription_create",
                "subscription_cycle",
                "subscription_update",
                "subscription_threshold",
            ),
        ),
        deletes=True,
        actions=_map(
            finalize=Action("finalize", _set("draft"), _set("open", "paid")),
            pay=Action("pay", _set("draft", "open"), _set("paid"), includes=_DRAFTS),
            send=Action("send", _set("draft", "open"), event="invoice.sent", includes=_DRAFTS),
            void=Action("void", _set("open", "uncollectible"), _set("void")),
            mark_uncollectible=Action("mark_uncollectible", _set("open"), _set("uncollectible")),
        ),
        lock_fields="customer",
    ),
    Resource(
        "invoice_line_items",
        create_class="InvoiceAddLinesParamsLine",
        item_path="/v1/invoices/{invoice}/lines/{id}",
        references={
            "invoice": "invoices",
            "pricing.price": "prices",
            "price_data.product": "products",
        },
        ignored=_set("tax_amounts", "invoice_item"),
        normalize=normalize.invoice_line_item,
        parent_field="invoice",
        lock_fields="invoice",
    ),
    Resource(
        "payment_intents",
        references=_map(customer="customers", payment_method="payment_methods"),
        ignored=_set("customer_account", "payment_details", "hooks"),
        terminal_states=_map(
            status=_set(
                "succeeded", "canceled", "processing", "requires_capture", "requires_action"
            )
        ),
        actions=_map(
            confirm=Action(
                "confirm",
                _set("requires_payment_method", "requires_confirmation"),
                _set("succeeded", "processing", "requires_capture", "requires_action"),
            ),
            capture=Action("capture", _set("requires_capture"), _set("succeeded")),
            cancel=Action(
                "cancel",
                _set(
                    "requires_payment_method",
                    "requires_capture",
                    "requires_confirmation",
                    "requires_action",
                ),
                _set("canceled"),
            ),
        ),
        lock_fields="customer",
    ),
    Resource(
        "charges",
        why_not="charges come of payment intents; creating them by hand is deprecated",
        references=_map(customer="customers"),
        lock_fields="customer",
    ),
    Resource(
        "refunds",
        references=_map(charge="charges", payment_intent="payment_intents", customer="customers"),
        normalize=normalize.refund,
        terminal_states=_map(status=_set("succeeded", "failed", "canceled")),
        requires_one_of=("charge", "payment_intent"),
        actions=_map(cancel=Action("cancel", _set("requires_action"), _set("canceled"))),
        lock_fields="charge payment_intent",
    ),
    Resource(
        "disputes",
        why_not="disputes are opened by the customer's bank",
        references={
            "evidence.duplicate_charge_id": "charges",
            "evidence.enhanced_evidence.visa_compelling_evidence_3"
            ".prior_undisputed_transactions.*.charge": "charges",
        },
        update_defaults=_map(submit="false"),
        adds=_set("submit"),
        shown_by=_map(submit="evidence_details.submission_count"),
        actions=_map(
            close=Action("close", _set("needs_response", "warning_needs_response"), _set("lost"))
        ),
    ),
    Resource(
        "payouts",
        terminal_states=_map(status=_set("paid", "failed", "canceled", "in_transit")),
        actions=_map(
            cancel=Action("cancel", _set("pending"), _set("canceled")),
            reverse=Action("reverse", _set("paid"), fills="reversed_by"),
        ),
    ),
    Resource("events", why_not="events are Stripe's own", writable=False),
    Resource(
        "balance_transactions",
        why_not="balance transactions are Stripe's own",
        writable=False,
    ),
)
"""In the order in which they need each other."""

BY_STREAM: Mapping[str, Resource] = {resource.stream: resource for resource in RESOURCES}
ORDER: Mapping[str, int] = {resource.stream: n for n, resource in enumerate(RESOURCES)}
COPYABLE_STREAMS = frozenset(resource.stream for resource in RESOURCES if resource.create)
