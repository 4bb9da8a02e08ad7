"""Changes over HTTP: updates, deletions, retrievals, and nothing when nothing happened."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import stripe

from stripe_alloy.api.object_types import BY_NAME
from stripe_alloy.api.timestamps import rfc3339, unix_seconds
from stripe_alloy.emulator import Emulator
from tests.conftest import Command, config_of, read
from tests.tap.test_odd_values import edit


@pytest.fixture
def client(account: Emulator) -> stripe.StripeClient:
    return stripe.StripeClient(account.api_key, base_addresses={"api": account.url})


def run_after(account: Emulator, change: Any, **settings: Any) -> Any:
    """What a second run brings after a change."""
    config = config_of(account, **settings)
    first = read(config)
    account.clock_advance(3_600)
    change()
    return read(config, state=first.state)


def test_an_update_comes_with_the_next_run(account: Emulator, client: stripe.StripeClient) -> None:
    customer = account.ids("customer")[0]
    output = run_after(account, lambda: client.v1.customers.update(customer, {"name": "New"}))
    assert [(r["id"], r["name"]) for r in output.records["customers"]] == [(customer, "New")]
    assert output.records["customers"][0]["deleted"] is False


def test_a_creation_comes_with_the_next_run(account: Emulator, client: stripe.StripeClient) -> None:
    output = run_after(account, lambda: client.v1.customers.create({"name": "Late"}))
    assert [record["name"] for record in output.records["customers"]] == ["Late"]


def test_a_deletion_leaves_a_tombstone(account: Emulator, client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"name": "Gone"}).id
    output = run_after(account, lambda: client.v1.customers.delete(customer))
    tombstone = output.records["customers"][-1]
    assert (tombstone["id"], tombstone["deleted"]) == (customer, True)
    assert tombstone["_sdc_deleted_at"] == tombstone["updated"]


def test_three_updates_in_one_second_end_at_the_last(
    account: Emulator, client: stripe.StripeClient
) -> None:
    customer = account.ids("customer")[0]

    def change() -> None:
        for name in ("A", "B", "C"):
            client.v1.customers.update(customer, {"name": name})

    output = run_after(account, change)
    assert [record["name"] for record in output.records["customers"]] == ["C"]


def test_with_expansions_a_changed_object_is_retrieved(
    account: Emulator, client: stripe.StripeClient
) -> None:
    price = account.ids("price")[0]
    output = run_after(
        account,
        lambda: client.v1.prices.update(price, {"nickname": "N"}),
        expand={"prices": ["product"]},
    )
    record = next(record for record in output.records["prices"] if record["id"] == price)
    assert record["product"]["object"] == "product"


@pytest.mark.parametrize(
    ("stream", "path"),
    [
        ("charges", "customer"),
        ("customers", "default_source"),
        ("invoices", "customer"),
        ("payment_intents", "latest_charge"),
        ("payment_methods", "customer"),
        ("refunds", "charge"),
        ("subscriptions", "latest_invoice"),
    ],
)
def test_what_is_expanded_may_hold_lists_that_an_event_does_not_show(
    account: Emulator, client: stripe.StripeClient, stream: str, path: str
) -> None:
    api: Any = client.v1
    changed = next(
        found
        for found in account.objects(BY_NAME[stream].object_name)
        if found[path] or stream == "customers"
    )
    output = run_after(
        account,
        lambda: getattr(api, stream).update(changed["id"], {"metadata": {"a": "b"}}),
        expand={stream: [path]},
        relist_days=400,
    )
    [record] = [record for record in output.records[stream] if record["id"] == changed["id"]]
    assert record["metadata"]["a"] == "b"
    assert isinstance(record[path], dict) == bool(changed[path])


def test_a_change_that_cannot_be_used_as_it_is_brings_its_children_too(
    account: Emulator, client: stripe.StripeClient
) -> None:
    subscription = next(
        found for found in account.objects("subscription") if found["status"] == "active"
    )
    output = run_after(
        account,
        lambda: client.v1.subscriptions.update(subscription["id"], {"metadata": {"a": "b"}}),
    )
    items = {record["id"] for record in output.records["subscription_items"]}
    assert items == set(account_items(account, subscription["id"]))


def account_items(account: Emulator, subscription: str) -> list[str]:
    return [
        found["id"]
        for found in account.objects("subscription_item")
        if found["subscription"] == subscription
    ]


def test_nothing_changed_is_one_request_for_events_and_the_same_state(
    account: Emulator,
) -> None:
    config = config_of(account)
    first = read(config)
    since = len(account.requests)
    second = read(config, state=first.state)
    assert second.records == {}
    assert second.state == first.state
    paths = Counter(request.path for request in account.requests[since:])
    assert paths == {"/v1/events": 1}


def test_streams_that_began_a_second_apart_are_quiet_together(account: Emulator) -> None:
    config = config_of(account)
    state = read(config).state
    movements = state["bookmarks"]["balance_transactions"]
    begun = unix_seconds(movements["replication_key_value"])
    movements["replication_key_value"] = rfc3339(begun - 1)
    since = len(account.requests)
    second = read(config, state=copy.deepcopy(state))
    assert [request.path for request in account.requests[since:]] == ["/v1/events"]
    assert second.state["bookmarks"]["balance_transactions"] == movements


def test_a_run_that_follows_a_change_is_quiet_again(
    account: Emulator, client: stripe.StripeClient
) -> None:
    config = config_of(account)
    first = read(config)
    client.v1.customers.update(account.ids("customer")[0], {"name": "New"})
    second = read(config, state=first.state)
    third = read(config, state=second.state)
    assert second.ids("customers").total() == 1
    assert third.records == {}
    assert third.state == second.state


def test_a_change_while_a_stream_was_deselected_comes_once_it_is_back(
    account: Emulator, client: stripe.StripeClient
) -> None:
    config = config_of(account)
    first = read(config, "customers", "products")
    account.clock_advance(3_600)
    product = account.ids("product")[0]
    client.v1.products.update(product, {"name": "New"})
    without = read(config, "customers", state=first.state)
    with_it = read(config, "customers", "products", state=without.state)
    assert [record["name"] for record in with_it.records["products"]] == ["New"]


def test_a_change_that_was_denied_comes_once_it_is_allowed(
    account: Emulator, client: stripe.StripeClient, command: Command
) -> None:
    config = config_of(account, expand={"products": ["default_price"]})
    first = read(config)
    account.clock_advance(3_600)
    product = account.ids("product")[0]
    client.v1.products.update(product, {"name": "New"})
    account.faults.add("status", f"/v1/products/{product}", status=403)
    denied = command.run(config=config, state=first.state)
    allowed = read(config, state=denied.state)
    assert denied.exit_code == 1
    assert denied.state["bookmarks"]["products"] == first.state["bookmarks"]["products"]
    assert denied.state["bookmarks"]["customers"] != first.state["bookmarks"]["customers"]
    assert [record["name"] for record in allowed.records["products"]] == ["New"]


def test_an_event_is_the_same_whether_or_not_its_object_is_read(
    account: Emulator, client: stripe.StripeClient
) -> None:
    config = config_of(account)
    first = read(config)
    account.clock_advance(3_600)
    client.v1.customers.update(account.ids("customer")[0], {"name": "New"})
    together = read(config, state=first.state)
    alone = read(config, "events", state=first.state)
    assert together.records["events"] == alone.records["events"]


def test_a_permission_missing_for_a_nested_list_denies_that_stream_only(
    account: Emulator, client: stripe.StripeClient, command: Command
) -> None:
    config = config_of(account)
    first = read(config)
    account.clock_advance(3_600)
    lines = next(
        record for record in first.records["invoices"] if len(record["lines"]["data"]) > 10
    )
    client.v1.invoices.update(lines["id"], {"metadata": {"a": "b"}})
    client.v1.customers.update(account.ids("customer")[0], {"name": "New"})
    account.faults.add("status", f"/v1/invoices/{lines['id']}/lines", status=403)
    run = command.run(config=config, state=first.state)
    assert run.exit_code == 1
    assert "Missing permission for streams: invoice_line_items, invoices." in run.errors
    assert [record["name"] for record in run.records["customers"]] == ["New"]


def test_a_pause_longer_than_events_are_kept_lists_again(
    account: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(account)
    first = read(config, "products", "customers")
    account.clock_advance(45 * 86_400)
    bookmarks = first.state["bookmarks"]
    for bookmark in bookmarks.values():
        bookmark["replication_key_value"] = "2026-01-01T00:00:00Z"
    second = read(config, "products", "customers", state=first.state)
    assert second.ids("products") == Counter(account.ids("product"))
    assert "longer than Stripe keeps events" in caplog.text


def refund_one(account: Emulator, client: stripe.StripeClient) -> None:
    refunded = next(c for c in account.objects("charge") if c["paid"] and not c["amount_refunded"])
    client.v1.refunds.create({"charge": refunded["id"], "amount": 100})


def test_balance_transactions_come_with_the_events_of_what_made_them(
    account: Emulator, client: stripe.StripeClient
) -> None:
    before = set(account.ids("balance_transaction"))
    output = run_after(account, lambda: refund_one(account, client))
    assert (
        set(output.ids("balance_transactions")) == set(account.ids("balance_transaction")) - before
    )
    assert output.ids("balance_transactions").total() == 1


def test_balance_transactions_that_were_not_read_for_a_while_are_caught_up_with(
    account: Emulator, client: stripe.StripeClient
) -> None:
    config = config_of(account)
    first = read(config, "customers", "balance_transactions")
    account.clock_advance(3_600)
    refund_one(account, client)
    without = read(config, "customers", state=first.state)
    account.clock_advance(3 * 86_400)  # and the events' bookmark has moved on
    later = read(config, "customers", state=without.state)
    output = read(config, "customers", "balance_transactions", state=later.state)
    assert output.ids("balance_transactions").total() == 1


def test_balance_transactions_are_read_by_a_key_that_may_not_read_events(
    account: Emulator, client: stripe.StripeClient, command: Command
) -> None:
    first = read(config_of(account))
    account.clock_advance(3_600)
    refund_one(account, client)
    account.faults.add("status", "/v1/events", status=403, times=None)
    run = command.run(config=config_of(account), state=first.state)
    assert run.exit_code == 1
    assert run.ids("balance_transactions").total() == 1


def test_a_state_has_each_event_once_for_its_stream_and_once_for_events(
    account: Emulator, client: stripe.StripeClient
) -> None:
    product = client.v1.products.list().data[0].id

    def busy() -> None:
        account.bulk(300)
        client.v1.products.update(product, {"name": "Renamed"})

    bookmarks = run_after(account, busy).state["bookmarks"]
    seen = {name: set(bookmark.get("seen", ())) for name, bookmark in bookmarks.items()}
    assert len(seen["customers"]) == 300
    assert len(seen["products"]) == 1
    assert seen["events"] == seen["customers"] | seen["products"]
    assert not any(seen[name] for name in seen.keys() - {"customers", "products", "events"})


def test_events_that_no_stream_reads_are_news_once(
    account: Emulator, client: stripe.StripeClient
) -> None:
    """They may have moved the balance, whose list is then read; but not in every run after."""
    config = config_of(account)
    streams = ("balance_transactions", "products")
    state = read(config, *streams).state
    account.clock_advance(3_600)
    client.v1.customers.create({"name": "Of no stream"})
    paths = []
    for _ in range(3):
        before = len(account.requests)
        state = read(config, *streams, state=state).state
        paths.append([request.path for request in account.requests[before:]])
    assert paths == [["/v1/events", "/v1/balance_transactions"], ["/v1/events"], ["/v1/events"]]


INVALID_TIMES = [None, "null", '"yesterday"', "-5", "253402300800"]


@pytest.mark.parametrize("created", INVALID_TIMES)
def test_an_event_without_a_valid_time_is_named_and_left_out(
    account: Emulator,
    client: stripe.StripeClient,
    created: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = config_of(account)
    streams = ("customers", "events")
    first = read(config, *streams)
    account.clock_advance(3_600)
    others = account.ids("customer")[:2]
    client.v1.customers.update(others[0], {"name": "Before"})
    client.v1.customers.update(others[1], {"name": "Lost"})
    odd = account.objects("event")[0]["id"]
    edit(account, "event", odd, "created", created)
    second = read(config, *streams, state=first.state)
    assert [row["name"] for row in second.records["customers"]] == ["Before"]
    assert odd not in second.ids("events")
    assert [r.levelname for r in caplog.records if odd in r.message] == ["WARNING"]
    account.clock_advance(60)
    client.v1.customers.update(others[1], {"email": "found@example.com"})
    third = read(config, *streams, state=second.state)
    assert [row["name"] for row in third.records["customers"]] == ["Lost"]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("field", ["created", "id"])
def test_a_page_of_events_that_ends_with_such_a_one_does_not_end_the_list(
    account: Emulator, client: stripe.StripeClient, field: str
) -> None:
    config = config_of(account)
    first = read(config, "customers")
    account.clock_advance(3_600)
    customers = account.ids("customer")
    for customer in customers:
        client.v1.customers.update(customer, {"name": "New"})
    events = [event["id"] for event in account.objects("event")][: len(customers)]
    kept = len(events) // 2 if field == "created" else len(events) - 1
    for event in events[: len(events) - kept]:
        edit(account, "event", event, field, None)
    output = read(config, "customers", state=first.state)
    assert output.ids("customers").total() == kept
