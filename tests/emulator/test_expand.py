"""`expand`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import stripe

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.object_type import ObjectType
from stripe_alloy.api.schemas import generated
from stripe_alloy.emulator.expand import MAX_LEVELS
from tests.emulator.helpers import get, refused

if TYPE_CHECKING:
    from stripe_alloy.emulator import Emulator


def expanded(client: stripe.StripeClient, path: str, *paths: str, **params: Any) -> Any:
    return get(client, path, expand=list(paths), **params)


def test_a_list_expands_below_data(reader: stripe.StripeClient) -> None:
    page = expanded(reader, "/v1/charges", "data.customer", limit=3)
    assert {row["customer"]["object"] for row in page["data"]} == {"customer"}


def test_one_object_expands_its_own_fields(business: Emulator, reader: stripe.StripeClient) -> None:
    charge = business.ids("charges")[0]
    found = expanded(reader, f"/v1/charges/{charge}", "customer", "balance_transaction")
    assert found["balance_transaction"]["source"] == charge


def test_expansions_go_through_expanded_objects(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    refund = business.ids("refunds")[0]
    found = expanded(reader, f"/v1/refunds/{refund}", "charge.payment_intent.customer")
    assert found["charge"]["payment_intent"]["customer"]["object"] == "customer"


def test_expansions_go_into_nested_lists(business: Emulator, reader: stripe.StripeClient) -> None:
    row = business.objects("subscriptions")[0]
    path = f"/v1/subscriptions/{row['id']}"
    found = expanded(reader, path, "items.data.price.product")
    assert found["items"]["data"][0]["price"]["product"]["object"] == "product"


@pytest.mark.parametrize("stream", [stream for stream in DEFAULT_TYPES if not stream.parent])
def test_whatever_a_list_may_expand_is_answered(
    reader: stripe.StripeClient, stream: ObjectType
) -> None:
    paths = [
        path for path in generated("_expandable")[stream.name] if path.count(".") < MAX_LEVELS - 1
    ]
    for path in paths:
        page = expanded(reader, stream.path, f"data.{path}", limit=100)
        assert page["data"]


def test_a_null_stays_null(business: Emulator, reader: stripe.StripeClient) -> None:
    charge = next(c for c in business.objects("charges") if c["status"] == "failed")
    found = expanded(reader, f"/v1/charges/{charge['id']}", "balance_transaction")
    assert found["balance_transaction"] is None


def test_an_invoice_shows_its_payments_only_expanded(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    row = next(r for r in business.objects("invoices") if r["amount_paid"])
    assert "payments" not in row
    path = f"/v1/invoices/{row['id']}"
    found = expanded(reader, path, "payments.data.payment.payment_intent")
    payment = found["payments"]["data"][0]
    assert payment["payment"]["payment_intent"]["amount"] == row["amount_paid"]


def test_tiers_appear_only_expanded(business: Emulator, reader: stripe.StripeClient) -> None:
    price = next(p for p in business.objects("prices") if p["billing_scheme"] == "tiered")
    assert "tiers" not in price
    found = expanded(reader, f"/v1/prices/{price['id']}", "tiers")
    assert [tier["up_to"] for tier in found["tiers"]] == [10, 100, None]


def test_currency_options_appear_only_expanded(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    price = next(p for p in business.objects("prices") if p["lookup_key"] == "team_usd_month")
    assert "currency_options" not in price
    found = expanded(reader, f"/v1/prices/{price['id']}", "currency_options")
    assert found["currency_options"]["usd"]["unit_amount"] == price["unit_amount"]


def test_tax_ids_appear_only_expanded(reader: stripe.StripeClient) -> None:
    page = expanded(reader, "/v1/customers", "data.tax_ids", limit=100)
    lists = [row["tax_ids"] for row in page["data"]]
    assert {len(tax_ids["data"]) for tax_ids in lists} == {0, 2}


def test_subscriptions_of_a_customer_leave_canceled_ones_out(reader: stripe.StripeClient) -> None:
    page = expanded(reader, "/v1/customers", "data.subscriptions", limit=100)
    rows = [s for customer in page["data"] for s in customer["subscriptions"]["data"]]
    assert "canceled" not in {row["status"] for row in rows}


def test_refunds_of_a_charge_appear_only_expanded(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    refund = business.objects("refunds")[0]
    found = expanded(reader, f"/v1/charges/{refund['charge']}", "refunds.data.balance_transaction")
    assert refund["id"] in [row["id"] for row in found["refunds"]["data"]]


@pytest.mark.parametrize("path", ["data.foo", "customer", "data", "data.amount", "data.metadata.x"])
def test_what_cannot_be_expanded_is_refused(reader: stripe.StripeClient, path: str) -> None:
    with refused(400, None, "expand"):
        expanded(reader, "/v1/charges", path)


def test_the_refusal_names_the_property(reader: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=r"cannot be expanded \(data\.foo\)"):
        expanded(reader, "/v1/charges", "data.foo")


def test_four_levels_are_allowed(reader: stripe.StripeClient) -> None:
    path = "data.payment_intent.customer.invoice_settings"
    with refused(400, None, "expand"):
        expanded(reader, "/v1/charges", path)
    assert expanded(reader, "/v1/charges", "data.payment_intent.latest_charge.customer", limit=1)


def test_five_levels_are_refused(reader: stripe.StripeClient) -> None:
    with refused(400, None, "expand"):
        expanded(reader, "/v1/refunds", "data.charge.payment_intent.latest_charge.customer")


def test_writes_expand_too(api: stripe.StripeClient, emu: Emulator) -> None:
    charge = emu.ids("charges")[0]
    found = api.v1.charges.update(charge, {"description": "x", "expand": ["customer"]})
    assert getattr(found.customer, "object", None) == "customer"
