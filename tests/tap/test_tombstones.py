"""Deleted objects: every column comes, so that schemas, maps, filters and flattening see it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import stripe

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.schemas import generated
from stripe_alloy.emulator import Emulator
from tap_stripe_alloy.records.conversion import Recorder
from tests.conftest import Output, config_of, read

DELETABLE = [stream for stream in DEFAULT_TYPES if stream.root.event_prefixes]


@pytest.fixture
def client(account: Emulator) -> stripe.StripeClient:
    return stripe.StripeClient(account.api_key, base_addresses={"api": account.url})


def delete_some(client: stripe.StripeClient) -> dict[str, str]:
    """Delete one object of each stream that can lose one; stream → id."""
    api = client.v1
    customer = api.customers.create({"name": "Gone", "email": "gone@example.com"}).id
    product = api.products.create({"name": "Gone"}).id
    daily: Any = {"product": product, "currency": "eur", "recurring": {"interval": "day"}}
    price = api.prices.create(daily | {"unit_amount": 700}).id
    other = api.customers.create({"name": "Kept"}).id
    api.payment_methods.attach(
        method := api.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}}).id,
        {"customer": other},
    )
    api.customers.update(other, {"invoice_settings": {"default_payment_method": method}})
    items: Any = [{"price": price}, {"price": price, "quantity": 2}]
    subscription = api.subscriptions.create({"customer": other, "items": items})
    item = subscription["items"].data[1].id
    invoice = api.invoices.create({"customer": other, "auto_advance": False}).id
    line: Any = {"customer": other, "invoice": invoice, "amount": 500, "currency": "eur"}
    api.invoice_items.create(line)
    lines = api.invoices.retrieve(invoice).lines.data
    api.customers.delete(customer)
    bare = api.products.create({"name": "Gone too"}).id
    api.products.delete(bare)
    api.subscription_items.delete(item)
    api.invoices.delete(invoice)
    return {
        "customers": customer,
        "products": bare,
        "subscription_items": item,
        "invoices": invoice,
        "invoice_line_items": lines[0].id,
    }


def run_after(
    account: Emulator, change: Callable[[], Any], *streams: str, **settings: Any
) -> Output:
    config = config_of(account, **settings)
    first = read(config, *streams)
    account.clock_advance(3_600)
    change()
    return read(config, *streams, state=first.state)


def gone(output: Output, stream: str) -> list[dict[str, Any]]:
    return [row for row in output.records.get(stream, []) if row["deleted"]]


SHAPES: list[dict[str, Any]] = [
    {},
    {"timestamps": "unix"},
    {"expand": {"invoices": ["customer"], "subscription_items": ["discounts"]}},
    {"expand": {"products": ["default_price"], "invoice_line_items": ["discounts"]}},
]


@pytest.mark.parametrize("settings", SHAPES, ids=str)
def test_each_tombstone_has_all_columns_and_fits_its_schema(
    account: Emulator, client: stripe.StripeClient, settings: dict[str, Any]
) -> None:
    found: dict[str, str] = {}
    output = run_after(account, lambda: found.update(delete_some(client)), **settings)
    for stream, source_id in found.items():
        schema = output.schemas[stream]
        [tombstone] = [row for row in gone(output, stream) if row["id"] == source_id]
        assert tombstone.keys() == schema["properties"].keys()
        jsonschema.validate(tombstone, schema)


@pytest.mark.parametrize("unix", [False, True])
@pytest.mark.parametrize("last", [{}, {"created": "?", "metadata": 1, "livemode": None}], ids=str)
@pytest.mark.parametrize("stream", DELETABLE, ids=lambda stream: stream.name)
def test_of_what_nothing_tells_a_tombstone_has_nulls_that_its_schema_allows(
    account: Emulator, stream: Any, unix: bool, last: dict[str, Any]
) -> None:
    config = config_of(account, timestamps="unix" if unix else "rfc3339")
    schema = read(config, stream.name).schemas[stream.name]
    recorder = Recorder(schema, account_id=None, unix=unix)
    tombstone = recorder.tombstone("x_1", stream.object_name, 60, last)
    jsonschema.validate(dict(tombstone), schema)


@pytest.mark.parametrize("version", ["2020-08-27", "2024-06-20"])
def test_a_last_event_of_another_version_fits_as_well(version: str) -> None:
    with Emulator(customers=12, account_api_version=version) as account:
        client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url})
        found: dict[str, str] = {}
        output = run_after(account, lambda: found.update(delete_some(client)))
    for stream in found:
        for tombstone in gone(output, stream):
            jsonschema.validate(tombstone, output.schemas[stream])


def test_a_tombstone_keeps_what_was_last_known(
    account: Emulator, client: stripe.StripeClient
) -> None:
    customer = client.v1.customers.create({"email": "a@example.com", "metadata": {"a": "1"}})
    output = run_after(account, lambda: client.v1.customers.delete(customer.id), "customers")
    [tombstone] = gone(output, "customers")
    assert (tombstone["email"], tombstone["metadata"]) == ("a@example.com", {"a": "1"})


def test_an_expanded_column_keeps_the_id(account: Emulator, client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"name": "Kept"}).id
    invoice = client.v1.invoices.create({"customer": customer}).id
    expand = {"invoices": ["customer"]}
    output = run_after(account, lambda: client.v1.invoices.delete(invoice), expand=expand)
    [tombstone] = gone(output, "invoices")
    assert tombstone["customer"] == {"id": customer}


def test_a_removed_item_keeps_what_was_last_known(
    account: Emulator, client: stripe.StripeClient
) -> None:
    found: dict[str, str] = {}
    output = run_after(account, lambda: found.update(delete_some(client)))
    [item] = gone(output, "subscription_items")
    assert (item["id"], item["quantity"]) == (found["subscription_items"], 2)


def test_a_stream_map_reads_a_tombstone(account: Emulator, client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"email": "a@example.com"}).id
    maps = {"customers": {"email_md5": "md5(email) if email else None", "email": None}}
    output = run_after(
        account, lambda: client.v1.customers.delete(customer), "customers", stream_maps=maps
    )
    [tombstone] = gone(output, "customers")
    assert tombstone["email_md5"] == hashlib.md5(b"a@example.com").hexdigest()
    assert "email" not in tombstone


@pytest.mark.parametrize("expression", ["md5(email)", "email[:3]", "1 / 0 if deleted else 1"])
def test_an_expression_that_fails_on_a_tombstone_stops_nothing(
    account: Emulator, client: stripe.StripeClient, expression: str
) -> None:
    customer = client.v1.customers.create({"name": "No email"}).id
    mapped = f"({expression}) if deleted else None"
    maps = {"customers": {"mapped": mapped, "upper": "name.upper()"}}
    output = run_after(account, lambda: client.v1.customers.delete(customer), stream_maps=maps)
    [tombstone] = gone(output, "customers")
    assert (tombstone["mapped"], tombstone["upper"]) == (None, "NO EMAIL")


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("email is not None", ["a@example.com"]),
        ("email.startswith('a')", ["a@example.com", None]),  # it fails on the second: let through
        ("record['email'] == 'a@example.com'", ["a@example.com"]),
        ("not deleted", []),
    ],
)
def test_a_filter_sees_what_was_last_known(
    account: Emulator, client: stripe.StripeClient, rule: str, kept: list[str | None]
) -> None:
    first = client.v1.customers.create({"email": "a@example.com"}).id
    second = client.v1.customers.create({"name": "No email"}).id

    def delete() -> None:
        client.v1.customers.delete(first)
        account.clock_advance(5)
        client.v1.customers.delete(second)

    maps = {"customers": {"__filter__": f"({rule}) if deleted else True"}}
    output = run_after(account, delete, "customers", stream_maps=maps)
    assert sorted([row["email"] for row in gone(output, "customers")], key=str) == sorted(
        kept, key=str
    )


def test_a_filter_on_what_nothing_tells_keeps_no_deletion_out() -> None:
    with Emulator(customers=12, account_api_version="2020-08-27") as account:
        client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url})
        customer = client.v1.customers.create({"name": "A"}).id
        config = config_of(account)
        state = read(config, "customers").state
        account.clock_advance(3_600)
        client.v1.customers.delete(customer)
        for rule, expected in (
            ("not deleted or name == 'B'", []),  # known, and it says no
            ("not deleted or business_name == 'B'", [customer]),  # not in that version
        ):
            settings = {"stream_maps": {"customers": {"__filter__": rule}}}
            output = read({**config, **settings}, "customers", state=state)
            assert [row["id"] for row in gone(output, "customers")] == expected


@pytest.mark.parametrize("level", [1, 3])
def test_a_tombstone_is_flattened(
    account: Emulator, client: stripe.StripeClient, level: int
) -> None:
    address: Any = {"city": "Ulm", "country": "DE"}
    customer = client.v1.customers.create({"name": "A", "address": address}).id
    output = run_after(
        account,
        lambda: client.v1.customers.delete(customer),
        "customers",
        flattening_enabled=True,
        flattening_max_depth=level,
    )
    [tombstone] = gone(output, "customers")
    assert tombstone["address__city"] == "Ulm"


def test_what_an_earlier_tap_would_have_left_out_is_not_named_as_news(
    account: Emulator, client: stripe.StripeClient, caplog: pytest.LogCaptureFixture
) -> None:
    run_after(account, lambda: delete_some(client))
    assert [r.message for r in caplog.records if "in the schema of API version" in r.message] == []


def test_the_schema_still_says_which_columns_are_keys(account: Emulator) -> None:
    schema = read(config_of(account), "customers").schemas["customers"]["properties"]
    assert schema["id"]["type"] == "string"
    assert schema["updated"]["type"] == "string"
    assert generated("customers")["properties"]["created"]["type"] == "string"
