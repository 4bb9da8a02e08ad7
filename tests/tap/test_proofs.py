"""The destination equals Stripe, whatever happens, whenever a run is cut, however long a pause."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import stripe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stripe_alloy.api import client as transport
from stripe_alloy.emulator import Emulator
from tap_stripe_alloy import tap
from tests.conftest import Output, catalog_of, config_of, read
from tests.tap.histories import (
    DAY,
    PAUSES,
    ChangingSettings,
    Destination,
    History,
    but_for_what_no_list_tells,
    cut,
    differences,
    trouble,
)


def client_of(emulator: Emulator) -> stripe.StripeClient:
    return stripe.StripeClient(emulator.api_key, base_addresses={"api": emulator.url})


def run(destination: Destination, config: dict[str, Any]) -> Output:
    output = read(config, state=destination.state)
    destination.take(output.messages)
    return output


def test_an_update_on_a_row_already_read_during_the_backfill(account: Emulator) -> None:
    """It is in the next run. One on a row not yet read does not come with two contents."""
    client = client_of(account)
    customers = account.ids("customer")
    whole = read(config_of(account), "charges", "customers")
    destination = Destination()
    states = [n for n, m in enumerate(whole.messages) if m["type"] == "STATE"]
    destination.take(whole.messages[: states[0] + 1])
    client.v1.customers.update(customers[0], {"name": "Read already, or not"})
    client.v1.charges.update(account.ids("charge")[-1], {"metadata": {"a": "b"}})
    first = read(config_of(account), "charges", "customers", state=destination.state)
    destination.take(first.messages)
    second = read(config_of(account), "charges", "customers", state=destination.state)
    destination.take(second.messages)
    assert destination.of("customers")[customers[0]]["name"] == "Read already, or not"
    assert destination.of("charges")[account.ids("charge")[-1]]["metadata"] == {"a": "b"}
    names = {
        record["name"]
        for output in (first, second)
        for record in output.records.get("customers", [])
        if record["id"] == customers[0]
    }
    assert names == {"Read already, or not"}


def test_an_event_at_another_version_is_not_used() -> None:
    with Emulator(customers=5, account_api_version="2020-08-27") as emulator:
        config = config_of(emulator)
        first = read(config)
        emulator.clock_advance(3_600)
        subscription = emulator.ids("subscription")[0]
        client_of(emulator).v1.subscriptions.update(subscription, {"metadata": {"a": "b"}})
        event = emulator.objects("event")[0]
        assert event["api_version"] == "2020-08-27"
        output = read(config, state=first.state)
        [record] = [r for r in output.records["subscriptions"] if r["id"] == subscription]
        before = next(r for r in first.records["subscriptions"] if r["id"] == subscription)
        assert record.keys() == before.keys()
        assert record["metadata"]["a"] == "b"
        assert event["data"]["object"].keys() != before.keys() - {"updated", "deleted"}


def test_an_event_that_shows_late_is_caught_by_the_next_run(account: Emulator) -> None:
    destination, config = Destination(), config_of(account)
    run(destination, config)
    account.clock_advance(3_600)
    client = client_of(account)
    late, early = account.ids("customer")[:2]
    account.faults.add("late_events", seconds=90)
    client.v1.customers.update(late, {"name": "Late"})
    assert run(destination, config).records == {}
    account.clock_advance(60)
    client.v1.customers.update(early, {"name": "Newer, and seen first"})
    account.faults.clear()
    account.faults.add("late_events", seconds=0)
    run(destination, config)
    account.clock_advance(90)
    run(destination, config)
    names = {key: row["name"] for key, row in destination.of("customers").items()}
    assert (names[late], names[early]) == ("Late", "Newer, and seen first")


def test_what_is_gone_is_buried_and_what_is_not_is_updated(account: Emulator) -> None:
    destination, config = Destination(), config_of(account)
    client = client_of(account).v1
    customer = client.customers.create({"name": "Goes"}).id
    product = client.products.create({"name": "Goes"}).id
    other = account.ids("customer")[1]
    draft = client.invoices.create({"customer": other, "currency": "usd"}).id
    kept = client.invoices.create({"customer": other, "currency": "usd"}).id
    lines = [
        client.invoice_items.create(
            {"customer": other, "invoice": invoice, "amount": 100, "currency": "usd"}
        ).id
        for invoice in (draft, draft, kept, kept)
    ]
    run(destination, config)
    account.clock_advance(3_600)
    several = next(s for s in account.objects("subscription") if len(s["items"]["data"]) > 1)
    item = several["items"]["data"][0]["id"]
    active = next(
        s
        for s in account.objects("subscription")
        if s["status"] == "active" and s["id"] != several["id"]
    )
    method = next(m for m in account.objects("payment_method") if m["customer"])
    price = next(p["id"] for p in account.objects("price") if p["id"] not in used_prices(account))
    client.customers.delete(customer)
    client.products.delete(product)
    account.delete("price", price)
    client.invoices.delete(draft)
    client.invoice_items.delete(lines[2])
    client.subscription_items.delete(item)
    client.subscriptions.cancel(active["id"])
    client.payment_methods.detach(method["id"])
    gone_lines = set(destination.of("invoice_line_items"))
    output = run(destination, config)
    buried = {
        stream: {record["id"] for record in records if record["deleted"]}
        for stream, records in output.records.items()
    }
    assert buried["customers"] == {customer}
    assert buried["products"] == {product}
    assert buried["prices"] == {price}
    assert buried["invoices"] == {draft}
    assert len(buried["invoice_line_items"]) == 3
    assert buried["invoice_line_items"] <= gone_lines
    assert buried["subscription_items"] == {item}
    assert buried["subscriptions"] == buried["payment_methods"] == set()
    assert destination.of("subscriptions")[active["id"]]["status"] == "canceled"
    assert destination.of("payment_methods")[method["id"]]["customer"] is None
    for records in output.records.values():
        for record in records:
            assert record["deleted"] == ("_sdc_deleted_at" in record)
    assert differences(destination, account, [account.account_id]) == {}


def used_prices(account: Emulator) -> set[str]:
    return {item["price"]["id"] for item in account.objects("subscription_item")}


def test_an_invoice_with_forty_lines_changes(account: Emulator) -> None:
    client = client_of(account).v1
    customer = account.ids("customer")[0]
    invoice = client.invoices.create({"customer": customer, "currency": "usd"}).id
    for number in range(40):
        client.invoice_items.create(
            {"customer": customer, "invoice": invoice, "amount": number, "currency": "usd"}
        )
    destination, config = Destination(), config_of(account)
    run(destination, config)
    account.clock_advance(3_600)
    client.invoices.update(invoice, {"metadata": {"a": "b"}})
    output = run(destination, config)
    assert output.ids("invoice_line_items").total() == 40
    assert len(output.records["invoices"][0]["lines"]["data"]) == 40


def test_a_refund_comes_out_of_refunds_only(account: Emulator) -> None:
    destination, config = Destination(), config_of(account)
    run(destination, config)
    account.clock_advance(3_600)
    charge = next(c for c in account.objects("charge") if c["paid"] and not c["refunded"])
    client_of(account).v1.refunds.create({"charge": charge["id"], "amount": 1})
    output = run(destination, config)
    assert {record["object"] for record in output.records["charges"]} == {"charge"}
    assert output.ids("refunds").total() == 1


def test_forty_five_days_without_a_run(account: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    destination, config = Destination(), config_of(account)
    client = client_of(account).v1
    gone = client.customers.create({"name": "Goes unseen"}).id
    run(destination, config)
    client.customers.delete(gone)
    account.clock_advance(45 * DAY)
    client.customers.update(account.ids("customer")[0], {"name": "After the pause"})
    account.clock_advance(900)
    output = run(destination, config)
    assert gone not in destination.of("customers")
    assert differences(destination, account, [account.account_id]) == {}
    activated = {m["stream"] for m in output.messages if m["type"] == "ACTIVATE_VERSION"}
    assert "customers" in activated
    assert "events" not in activated
    assert "longer than Stripe keeps events" in caplog.text
    assert "ACTIVATE_VERSION then lets the target remove rows" in caplog.text
    assert run(destination, config).records == {}


def test_a_pause_that_only_one_stream_had_lists_only_that(account: Emulator) -> None:
    config = config_of(account)
    first = read(config, "customers", "products")
    account.clock_advance(20 * DAY)
    second = read(config, "customers", state=first.state)
    account.clock_advance(20 * DAY)
    third = read(config, "customers", "products", state=second.state)
    assert third.ids("products") == Counter(account.ids("product"))
    assert "customers" not in third.records


@pytest.fixture
def many_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap, "STATE_EVERY_RECORDS", 50)


@pytest.mark.usefixtures("many_states")
def test_a_backfill_resumed_after_a_month_starts_over(account: Emulator) -> None:
    destination, config = Destination(), config_of(account)
    whole = read(config)
    states = [n for n, m in enumerate(whole.messages) if m["type"] == "STATE"]
    destination.take(whole.messages[: states[1] + 1])
    for customer in account.ids("customer")[:3]:
        client_of(account).v1.customers.update(customer, {"name": "Unseen"})
    account.clock_advance(45 * DAY)
    run(destination, config)
    assert differences(destination, account, [account.account_id]) == {}


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("clocks", [False, True])
def test_what_was_deleted_after_a_month_old_attempt_at_a_backfill_goes(
    account: Emulator, monkeypatch: pytest.MonkeyPatch, clocks: bool
) -> None:
    """Wherever the attempt was cut: the rows it left are of a version that is gone."""
    monkeypatch.setattr(tap, "STATE_EVERY_RECORDS", 1)
    config = config_of(account, include_test_clocks=clocks)
    client = client_of(account).v1
    for number in range(0, 30, 3):
        gone = client.customers.create({"name": "Goes unseen"}).id
        destination = Destination()
        destination.take(read(config, "customers").messages[:number])
        client.customers.delete(gone)
        account.clock_advance(45 * DAY)
        for _ in "listed", "walked":
            output = read(config, "customers", state=destination.state)
            destination.take(output.messages)
        there = set(account.ids("customer", everything=clocks))
        assert set(destination.of("customers")) == there


@pytest.mark.usefixtures("many_states")
def test_cut_at_every_state_and_resumed(account: Emulator) -> None:
    """The updates happen in the pause, so each resumed run has to catch up with them."""
    config = config_of(account)
    whole = read(config)
    cuts = [n for n, m in enumerate(whole.messages) if m["type"] == "STATE"]
    assert len(cuts) > 4
    rng = random.Random(8)
    history = History(account, rng, account.account_id)
    for number in cuts:
        destination = Destination()
        destination.take(whole.messages[: number + 1])
        account.clock_advance(60)
        for _ in range(3):
            history.happen()
        run(destination, config)
        run(destination, config)
        assert differences(destination, account, [account.account_id]) == {}


def test_full_table_lists_everything_every_time(account: Emulator) -> None:
    config = config_of(account)
    catalog = catalog_of(config, "products", "customers")
    for entry in catalog["streams"]:
        if entry["tap_stream_id"] == "products":
            entry["replication_method"] = "FULL_TABLE"
            root = next(row for row in entry["metadata"] if not row["breadcrumb"])
            root["metadata"]["forced-replication-method"] = "FULL_TABLE"
    destination = Destination()
    extra = client_of(account).v1.products.create({"name": "Goes"}).id
    first = read(config, catalog=catalog)
    destination.take(first.messages)
    client_of(account).v1.products.delete(extra)
    second = read(config, catalog=catalog, state=first.state)
    destination.take(second.messages)
    assert second.ids("products") == Counter(account.ids("product"))
    assert second.ids("customers").total() == 0
    assert [m["stream"] for m in second.messages if m["type"] == "ACTIVATE_VERSION"] == ["products"]
    assert set(destination.of("products")) == set(account.ids("product"))


def test_payment_intents_of_the_last_days_are_read_again(account: Emulator) -> None:
    config = config_of(account, relist_days=400)
    first = read(config, "payment_intents", "customers")
    intent = account.ids("payment_intent")[0]
    client_of(account).v1.payment_intents.update(intent, {"metadata": {"a": "b"}})
    without = read({**config, "relist_days": 0}, "payment_intents", state=first.state)
    assert "payment_intents" not in without.records
    again = read(config, "payment_intents", "customers", state=without.state)
    [record] = [r for r in again.records["payment_intents"] if r["id"] == intent]
    assert record["metadata"] == {"a": "b"}
    assert again.ids("payment_intents").most_common(1)[0][1] == 1


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32), pauses=st.lists(st.sampled_from("smhdl"), max_size=6))
def test_any_history_ends_with_the_destination_equal_to_stripe(
    monkeypatch: pytest.MonkeyPatch, seed: int, pauses: list[str]
) -> None:
    """Creates, updates, deletes in several accounts; runs cut at random; faults and late events."""
    monkeypatch.setattr(transport, "BASE_DELAY", 0.001)
    rng = random.Random(seed)
    with Emulator(seed=seed % 5, customers=3, accounts=1) as emulator:
        accounts = [emulator.account_id, *emulator.account_ids]
        config = config_of(emulator, account_ids=[*accounts])
        histories = [History(emulator, rng, account) for account in accounts]
        destination = Destination()
        for pause in pauses:
            for _ in range(rng.randrange(6)):
                rng.choice(histories).happen()
                emulator.clock_advance(rng.choice([0, 0, 1, 30]))
            trouble(emulator, rng)
            output = read(config, state=destination.state)
            destination.take(cut(output, rng) if rng.random() < 0.5 else output.messages)
            emulator.faults.clear()
            emulator.clock_advance(PAUSES[pause])
        emulator.clock_advance(120)
        run(destination, config)
        run(destination, config)
        assert run(destination, config).records == {}
        found = differences(destination, emulator, accounts)
        assert (but_for_what_no_list_tells(found) if "l" in pauses else found) == {}


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32), runs=st.integers(1, 6))
def test_any_history_of_settings_ends_with_the_destination_equal_to_stripe(
    monkeypatch: pytest.MonkeyPatch, seed: int, runs: int
) -> None:
    """Settings that shape rows change, accounts come and go, keys of the other mode are tried."""
    monkeypatch.setattr(transport, "BASE_DELAY", 0.001)
    assert ChangingSettings(seed).run(runs) == {}
