"""Parameters that name another object: all are references, or listed as none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stripe_alloy.api.params import ParamType
from stripe_alloy.emulator import Emulator
from target_stripe_alloy.plan.copies import uncopied_references
from target_stripe_alloy.resources import RESOURCES, Resource
from tests.target.helpers import Message, record, schema, write

WRITABLE = [resource for resource in RESOURCES if resource.writable]
OTHERS = ("coupon", "promotion_code", "discount", "tax_rate", "mandate", "plan")
"""What Stripe has besides streams, and parameters name."""
KINDS = {resource.object_name.rpartition(".")[2] for resource in RESOURCES} | set(OTHERS)
NAMES = re.compile(rf"(.*_)?({'|'.join(sorted(KINDS))})s?(_id)?")

COUPON = "a coupon's id is the user's own, and may be the same in another account"
NO_REFERENCES = {
    "subscriptions.discounts.*.coupon": COUPON,
    "subscriptions.items.*.discounts.*.coupon": COUPON,
    "subscriptions.add_invoice_items.*.discounts.*.coupon": COUPON,
    "subscription_items.discounts.*.coupon": COUPON,
    "invoices.discounts.*.coupon": COUPON,
    "invoice_line_items.discounts.*.coupon": COUPON,
    "customers.source": "a token; it cannot be read, so nobody's copy brings one",
    "subscriptions.items.*.plan": "the price says the same, and a reading leaves it out",
    "subscriptions.payment_settings.save_default_payment_method": "a choice",
    "subscriptions.trial_settings.end_behavior.missing_payment_method": "a choice",
    "payment_intents.amount_details.line_items": "made with the intent",
    "payment_intents.payment_method_options.klarna.subscriptions": "Klarna's own references",
}
"""Parameters that are named like an object and name none, or none that may be another one."""


def parameters(shape: ParamType, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if shape.scalars & {"string"} or shape.items:
        yield path
    for name, inner in (shape.fields or {}).items():
        yield from parameters(inner, (*path, name))
    if shape.items is not None:
        yield from parameters(shape.items, (*path, "*"))


def unlisted(resource: Resource) -> list[str]:
    paths = [*resource.references, *uncopied_references(resource)]
    listed = {tuple(path.split(".")) for path in paths}
    out = {(name,) for name in resource.ignored | resource.own_to_account}
    found = []
    for path in parameters(resource.shape):
        names = [name for name in path if name != "*"]
        if not names or not NAMES.fullmatch(names[-1]):
            continue
        starts = {path[:end] for end in range(1, len(path) + 1)}
        inside = any(each[: len(path)] == path for each in listed)
        label = ".".join((resource.stream, *path))
        if not starts & (listed | out) and not inside and label not in NO_REFERENCES:
            found.append(label)
    return found


@pytest.mark.parametrize("resource", WRITABLE, ids=lambda resource: resource.stream)
def test_what_is_named_like_an_object_is_a_reference(resource: Resource) -> None:
    assert unlisted(resource) == []


ALLOWED = ["subscriptions.create", "subscriptions.items"]
PRICE: dict[str, Any] = {"currency": "usd", "unit_amount": 5, "recurring": {"interval": "month"}}


def shop() -> list[Message]:
    return [
        schema("customers", "no"),
        record("customers", no="C"),
        schema("products", "no"),
        record("products", no="X", name="x"),
        schema("prices", "no"),
        record("prices", no="P", product="X", **PRICE),
        record("prices", no="FEE", product="X", currency="usd", unit_amount=900),
    ]


def billed(**fields: Any) -> list[Message]:
    bill = {"collection_method": "send_invoice", "days_until_due": 30}
    row = {"no": "S", "customer": "C", "items": [{"price": "P"}], **bill, **fields}
    return [schema("subscriptions", "no"), record("subscriptions", **row)]


@pytest.mark.parametrize(
    "fields",
    [
        {"add_invoice_items": [{"price": "FEE"}]},
        {
            "add_invoice_items": [
                {"price_data": {"currency": "usd", "product": "X", "unit_amount": 900}}
            ]
        },
        {"items": [{"price_data": {"product": "X", **PRICE}}]},
    ],
    ids=["a fee's price", "a fee's product", "an item's product"],
)
@pytest.mark.parametrize("order", [1, -1])
def test_a_subscription_refers_to_users_keys_in_all_its_parts(
    empty: Emulator, tmp_path: Path, fields: dict[str, Any], order: int
) -> None:
    parts = [shop(), billed(**fields)][::order]
    messages = [message for part in parts for message in part]
    run = write(empty, tmp_path, messages, id_mode="external", allow_actions=ALLOWED)
    assert run.rejects == []
    assert len(empty.objects("subscriptions")) == 1


def test_a_list_of_what_is_no_reference_holds_parameters() -> None:
    known = {
        ".".join((resource.stream, *path))
        for resource in WRITABLE
        for path in parameters(resource.shape)
    }
    assert NO_REFERENCES.keys() <= known
