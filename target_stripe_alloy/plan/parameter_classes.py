"""Which parameters are free to write, and which need a name in `allow_actions`: reviewed data.

The rule: a parameter is free if it can change neither what someone pays, nor when, nor whether.
Descriptions, names, addresses and metadata are free; amounts, quantities, discounts, taxes, dates,
ways of payment and receivers of money need a permission.

- `free` names single parameters. What is new inside one of them is not free.
- `needs` names a permission and covers everything below its paths, but for what has its own entry.
- A parameter without an entry is never written: a test fails until it is classed.

Addresses and tax ids are free: they are facts about a customer, which a CRM knows best. Taxes may
follow from them, but by the account's tax settings. How a change is charged (`proration_behavior`)
needs the permission of the change.

In a path `*` stands for each entry of a list or of a map, `{a,b}` for either. Actions such as
`finalize` are permissions by their own names (`resources.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from target_stripe_alloy.params_tree import Path

_ADDRESS = "{city,country,line1,line2,postal_code,state}"
_AMOUNT = "{unit_amount,unit_amount_decimal}"
_CUSTOM = "custom_unit_amount.{enabled,maximum,minimum,preset}"
_TIER = "tiers.*.{flat_amount,flat_amount_decimal,unit_amount,unit_amount_decimal,up_to}"


@dataclass(frozen=True)
class Rule:
    """The class of one parameter."""

    path: Path
    action: str = ""
    """The permission's name after that of the stream; empty: the parameter is free."""
    new: bool = False
    """Whether a new object needs this permission too, besides that to create it."""
    harmless: frozenset[str] = frozenset()
    """Values that need no permission."""
    initial: frozenset[str] = frozenset()
    """Values that need none in a new object: it has them anyway."""
    first: bool = False
    """Whether none is needed where the object has no value yet."""


@dataclass
class Node:
    """The rules by their paths: one step of a path."""

    rule: Rule | None = None
    below: dict[str, Node] = field(default_factory=dict)

    def step(self, name: str) -> Node | None:
        """Return the node of a part; None if no rule speaks of it."""
        return self.below.get(name) or self.below.get("*")

    def rules(self) -> Iterator[Rule]:
        """Yield the rules of everything from here on."""
        if self.rule:
            yield self.rule
        for node in self.below.values():
            yield from node.rules()


@dataclass(frozen=True)
class Classes:
    """The classes of one stream's parameters, of its creation and of its end."""

    rules: Sequence[Rule]
    create: str = ""
    """The permission to create one; empty: a new one charges no one."""
    delete: str = ""
    """The permission to delete or detach one; empty: free, or it cannot be done."""
    why: str = ""
    """Why creating or deleting is free, where it is."""
    free_in_drafts: bool = False
    """Whether nothing is needed inside an invoice that is a draft without `auto_advance`.

    It bills no one until a user finalizes it, who sees its lines."""

    @cached_property
    def tree(self) -> Node:
        """The rules as a tree."""
        root = Node()
        for rule in self.rules:
            node = root
            for name in rule.path:
                node = node.below.setdefault(name, Node())
            node.rule = rule
        return root

    @property
    def actions(self) -> frozenset[str]:
        """The permissions of parameters, creation and end."""
        names = {rule.action for rule in self.rules} | {self.create, self.delete}
        return frozenset(names - {""})


def _paths(*texts: str) -> list[Path]:
    found = []
    for text in " ".join(texts).split():
        found += [tuple(path.split(".")) for path in _alternatives(text)]
    return found


def _alternatives(text: str) -> list[str]:
    inside = re.search(r"\{([^{}]*)\}", text)
    if inside is None:
        return [text]
    start, end = inside.span()
    names = inside.group(1).split(",")
    return [path for name in names for path in _alternatives(text[:start] + name + text[end:])]


def free(*paths: str) -> list[Rule]:
    """Class single parameters as free."""
    return [Rule(path) for path in _paths(*paths)]


def needs(
    action: str,
    *paths: str,
    new: bool = False,
    harmless: Sequence[str] = (),
    initial: Sequence[str] = (),
    first: bool = False,
) -> list[Rule]:
    """Class parameters, and what is below them, under the name of a permission."""
    values = frozenset(harmless), frozenset(initial)
    return [Rule(path, action, new, *values, first) for path in _paths(*paths)]


_EVIDENCE_3 = "evidence.enhanced_evidence.visa_compelling_evidence_3"
_BUYER = (
    "{customer_account_id,customer_device_fingerprint,customer_device_id,customer_email_address,"
    "customer_purchase_ip,product_description}"
)

MONEY: Mapping[str, Classes] = {
    "products": Classes(
        [
            *free(
                "id type name description images.* marketing_features.*.name metadata.* url",
                "unit_label package_dimensions.{height,length,weight,width} shippable",
                "statement_descriptor",
            ),
            # Whether it can be bought.
            *needs("active", "active"),
            # What shops charge that ask the product for its price; the first one, which a copied
            # product gets once its prices are there, replaces none.
            *needs("default_price", "default_price", first=True),
            # The taxes of what is sold later.
            *needs("taxes", "tax_code tax_details"),
            # No customer pays for a new price before it is sold.
            *free(
                "default_price_data.currency default_price_data.metadata.*",
                f"default_price_data.currency_options.*.{_CUSTOM}",
                f"default_price_data.currency_options.*.{_TIER}",
                f"default_price_data.currency_options.*.{_AMOUNT}",
                "default_price_data.currency_options.*.tax_behavior",
                f"default_price_data.{_CUSTOM} default_price_data.{_AMOUNT}",
                "default_price_data.recurring.{interval,interval_count}",
                "default_price_data.tax_behavior",
            ),
        ],
        why="no customer has bought a new one; Stripe deletes only products without prices, and "
        "`delete_policy` has to ask for it",
    ),
    "prices": Classes(
        [
            *free("metadata.* nickname"),
            # No customer pays for a new price before it is sold; later it is fixed, and another
            # price replaces it.
            *free(
                "billing_scheme currency product tiers_mode transform_quantity.{divide_by,round}",
                f"{_CUSTOM} {_AMOUNT} {_TIER}",
                "recurring.{interval,interval_count,meter,trial_period_days,usage_type}",
                "product_data.{active,id,name,statement_descriptor,tax_code,unit_label}",
                "product_data.metadata.*",
                "product_data.tax_details.{performance_location,tax_code}",
            ),
            # Whether it can be bought.
            *needs("active", "active"),
            # What is charged under this price, or by who looks for its key.
            *needs("replace", "lookup_key currency_options tax_behavior"),
            # Takes the key away from another price.
            *needs("replace", "transfer_lookup_key", new=True, harmless=["false"]),
        ],
        why="no customer pays for a new one before it is sold",
    ),
    "customers": Classes(
        [
            *free(
                "name email phone description business_name individual_name preferred_locales.*",
                "metadata.* invoice_settings.custom_fields.*.{name,value} invoice_settings.footer",
                "invoice_settings.rendering_options.{amount_tax_display,template}",
            ),
            # How invoices are numbered.
            *free("invoice_prefix next_invoice_sequence"),
            # Simulated time, in test mode only.
            *free("test_clock"),
            # Addresses, see above.
            *free(
                f"address.{_ADDRESS} shipping.address.{_ADDRESS} shipping.{{name,phone}}",
                "tax_id_data.*.{type,value}",
            ),
            # Whether taxes are added; with a new customer nothing is due yet.
            *needs("taxes", "tax_exempt tax"),
            # What is taken off, or added to, the next invoice.
            *needs("balance", "balance cash_balance", new=True, initial=["0", "merchant_default"]),
            # What invoices are paid with; a new source also retries those past due.
            *needs(
                "source",
                "source default_source payment_method invoice_settings.default_payment_method",
                "validate",
                new=True,
            ),
        ],
        delete="delete",
        why="a new customer owes nothing",
    ),
    "payment_methods": Classes(
        [
            *free("metadata.* billing_details.{name,email,phone,tax_id}"),
            # Addresses, see above.
            *free(f"billing_details.address.{_ADDRESS}"),
            # Whether a checkout shows it again; nothing is charged.
            *free("allow_redisplay"),
            # Whether a charge of it succeeds.
            *needs("update", "card us_bank_account"),
            # Who can be charged with it; detaching it cannot be undone.
            *needs("attach", "customer"),
        ],
        delete="detach",
    ),
    "subscriptions": Classes(
        [
            *free(
                "description metadata.* items.*.metadata.*",
                "invoice_settings.custom_fields.*.{name,value}",
                "invoice_settings.{description,footer}",
            ),
            # Identifies the item.
            *free("items.*.id"),
            # The reason of a cancellation; it cancels nothing.
            *free("cancellation_details.{comment,feedback,feedback_option}"),
            *needs(
                "create",
                "customer currency billing_mode billing_cycle_anchor_config backdate_start_date",
                "trial_period_days",
                new=True,
            ),
            # What is paid, and whether automatically.
            *needs("items", "items add_invoice_items trial_end trial_from_plan collection_method"),
            # How a change is charged.
            *needs("items", "proration_behavior proration_date payment_behavior off_session"),
            *needs("discounts", "discounts"),
            *needs("taxes", "default_tax_rates automatic_tax invoice_settings.account_tax_ids"),
            # What it is paid with.
            *needs("payment", "default_payment_method default_source payment_settings"),
            # When it is billed.
            *needs(
                "schedule",
                "days_until_due billing_thresholds pending_invoice_item_interval trial_settings",
            ),
            # Whether and when it ends.
            *needs("cancel", "cancel_at cancel_at_period_end"),
            # Whether its invoices are collected.
            *needs("pause", "pause_collection"),
            # Which account gets the money, or a part of it.
            *needs(
                "connect",
                "application_fee_percent transfer_data on_behalf_of invoice_settings.issuer",
                "automatic_tax.liability",
            ),
        ],
        create="create",
        delete="cancel",
    ),
    "subscription_items": Classes(
        [
            *free("metadata.*"),
            *needs("create", "subscription", new=True),
            *needs("update", "price price_data quantity discounts tax_rates billing_thresholds"),
            # How a change is charged.
            *needs("update", "proration_behavior proration_date payment_behavior off_session"),
        ],
        create="create",
        delete="delete",
    ),
    "invoices": Classes(
        [
            *free(
                "description footer custom_fields.*.{name,value} metadata.* statement_descriptor",
                "rendering.{amount_tax_display,template,template_version} rendering.pdf.page_size",
            ),
            # Addresses, see above.
            *free(f"shipping_details.address.{_ADDRESS} shipping_details.{{name,phone}}"),
            # Of a new draft, and fixed afterwards.
            *free("customer currency"),
            # A new draft is not due.
            *needs("schedule", "due_date days_until_due"),
            # A new draft is not collected.
            *needs("payment", "collection_method"),
            # What it is paid with.
            *needs("payment", "default_payment_method default_source payment_settings", new=True),
            *needs("discounts", "discounts", new=True),
            *needs(
                "taxes",
                "default_tax_rates automatic_tax account_tax_ids",
                new=True,
                initial=["false"],
            ),
            # An amount on it.
            *needs("lines", "shipping_cost", new=True),
            # Brings lines that the next invoice would have had.
            *needs("lines", "pending_invoice_items_behavior", new=True, initial=["exclude"]),
            # Which account gets the money, or a part of it.
            *needs(
                "connect",
                "application_fee_amount transfer_data on_behalf_of issuer automatic_tax.liability",
                new=True,
                initial=["self"],
            ),
            # Whether Stripe finalizes and collects it; if it is turned off, no one pays.
            *needs("auto_advance", "auto_advance", new=True, initial=["false"]),
            *needs("create_for_subscription", "subscription", new=True),
        ],
        delete="delete",
        why="a new draft without `auto_advance` bills no one until a user finalizes it",
    ),
    "invoice_line_items": Classes(
        [
            *free("description metadata.*"),
            *needs("create", "invoice", new=True),
            *needs(
                "update",
                "amount quantity quantity_decimal pricing price_data discountable discounts",
                "tax_rates period",
            ),
        ],
        create="create",
        free_in_drafts=True,
    ),
    "payment_intents": Classes(
        [
            *free("description metadata.* receipt_email statement_descriptor{,_suffix}"),
            # Addresses, see above.
            *free(f"shipping.address.{_ADDRESS} shipping.{{carrier,name,phone,tracking_number}}"),
            *needs("create", "automatic_payment_methods confirmation_method", new=True),
            *needs("amount", "amount currency amount_details"),
            # Who pays, with what, when it is taken, and what may be charged again.
            *needs(
                "payment",
                "customer payment_method payment_method_data payment_method_options",
                "payment_method_configuration allowed_payment_method_types",
                "excluded_payment_method_types capture_method setup_future_usage",
            ),
            # Which account gets the money, or a part of it.
            *needs("connect", "application_fee_amount transfer_data transfer_group on_behalf_of"),
            # Charges at once.
            *needs(
                "confirm",
                "confirm off_session confirmation_token mandate mandate_data radar_options",
                "error_on_requires_action return_url use_stripe_sdk",
                new=True,
                harmless=["false"],
            ),
        ],
        create="create",
        why="the customer's device confirms it, and its amount has no effect before that",
    ),
    "charges": Classes(
        [
            *free("description metadata.* receipt_email"),
            # Addresses, see above.
            *free(f"shipping.address.{_ADDRESS} shipping.{{carrier,name,phone,tracking_number}}"),
            # A report of fraud can put the payer on a list of those who are declined.
            *needs("fraud_details", "fraud_details"),
            # Which customer paid; it is set once.
            *needs("customer", "customer"),
            # Which account gets the money, or a part of it; it is set once.
            *needs("connect", "transfer_group"),
        ]
    ),
    "refunds": Classes(
        [
            *free("metadata.*"),
            *needs(
                "create",
                "amount charge currency customer instructions_email origin payment_intent reason",
                "refund_application_fee reverse_transfer",
                new=True,
            ),
        ],
        create="create",
    ),
    "disputes": Classes(
        [
            *free("metadata.*"),
            # Kept with the dispute, and only sent to the bank by `submit`.
            *free(
                "evidence.{access_activity_log,billing_address,cancellation_policy}",
                "evidence.{cancellation_policy_disclosure,cancellation_rebuttal}",
                "evidence.{customer_communication,customer_email_address,customer_name}",
                "evidence.{customer_purchase_ip,customer_signature}",
                "evidence.{duplicate_charge_documentation,duplicate_charge_explanation}",
                "evidence.{duplicate_charge_id,product_description,receipt,refund_policy}",
                "evidence.{refund_policy_disclosure,refund_refusal_explanation,service_date}",
                "evidence.{service_documentation,shipping_address,shipping_carrier,shipping_date}",
                "evidence.{shipping_documentation,shipping_tracking_number,uncategorized_file}",
                "evidence.uncategorized_text",
                f"{_EVIDENCE_3}.disputed_transaction.{_BUYER}",
                f"{_EVIDENCE_3}.disputed_transaction.merchandise_or_services",
                f"{_EVIDENCE_3}.disputed_transaction.shipping_address.{_ADDRESS}",
                f"{_EVIDENCE_3}.prior_undisputed_transactions.*.{_BUYER}",
                f"{_EVIDENCE_3}.prior_undisputed_transactions.*.charge",
                f"{_EVIDENCE_3}.prior_undisputed_transactions.*.shipping_address.{_ADDRESS}",
            ),
            # Agrees to the fee of going on.
            *needs(
                "submit",
                "evidence.enhanced_evidence.mastercard_compliance",
                "evidence.enhanced_evidence.visa_compliance evidence.appeal",
            ),
            # Whether Stripe submits evidence automatically.
            *needs("submit", "intended_submission_method"),
            *needs("submit", "submit", harmless=["false"]),
        ]
    ),
    "payouts": Classes(
        [
            *free("metadata.*"),
            *needs(
                "create",
                "amount currency description destination method payout_method source_type",
                "statement_descriptor",
                new=True,
            ),
        ],
        create="create",
    ),
}
