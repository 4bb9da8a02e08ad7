"""Parameters that cannot be copied to another account; some block a copy: reviewed data.

A copy for which a customer would pay more, less, twice or to another account is not made. A
parameter that changes only the look of a copy is left out, with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stripe_alloy.api.json_types import JSON
from target_stripe_alloy.params_tree import is_empty
from target_stripe_alloy.resources import Resource


@dataclass(frozen=True)
class LeftOut:
    """What a copy is without."""

    why: str
    blocks: bool = False
    """Whether there is no copy without it."""


def _harmless(why: str) -> LeftOut:
    return LeftOut(why)


def _blocks(why: str) -> LeftOut:
    return LeftOut(why, blocks=True)


def _discounts(*parents: str) -> dict[str, LeftOut]:
    """Leave out the references to discounts of an account, below these paths."""
    names = ("promotion_code", "discount")
    return {f"{parent}discounts.*.{name}": _DISCOUNT for parent in parents for name in names}


_CARD = _harmless("Stripe moves cards itself; without one nothing is charged")
_DISCOUNT = _blocks("without its discount the customer would pay more; expand `discounts`")
_TAX = _blocks("tax rates belong to an account, and without them the total is another")
_MONEY_TO = _blocks("without it the money would go to another account")
_OTHER_CUSTOMER = _harmless("`customer` says whose it is")

LEFT_OUT: Mapping[str, Mapping[str, LeftOut]] = {
    "prices": {"recurring.meter": _blocks("without its meter no usage would be billed")},
    "customers": {
        "invoice_settings.default_payment_method": _CARD,
        "invoice_settings.rendering_options.template": _harmless("how an invoice looks"),
        "payment_method": _CARD,
        "default_source": _CARD,
        "test_clock": _blocks("its time is simulated: here it would be billed in real time"),
        "next_invoice_sequence": _harmless("how invoices are numbered"),
        "invoice_prefix": _harmless("how invoices are numbered"),
    },
    "subscriptions": {
        "default_payment_method": _CARD,
        "default_source": _CARD,
        "items.*.tax_rates": _TAX,
        "default_tax_rates": _TAX,
        **_discounts("", "items.*.", "add_invoice_items.*."),
        "add_invoice_items.*.tax_rates": _TAX,
        "items.*.current_trial.trial_offer": _blocks("without its trial it is paid at once"),
        "on_behalf_of": _MONEY_TO,
        "transfer_data": _MONEY_TO,
        "automatic_tax.liability.account": _blocks("another account would owe the taxes"),
        "invoice_settings.issuer.account": _blocks("another account would send the invoices"),
        "invoice_settings.account_tax_ids": _harmless("printed on invoices; the total is the same"),
        "billing_mode": _harmless("how changes are prorated; the account has its own way"),
        "billing_cycle_anchor": _harmless("a copy begins with a period of its own"),
        "billing_schedules": _blocks("without them it would be billed at other times"),
        "customer_account": _OTHER_CUSTOMER,
    },
    "subscription_items": {
        "tax_rates": _TAX,
        **_discounts(""),
        "plan": _harmless("the price says the same"),
        "current_trial": _blocks("without its trial it is paid at once"),
    },
    "invoices": {
        "default_payment_method": _CARD,
        "payment_settings.default_mandate": _CARD,
        "default_source": _CARD,
        "default_tax_rates": _TAX,
        "account_tax_ids": _harmless("printed on it; the total is the same"),
        **_discounts(""),
        "on_behalf_of": _MONEY_TO,
        "transfer_data": _MONEY_TO,
        "issuer.account": _blocks("another account would send it"),
        "automatic_tax.liability.account": _blocks("another account would owe the taxes"),
        "shipping_cost": _blocks("without its shipping cost the total is another"),
        "rendering": _harmless("how it looks"),
        "from_invoice": _blocks("it corrects an invoice that is not here"),
        "number": _harmless("the account gives it its own"),
        "automatically_finalizes_at": _harmless("a draft waits for somebody to finalize it"),
        "effective_at": _harmless("the date printed on it"),
        "customer_account": _OTHER_CUSTOMER,
    },
    "invoice_line_items": {
        "tax_rates": _TAX,
        **_discounts(""),
        "tax_amounts": _blocks("without its taxes the total is another"),
        "invoice_item": _harmless("which item it came from"),
    },
    "payment_intents": {
        "payment_method": _CARD,
        "payment_method_configuration": _CARD,
        "confirmation_token": _CARD,
        "mandate": _CARD,
        "on_behalf_of": _MONEY_TO,
        "transfer_data": _MONEY_TO,
        "customer_account": _OTHER_CUSTOMER,
        "payment_details": _harmless("references for the account's own books"),
        "hooks": _harmless("the amount holds the tax already"),
    },
    "refunds": {
        "charge": _blocks("the payment it gives back is not here"),
    },
    "payouts": {
        "destination": _blocks("without its destination the money would go to another one"),
        "payout_method": _blocks("without its destination the money would go to another one"),
    },
}
"""Stream → parameters that a copy is made without, by their paths; `*` is any entry of a list.

These are the parameters in `ignored` and `own_to_account`, the references to streams that cannot be
copied, and the references to objects that no record can bring into another account.
"""


def uncopied_references(resource: Resource) -> list[str]:
    """Return the paths of references to objects that no record can bring into another account."""
    others = resource.references.keys() | resource.ignored | resource.own_to_account
    return [path for path in LEFT_OUT.get(resource.stream, {}) if path not in others]


@dataclass(frozen=True)
class ReadOnly:
    """A field that can only be read, and that a copy would need."""

    why: str
    when: Callable[[Any, JSON], bool] = lambda value, _: not is_empty(value)
    """Given its value and the record: whether there is something to lose."""


def _other_currencies(value: Any, fields: JSON) -> bool:
    balances = value if isinstance(value, dict) else {}
    return any(amount for currency, amount in balances.items() if currency != fields["currency"])


READ_ONLY: Mapping[str, Mapping[str, ReadOnly]] = {
    "customers": {
        "discount": ReadOnly("without its discount the customer would pay more"),
        "invoice_credit_balance": ReadOnly(
            "without its credit in other currencies the customer would pay more",
            lambda value, fields: _other_currencies(value, {"currency": None, **fields}),
        ),
    },
    "subscriptions": {
        "schedule": ReadOnly("without its schedule it would go on as it is now"),
        "test_clock": ReadOnly("its time is simulated: here it would be billed in real time"),
    },
    "invoices": {
        "test_clock": ReadOnly("its time is simulated: here it would be due in real time"),
    },
    "invoice_line_items": {
        "taxes": ReadOnly("without its taxes the total is another"),
    },
}
"""Stream → fields that no parameter takes, and that a copy is not made without."""


def why_ended(resource: Resource, fields: Mapping[str, Any]) -> str:
    """Return why a record creates no object if it is in a final state; empty if it is not."""
    for name, values in resource.terminal_states.items():
        if fields.get(name) in values:
            return f"its {name} is {fields[name]}: it has ended, and is not created anew"
    return ""


def why_no_copy(resource: Resource, fields: JSON, left_out: Iterable[str]) -> str:
    """Return why no copy is made of a record; empty if one is.

    `left_out` are the paths of its references that name nothing here.
    """
    why = why_ended(resource, fields)
    if why:
        return why
    known = LEFT_OUT.get(resource.stream, {})
    missing = [*left_out, *_ignored(resource, fields)]
    reasons = {path: known[path].why for path in missing if path in known and known[path].blocks}
    for name, field in READ_ONLY.get(resource.stream, {}).items():
        if field.when(fields.get(name), fields):
            reasons[name] = field.why
    return _not_copied(reasons)


def why_no_change(resource: Resource, changed: Iterable[str], left_out: Iterable[str]) -> str:
    """Return why a copy is not changed: what changes would lack something; empty if nothing does.

    `changed` are the names of parameters. What does not change keeps what it has here.
    """
    known = LEFT_OUT.get(resource.stream, {})
    names = set(changed)
    reasons = {
        path: known[path].why
        for path in left_out
        if path in known and known[path].blocks and path.partition(".")[0] in names
    }
    return _not_copied(reasons)


def _ignored(resource: Resource, fields: JSON) -> list[str]:
    return [name for name in sorted(resource.ignored) if not is_empty(fields.get(name))]


def _not_copied(reasons: Mapping[str, str]) -> str:
    if not reasons:
        return ""
    named = "; ".join(f"{path}: {why}" for path, why in reasons.items())
    return f"there is no copy of {named}"
