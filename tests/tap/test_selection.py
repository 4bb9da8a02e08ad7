"""What users can choose: streams, properties, maps, times, expansions, accounts, a start."""

from __future__ import annotations

import copy
import json
from collections import Counter

import jsonschema
import pytest
from singer_sdk.helpers._catalog import pop_deselected_record_properties

from stripe_alloy.api.object_types import OBJECT_TYPES
from stripe_alloy.api.timestamps import unix_seconds
from stripe_alloy.emulator import Emulator
from tap_stripe_alloy.stream import _drop
from tap_stripe_alloy.tap import TapStripeAlloy
from tests.conftest import Command, Output, catalog_of, config_of, read
from tests.tap.histories import deselect


def validate(output: Output) -> None:
    for stream, records in output.records.items():
        validator = jsonschema.Draft7Validator(output.schemas[stream])
        for record in records:
            assert [error.message for error in validator.iter_errors(record)] == []


def test_only_selected_streams_are_asked_for(account: Emulator) -> None:
    output = read(config_of(account), "refunds")
    assert set(output.records) == {"refunds"}
    assert {request.path for request in account.requests} == {"/v1/refunds", "/v1/account"}


def test_deselected_properties_are_left_out(account: Emulator) -> None:
    config = config_of(account)
    catalog = catalog_of(config, "charges")
    deselect(deselect(catalog, "charges", "billing_details", "email"), "charges", "description")
    output = read(config, catalog=catalog)
    for record in output.records["charges"]:
        assert "description" not in record
        assert "email" not in record["billing_details"]
        assert "name" in record["billing_details"]


@pytest.mark.parametrize(
    "paths",
    [[], [("description",)], [("billing_details", "address"), ("metadata",), ("outcome",)]],
)
def test_leaving_out_does_what_the_sdk_does(
    business: Emulator, paths: list[tuple[str, ...]]
) -> None:
    config = config_of(business)
    catalog = catalog_of(config, "charges")
    for path in paths:
        deselect(catalog, "charges", *path)
    stream = TapStripeAlloy(config=config, catalog=catalog).streams["charges"]
    for source in business.objects("charge")[:50]:
        ours, stock = copy.deepcopy(source), copy.deepcopy(source)
        _drop(ours, stream.deselected)  # type: ignore[attr-defined]
        pop_deselected_record_properties(stock, stream.schema, stream.mask)
        assert ours == stock


def test_stream_maps_apply(account: Emulator) -> None:
    maps = {
        "charges": {"amount_eur": "record['amount'] / 100", "__else__": None, "id": "record['id']"},
        "customers": {"__alias__": "people", "email": None},
    }
    output = read(config_of(account, stream_maps=maps), "charges", "customers")
    assert set(output.records["charges"][0]) == {"id", "amount_eur"}
    assert "email" not in output.records["people"][0]


def test_what_a_child_leaves_out_stays_in_its_parent(account: Emulator) -> None:
    config = config_of(account)
    catalog = catalog_of(config, "subscriptions", "subscription_items")
    deselect(catalog, "subscription_items", "price", "currency")
    output = read(config, catalog=catalog)
    assert all("currency" not in item["price"] for item in output.records["subscription_items"])
    for record in output.records["subscriptions"]:
        assert all("currency" in item["price"] for item in record["items"]["data"])


def test_lists_inside_what_is_expanded_are_whole(business: Emulator) -> None:
    output = read(config_of(business, expand={"customers": ["subscriptions"]}), "customers")
    sizes = [
        len(subscription["items"]["data"])
        for record in output.records["customers"]
        for subscription in record["subscriptions"]["data"]
    ]
    assert max(sizes) == 15


def test_flattening_applies(account: Emulator) -> None:
    output = read(config_of(account, flattening_enabled=True, flattening_max_depth=1), "charges")
    assert "billing_details__email" in output.records["charges"][0]


def test_times_can_stay_unix_seconds(account: Emulator) -> None:
    output = read(config_of(account, timestamps="unix"))
    record = output.records["subscriptions"][0]
    item = record["items"]["data"][0]
    assert all(type(value) is int for value in (record["created"], record["updated"]))
    assert type(item["current_period_end"]) is int
    validate(output)


def test_times_are_converted_wherever_they_stand(business: Emulator) -> None:
    output = read(config_of(business), "subscriptions")
    source = {found["id"]: found for found in business.objects("subscription")}
    for record in output.records["subscriptions"]:
        raw = source[record["id"]]
        assert unix_seconds(record["created"]) == raw["created"]
        for item, before in zip(record["items"]["data"], raw["items"]["data"], strict=False):
            assert unix_seconds(item["current_period_end"]) == before["current_period_end"]


def test_an_expanded_field_holds_the_object_and_the_schema_says_so(account: Emulator) -> None:
    expand = {"charges": ["balance_transaction", "customer"], "prices": ["product", "tiers"]}
    output = read(config_of(account, expand=expand), "charges", "prices")
    charge = next(r for r in output.records["charges"] if r["balance_transaction"])
    assert charge["balance_transaction"]["object"] == "balance_transaction"
    assert charge["balance_transaction"]["created"].endswith("Z")
    assert all(record["product"]["object"] == "product" for record in output.records["prices"])
    assert "tiers" in output.records["prices"][0]
    properties = output.schemas["charges"]["properties"]
    assert properties["balance_transaction"]["type"] == ["object", "null"]
    validate(output)


def test_what_is_expanded_in_a_child_is_so_in_its_parent(account: Emulator) -> None:
    expand = {"subscription_items": ["discounts"]}
    output = read(config_of(account, expand=expand), "subscriptions", "subscription_items")
    parent = output.schemas["subscriptions"]["properties"]["items"]["properties"]["data"]
    assert parent["items"]["properties"]["discounts"]["items"]["type"] in (
        "object",
        ["object", "null"],
    )
    validate(output)


def test_objects_created_before_the_start_date_are_left_out(business: Emulator) -> None:
    start = "2026-06-01T00:00:00Z"
    output = read(config_of(business, start_date=start))
    for stream, object_name in (("charges", "charge"), ("payment_methods", "payment_method")):
        expected = [
            found["id"]
            for found in business.objects(object_name)
            if found["created"] >= unix_seconds(start)
        ]
        assert output.ids(stream) == Counter(expected)
        assert 0 < len(expected) < business.count(object_name)


def test_connected_accounts_are_read_side_by_side() -> None:
    with Emulator(customers=10, accounts=2) as emulator:
        connected = [found for found in emulator.account_ids if found != emulator.account_id]
        output = read(config_of(emulator, account_ids=["all"]))
        by_account = Counter(record["_account_id"] for record in output.records["charges"])
        assert by_account == {found: emulator.count("charge", found) for found in connected}
        again = read(config_of(emulator, account_ids=["all"]), state=output.state)
        assert again.records == {}
        contexts = output.state["bookmarks"]["charges"]["partitions"]
        assert {row["context"]["_account_id"] for row in contexts} == set(connected)


def test_named_accounts_only_are_read() -> None:
    with Emulator(customers=10, accounts=2) as emulator:
        last = emulator.account_ids[-1]
        output = read(config_of(emulator, account_ids=[last]), "customers")
        assert output.ids("customers") == Counter(emulator.ids("customer", last))


def test_another_version_is_asked_for_and_warned_of(
    account: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    read(config_of(account, api_version="2025-03-31.basil"), "products")
    assert {request.stripe_version for request in account.requests} == {"2025-03-31.basil"}
    assert "fields may differ" in caplog.text


def test_full_table_lists_everything_each_time(account: Emulator) -> None:
    config = config_of(account)
    catalog = catalog_of(config, "products")
    entry = next(row for row in catalog["streams"] if row["tap_stream_id"] == "products")
    entry["replication_method"] = "FULL_TABLE"
    first = read(config, catalog=catalog)
    second = read(config, catalog=catalog, state=first.state)
    assert first.ids("products") == second.ids("products") == Counter(account.ids("product"))


def test_discovery_needs_no_network_and_no_key(command: Command) -> None:
    code, out, _ = command.text("--discover", config={"api_url": "http://127.0.0.1:9"})
    catalog = json.loads(out)
    assert code == 0
    assert len(catalog["streams"]) == len(OBJECT_TYPES)
    for entry in catalog["streams"]:
        assert entry["key_properties"] == ["id"]
        assert entry["replication_key"] in ("updated", "created")


def test_the_check_says_what_the_key_may_read(account: Emulator, command: Command) -> None:
    account.keys.add("rk_test_two", {"product": "read", "price": "read"})
    code, out, _ = command.text("--test", config=config_of(account, api_key="rk_test_two"))
    lines = dict(line.split(None, 1) for line in out.splitlines())
    assert code == 1
    assert lines["products"] == lines["prices"] == "ok"
    assert "Customers: read" in lines["customers"]
    assert "rak_customer_read" in lines["customers"]


def test_the_check_knows_that_payment_methods_can_be_read_by_customer(
    command: Command,
) -> None:
    with Emulator(customers=5, unscoped_payment_methods="refuse") as emulator:
        code, out, _ = command.text("--test", config=config_of(emulator))
        assert code == 0
        assert out.count("ok") == 15


def test_the_check_passes_with_a_key_that_may_read_all(account: Emulator, command: Command) -> None:
    code, out, _ = command.text("--test", config=config_of(account))
    assert code == 0
    assert out.count("ok") == 15


def test_the_embedded_emulator_needs_nothing_but_its_name(command: Command) -> None:
    run = command.run(config={"api_key": "emulator"})
    assert run.exit_code == 0
    assert len(run.records) == 15


def test_select_reads_only_the_streams_it_names(command: Command, account: Emulator) -> None:
    output = command.run("--select", "refunds, disputes", config=config_of(account))
    assert set(output.schemas) == {"refunds", "disputes"}
    assert set(output.records) == {"refunds", "disputes"}


def test_select_goes_before_what_a_catalog_selects(command: Command, account: Emulator) -> None:
    config = config_of(account)
    options = ("--select", "refunds")
    output = command.run(*options, config=config, catalog=catalog_of(config, "disputes"))
    assert set(output.records) == {"refunds"}


def test_discovery_selects_in_the_catalog_what_is_named(
    command: Command, account: Emulator
) -> None:
    code, out, _ = command.text("--discover", "--select", "prices", config=config_of(account))
    catalog = json.loads(out)
    assert code == 0
    output = command.run(config=config_of(account), catalog=catalog)
    assert set(output.records) == {"prices"}


@pytest.mark.parametrize(
    ("named", "hint"), [("custmers", "Did you mean 'customers'?"), ("", "Streams: customers, ")]
)
def test_a_stream_that_there_is_not_is_named(
    command: Command, account: Emulator, named: str, hint: str
) -> None:
    code, _, log = command.text("--select", named, config=config_of(account))
    assert code == 1
    assert f"--select: there is no stream {named!r}" in log
    assert hint in log
    assert "Traceback" not in log
    assert account.requests == []


def test_what_an_event_is_about_comes_as_stripe_rendered_it(account: Emulator) -> None:
    """It may be of any API version, so its times stay Unix seconds; the column says so."""
    output = read(config_of(account), "events")
    event = output.records["events"][0]
    assert event["created"].endswith("Z")
    assert type(event["data"]["object"]["created"]) is int
    description = output.schemas["events"]["properties"]["data"]["description"]
    assert "Unix seconds" in description
