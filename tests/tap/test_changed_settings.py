"""A setting that changes what rows hold makes the rows that are there be listed once more."""

from __future__ import annotations

import copy
import json
from collections import Counter
from typing import Any

import pytest
import stripe

from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND
from stripe_alloy.api.timestamps import unix_seconds
from stripe_alloy.emulator import Emulator
from tap_stripe_alloy import tap
from tests.conftest import Output, catalog_of, config_of, read
from tests.tap.histories import Destination, deselect

DAY = 86_400


def again(
    emulator: Emulator, first: dict[str, Any], second: dict[str, Any], *streams: str
) -> tuple[Output, Output]:
    one = read(config_of(emulator, **first), *streams)
    two = read(config_of(emulator, **second), *streams, state=one.state)
    return one, two


@pytest.mark.parametrize(
    "change",
    [
        {"expand": {"charges": ["balance_transaction"]}},
        {"timestamps": "unix"},
        {"api_version": "2025-03-31.basil"},
        {"stream_maps": {"charges": {"note": "'new'"}}},
        {"stream_maps": {"ch*": {"note": "'new'"}}},
        {"flattening_enabled": True, "flattening_max_depth": 1},
    ],
)
def test_a_changed_setting_lists_again(account: Emulator, change: dict[str, Any]) -> None:
    one, two = again(account, {}, change, "charges")
    assert two.ids("charges") == one.ids("charges")
    three = read(config_of(account, **change), "charges", state=two.state)
    assert three.records == {}


@pytest.mark.parametrize("change", [{"timestamps": "unix"}, {"stream_maps": {"*": {"n": "1"}}}])
def test_every_stream_is_listed_again(account: Emulator, change: dict[str, Any]) -> None:
    one, two = again(account, {}, change)
    assert {name: two.ids(name) for name in two.records} == {
        name: one.ids(name) for name in one.records
    }


def test_the_log_says_why(account: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    again(account, {}, {"expand": {"charges": ["customer"]}}, "charges")
    assert "charges is listed again: `expand` was empty and is now customer" in caplog.text


def test_only_what_the_setting_concerns_is_listed(account: Emulator) -> None:
    _, two = again(account, {}, {"expand": {"charges": ["balance_transaction"]}})
    assert set(two.records) == {"charges"}


def test_what_is_expanded_in_a_child_lists_its_parent_too(account: Emulator) -> None:
    _, two = again(account, {}, {"expand": {"subscription_items": ["discounts"]}})
    assert set(two.records) == {"subscriptions", "subscription_items"}


def test_settings_that_shape_no_rows_list_nothing(account: Emulator) -> None:
    change = {"max_concurrency": 2, "max_requests_per_second": 5_000}
    assert again(account, {}, change)[1].records == {}


def test_a_property_selected_later_comes_for_all_rows(account: Emulator) -> None:
    config = config_of(account)
    catalog = catalog_of(config, "charges", "customers")
    less = deselect(copy.deepcopy(catalog), "charges", "billing_details", "email")
    one = read(config, catalog=less)
    two = read(config, catalog=catalog, state=one.state)
    assert two.ids("charges") == one.ids("charges")
    assert "customers" not in two.records
    assert read(config, catalog=less, state=two.state).records == {}


def test_an_earlier_start_date_reads_the_gap(business: Emulator) -> None:
    early, late = "2026-03-01T00:00:00Z", "2026-06-01T00:00:00Z"
    one, two = again(business, {"start_date": late}, {"start_date": early})
    for stream in ("charges", "customers", "invoices", "payment_methods", "balance_transactions"):
        created = [unix_seconds(record["created"]) for record in two.records[stream]]
        assert unix_seconds(early) <= min(created)
        assert max(created) < unix_seconds(late)
    whole = read(config_of(business, start_date=early))
    for stream in whole.records:
        if stream != "events":
            assert one.ids(stream) + two.ids(stream) == whole.ids(stream), stream


def test_a_later_start_date_reads_nothing_and_costs_nothing_later(account: Emulator) -> None:
    early, late = {"start_date": "2026-03-01"}, {"start_date": "2026-06-01"}
    _, two = again(account, early, late)
    assert two.records == {}
    assert read(config_of(account, **early), state=two.state).records == {}


@pytest.mark.parametrize(
    "stream", ["charges", "customers", "invoices", "payment_methods", "prices", "products"]
)
def test_a_later_start_date_takes_nothing_from_what_is_still_to_be_listed_again(
    account: Emulator, stream: str
) -> None:
    one = read(config_of(account), stream)
    state = copy.deepcopy(one.state)
    mark = state["bookmarks"][stream]
    mark["again"] = {"missing": [[0, NO_UPPER_BOUND, None]]}
    two = read(config_of(account, start_date="2099-01-01"), stream, state=state)
    assert two.ids(stream) == one.ids(stream)


@pytest.mark.parametrize("stream", ["prices", "payment_methods", "customers"])
def test_a_later_start_date_takes_nothing_from_a_backfill_that_was_begun(
    account: Emulator, stream: str
) -> None:
    one = read(config_of(account), stream)
    state = copy.deepcopy(one.state)
    mark = state["bookmarks"][stream]
    anchor = mark.pop("replication_key_value")
    mark["backfill"] = {"anchor": anchor, "missing": [[0, NO_UPPER_BOUND, None]]}
    two = read(config_of(account, start_date="2099-01-01"), stream, state=state)
    assert two.ids(stream) == one.ids(stream)


def test_what_is_on_test_clocks_goes_as_far_back_as_the_rest(account: Emulator) -> None:
    one = read(config_of(account), "customers")
    settings = {"include_test_clocks": True, "start_date": "2099-01-01"}
    two = read(config_of(account, **settings), "customers", state=one.state)
    settings.pop("start_date")
    three = read(config_of(account, **settings), "customers", state=two.state)
    whole = read(config_of(account, **settings), "customers")
    assert one.ids("customers") + two.ids("customers") == whole.ids("customers")
    assert three.records == {}


def test_a_state_of_before_is_taken_as_it_is(account: Emulator) -> None:
    one = read(config_of(account), "charges")
    mark = one.state["bookmarks"]["charges"]
    for name in ("shape", "shapes"):
        del mark[name]
    two = read(config_of(account, expand={"charges": ["customer"]}), "charges", state=one.state)
    assert two.records == {}


def test_changes_go_on_while_it_is_listed_again(
    account: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut anywhere, with a change and a deletion meanwhile: the next runs bring all of it."""
    monkeypatch.setattr(tap, "STATE_EVERY_RECORDS", 1)
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url}).v1
    for _ in range(120):
        client.customers.create({"name": "One of many"})
    first = read(config_of(account), "customers")
    config = config_of(account, expand={"customers": ["tax_ids"]})
    account.clock_advance(600)
    whole = read(config, "customers", state=first.state)
    cuts = [n for n, m in enumerate(whole.messages) if m["type"] == "STATE"]
    assert len(cuts) > 2
    for number in cuts:
        destination = Destination()
        destination.take(first.messages)
        destination.take(whole.messages[: number + 1])
        gone, changed = account.ids("customer")[-2:]
        client.customers.delete(gone)
        client.customers.update(changed, {"name": f"Changed {number}"})
        account.clock_advance(600)
        for _ in range(2):
            destination.take(read(config, "customers", state=destination.state).messages)
        rows = destination.of("customers")
        assert set(rows) == set(account.ids("customer"))
        assert rows[changed]["name"] == f"Changed {number}"
        assert all("tax_ids" in row for row in rows.values())


def test_a_change_amid_a_backfill_begins_the_list_again(
    account: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap, "STATE_EVERY_RECORDS", 1)
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url}).v1
    for _ in range(120):
        client.customers.create({"name": "One of many"})
    whole = read(config_of(account), "customers")
    cut = next(
        m["value"]
        for m in whole.messages
        if m["type"] == "STATE" and m["value"]["bookmarks"]["customers"].get("backfill")
    )
    two = read(config_of(account, expand={"customers": ["tax_ids"]}), "customers", state=cut)
    assert two.ids("customers") == Counter(account.ids("customer"))


def test_rows_of_a_later_listing_are_newer_than_their_changes(account: Emulator) -> None:
    config = config_of(account)
    first = read(config, "customers")
    account.clock_advance(3_600)
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url}).v1
    changed = account.ids("customer")[0]
    client.customers.update(changed, {"name": "Changed"})
    account.clock_advance(600)
    second = read(config, "customers", state=first.state)
    third = read({**config, "expand": {"customers": ["tax_ids"]}}, "customers", state=second.state)
    [before] = [r["updated"] for r in second.records["customers"] if r["id"] == changed]
    [after] = [r["updated"] for r in third.records["customers"] if r["id"] == changed]
    assert after >= before


def test_what_was_deleted_before_the_change_goes(account: Emulator) -> None:
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url}).v1
    gone = client.customers.create({"name": "Goes"}).id
    destination = Destination()
    destination.take(read(config_of(account)).messages)
    account.clock_advance(3_600)
    client.customers.delete(gone)
    config = config_of(account, api_version="2025-03-31.basil")
    destination.take(read(config, state=destination.state).messages)
    assert gone not in destination.of("customers")


def test_a_pause_and_a_change_list_once(account: Emulator) -> None:
    destination = Destination()
    destination.take(read(config_of(account)).messages)
    account.clock_advance(45 * DAY)
    config = config_of(account, expand={"customers": ["tax_ids"]})
    output = read(config, state=destination.state)
    destination.take(output.messages)
    assert max(output.ids("customers").values()) == 1
    assert read(config, state=json.loads(json.dumps(destination.state))).records == {}


def test_what_is_on_test_clocks_is_listed_again_with_the_rest(account: Emulator) -> None:
    settings = {"include_test_clocks": True}
    change = {"expand": {"customers": ["tax_ids"]}}
    one, two = again(account, settings, {**settings, **change}, "customers")
    assert set(one.ids("customers")) == set(account.ids("customer", everything=True))
    assert set(account.ids("customer", everything=True)) > set(account.ids("customer"))
    assert two.ids("customers") == one.ids("customers")


def test_accounts_have_settings_of_their_own() -> None:
    with Emulator(customers=3, accounts=2) as emulator:
        a, b = emulator.account_ids
        destination = Destination()
        change = {"expand": {"customers": ["tax_ids"]}}
        for accounts, settings in (([a, b], {}), ([a], change), ([a, b], change)):
            output = read(
                config_of(emulator, account_ids=accounts, **settings),
                "customers",
                state=destination.state,
            )
            destination.take(output.messages)
        assert set(output.ids("customers")) == set(emulator.ids("customer", b))
        assert all("tax_ids" in row for row in destination.of("customers").values())
