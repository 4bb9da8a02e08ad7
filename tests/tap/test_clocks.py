"""What is on test clocks comes if it is asked for, once and kept up to date; else it never does."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import stripe

from stripe_alloy.api.object_types import BY_NAME, TEST_CLOCKS_PATH
from stripe_alloy.api.timestamps import rfc3339
from stripe_alloy.emulator import Emulator
from tap_stripe_alloy import tap
from tests.conftest import Command, Output, config_of, read
from tests.tap.histories import (
    Destination,
    History,
    Row,
    assert_the_same_are_there,
    comparable,
    cut,
    expected,
)

STREAMS = (
    "customers",
    "invoices",
    "invoice_line_items",
    "subscriptions",
    "subscription_items",
)
KEY = "rk_test_narrow"
YEAR = 365 * 86_400


def client_of(emulator: Emulator) -> Any:
    return stripe.StripeClient(emulator.api_key, base_addresses={"api": emulator.url}).v1


def ids(emulator: Emulator, stream: str, *, everything: bool) -> set[str]:
    return set(emulator.ids(BY_NAME[stream].object_name, everything=everything))


def on_clocks(emulator: Emulator, stream: str) -> set[str]:
    return ids(emulator, stream, everything=True) - ids(emulator, stream, everything=False)


def clock_of(emulator: Emulator) -> str:
    clock: str = client_of(emulator).test_helpers.test_clocks.list().data[0].id
    return clock


def rehearse(emulator: Emulator) -> str:
    """One more customer on the clock, with a subscription and a draft; its id."""
    client = client_of(emulator)
    customer = client.customers.create({"name": "Rehearsal", "test_clock": clock_of(emulator)})
    draft = client.invoices.create({"customer": customer.id, "currency": "usd"})
    client.invoice_items.create(
        {"customer": customer.id, "invoice": draft.id, "amount": 500, "currency": "usd"}
    )
    plans = client.prices.list({"type": "recurring", "active": True, "limit": 1}).data
    client.subscriptions.create(
        {"customer": customer.id, "items": [{"price": plans[0].id}], "trial_period_days": 9}
    )
    return str(customer.id)


def requests_of(
    emulator: Emulator, config: dict[str, Any], **how: Any
) -> tuple[Output, Counter[str]]:
    before = len(emulator.requests)
    output = read(config, *STREAMS, **how)
    return output, Counter(request.path for request in emulator.requests[before:])


def truth(emulator: Emulator, stream: str) -> dict[str, Row]:
    """All objects of a stream as rows, those on clocks among them."""
    return expected(emulator, stream, [emulator.account_id], everything=True)


def assert_all_is_there(emulator: Emulator, destination: Destination) -> None:
    """But for invoices of customers who were deleted from a clock: no list leads to them."""
    lost = {
        found["id"]
        for found in emulator.objects("invoice", everything=True)
        if found["test_clock"] and found["customer"] not in truth(emulator, "customers")
    }
    for stream in STREAMS:
        rows, there = destination.of(stream), truth(emulator, stream)
        missing = [row for key, row in there.items() if key not in rows]
        assert {row.get("invoice", row["id"]) for row in missing} <= lost, stream
        assert rows.keys() <= there.keys(), stream
        both = [key for key in rows if lost.isdisjoint({key, rows[key].get("invoice")})]
        wrong = [key for key in both if comparable(rows[key]) != comparable(there[key])]
        assert not wrong, stream


# ---------------------------------------------------------------------- left out


def test_nothing_on_a_clock_comes_by_default(account: Emulator) -> None:
    destination = Destination()
    first, paths = requests_of(account, config_of(account))
    destination.take(first.messages)
    account.clock_advance(3_600)
    customer = rehearse(account)
    client_of(account).customers.update(customer, {"name": "Still no one"})
    second = read(config_of(account), *STREAMS, state=first.state)
    assert second.records == {}
    client_of(account).customers.delete(customer)
    third = read(config_of(account), *STREAMS, state=second.state)
    assert third.records == {}
    assert all(on_clocks(account, stream) for stream in STREAMS)
    for stream in STREAMS:
        assert set(destination.of(stream)) == ids(account, stream, everything=False)
    assert not paths[TEST_CLOCKS_PATH]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("timestamps", ["rfc3339", "unix"])
@pytest.mark.parametrize("alone", [False, True])
def test_nothing_on_a_clock_comes_should_a_list_show_it(
    account: Emulator, timestamps: str, alone: bool
) -> None:
    """Stripe documents for some of its lists only that they leave it out."""
    rehearse(account)
    hidden = {stream: on_clocks(account, stream) for stream in STREAMS}
    account.store.execute("UPDATE objects SET shown = 0 WHERE shown = 2")
    config = config_of(account, timestamps=timestamps)
    for streams in [(stream,) for stream in STREAMS] if alone else [STREAMS]:
        output = read(config, *streams)
        for stream in streams:
            everything = ids(account, stream, everything=True)
            assert output.ids(stream) == Counter(everything - hidden[stream])
    wanted = read(config_of(account, include_test_clocks=True), *STREAMS)
    for stream in STREAMS:
        assert set(wanted.ids(stream)) == ids(account, stream, everything=True)


def test_the_log_of_events_is_left_whole(account: Emulator) -> None:
    first = read(config_of(account), "events")
    account.clock_advance(3_600)
    customer = rehearse(account)
    second = read(config_of(account), "events", state=first.state)
    about = [event["data"]["object"].get("id") for event in second.records["events"]]
    assert customer in about


# ---------------------------------------------------------------------- read


def test_each_comes_once_and_by_few_requests(account: Emulator) -> None:
    rehearse(account)
    without, plain = requests_of(account, config_of(account))
    output, paths = requests_of(account, config_of(account, include_test_clocks=True))
    for stream in STREAMS:
        everything = ids(account, stream, everything=True)
        assert output.ids(stream) == Counter(everything)
        assert everything - set(without.ids(stream)) == on_clocks(account, stream) != set()
    paths.subtract(plain)
    assert +paths == {
        TEST_CLOCKS_PATH: 3,  # each for customers, subscriptions and invoices
        "/v1/customers": 2,
        "/v1/subscriptions": 1,
        "/v1/invoices": 2,  # one a customer
    }


def test_a_child_comes_alone(account: Emulator) -> None:
    config = config_of(account, include_test_clocks=True)
    output = read(config, "invoice_line_items")
    everything = ids(account, "invoice_line_items", everything=True)
    assert output.ids("invoice_line_items") == Counter(everything)


def test_more_than_a_page_is_on_a_clock(account: Emulator) -> None:
    client, clock = client_of(account), clock_of(account)
    for number in range(120):
        client.customers.create({"name": str(number), "test_clock": clock})
    output = read(config_of(account, include_test_clocks=True), "customers", "invoices")
    assert output.ids("customers") == Counter(ids(account, "customers", everything=True))
    assert output.ids("invoices") == Counter(ids(account, "invoices", everything=True))


def test_the_second_run_has_nothing_new(account: Emulator) -> None:
    config = config_of(account, include_test_clocks=True)
    first = read(config, *STREAMS)
    second, paths = requests_of(account, config, state=first.state)
    assert second.records == {}
    assert set(paths) == {"/v1/events"}


def test_changes_and_deletions_come(account: Emulator) -> None:
    config, destination = config_of(account, include_test_clocks=True), Destination()
    destination.take(read(config, *STREAMS).messages)
    account.clock_advance(3_600)
    customer = rehearse(account)
    destination.take(read(config, *STREAMS, state=destination.state).messages)
    assert_all_is_there(account, destination)
    account.clock_advance(3_600)
    client_of(account).customers.delete(customer)
    last = read(config, *STREAMS, state=destination.state)
    destination.take(last.messages)
    assert_all_is_there(account, destination)
    [tombstone] = [row for row in last.records["customers"] if row["id"] == customer]
    assert tombstone["deleted"]


def test_what_a_clock_dates_ahead_is_updated_when_it_is_read(account: Emulator) -> None:
    """Else the rows of its next event would look older."""
    now = int(account.service.clock())
    customer = rehearse(account)
    subscription = account.objects("subscription", everything=True)[0]
    assert subscription["customer"] == customer
    with account.store.transaction():
        ledger = account.service.session(account.account_id)
        for kind, found in (
            ("customer", customer),
            ("subscription", subscription["id"]),
            ("subscription_item", subscription["items"]["data"][0]["id"]),
        ):
            ledger.change(ledger.get(kind, found), created=now + YEAR)
        ledger.flush()
    output = read(config_of(account, include_test_clocks=True), *STREAMS)
    for stream in STREAMS:
        for row in output.records[stream]:
            assert row["updated"] <= rfc3339(now + 600), stream
    [row] = [row for row in output.records["customers"] if row["id"] == customer]
    assert row["created"] == rfc3339(now + YEAR)


def test_what_was_created_before_the_start_date_is_not_backfilled(account: Emulator) -> None:
    since = int(account.service.clock())
    account.clock_advance(60)
    customer = rehearse(account)
    config = config_of(account, include_test_clocks=True, start_date=rfc3339(since + 1))
    output = read(config, *STREAMS)
    assert set(output.ids("customers")) == {customer}
    for stream in ("invoices", "subscriptions"):
        assert {row["customer"] for row in output.records[stream]} == {customer}


# ---------------------------------------------------------------------- turned on and off


def test_turned_on_later_it_brings_what_is_on_clocks_and_only_that(account: Emulator) -> None:
    plain = read(config_of(account), *STREAMS)
    account.clock_advance(3_600)
    config = config_of(account, include_test_clocks=True)
    output = read(config, *STREAMS, state=plain.state)
    for stream in STREAMS:
        assert output.ids(stream) == Counter(on_clocks(account, stream))
    assert read(config, *STREAMS, state=output.state).records == {}


def test_turned_on_later_the_newest_row_comes_last(account: Emulator) -> None:
    """What the walk tells of an object on a clock may be older than the object."""
    destination = Destination()
    destination.take(read(config_of(account), *STREAMS).messages)
    account.clock_advance(3_600)
    customer = rehearse(account)
    config = config_of(account, include_test_clocks=True)
    destination.take(read(config, *STREAMS, state=destination.state).messages)
    assert customer in destination.of("customers")
    assert_all_is_there(account, destination)


def test_turned_off_and_on_again_it_is_read_anew(account: Emulator) -> None:
    config, destination = config_of(account, include_test_clocks=True), Destination()
    destination.take(read(config, *STREAMS).messages)
    account.clock_advance(3_600)
    customer = rehearse(account)
    off = read(config_of(account), *STREAMS, state=destination.state)
    destination.take(off.messages)
    assert off.records == {}
    account.clock_advance(3_600)
    client_of(account).customers.update(customer, {"name": "Changed while off"})
    destination.take(read(config_of(account), *STREAMS, state=destination.state).messages)
    account.clock_advance(3_600)
    destination.take(read(config, *STREAMS, state=destination.state).messages)
    assert destination.of("customers")[customer]["name"] == "Changed while off"
    assert_all_is_there(account, destination)


def test_after_a_long_pause_clocks_are_listed_again_too(account: Emulator) -> None:
    config, destination = config_of(account, include_test_clocks=True), Destination()
    gone = rehearse(account)
    destination.take(read(config, *STREAMS).messages)
    client_of(account).customers.delete(gone)
    account.clock_advance(40 * 86_400)
    last = read(config, *STREAMS, state=destination.state)
    destination.take(last.messages)
    assert_all_is_there(account, destination)
    assert last.ids("customers") == Counter(ids(account, "customers", everything=True))


# ---------------------------------------------------------------------- cut and resumed


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("seed", range(12))
def test_whenever_it_is_cut_the_destination_ends_up_whole(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap, "STATE_EVERY_RECORDS", 1)
    rng = random.Random(seed)
    with Emulator(customers=12) as account:
        history = Rehearsals(account, rng, account.account_id)
        config, destination = config_of(account, include_test_clocks=True), Destination()
        if rng.random() < 0.5:
            destination.take(read(config_of(account), *STREAMS).messages)
        for _ in range(rng.randrange(1, 5)):
            for _ in range(rng.randrange(8)):
                history.happen()
            account.clock_advance(rng.choice([1, 60, 7_200]))
            destination.take(cut(read(config, *STREAMS, state=destination.state), rng))
        for _ in "listed", "walked":
            destination.take(read(config, *STREAMS, state=destination.state).messages)
        assert_all_is_there(account, destination)


class Rehearsals(History):
    """A history of those on a clock as well, and half of the time of only those."""

    def objects(self, kind: str) -> list[Row]:
        objects = self.emulator.objects(kind, self.account, everything=True)
        if self.rng.random() < 0.5:
            return [found for found in objects if found.get("test_clock")] or objects
        return objects


def test_a_listing_is_activated_only_with_what_is_on_clocks(account: Emulator) -> None:
    account.faults.add("status", TEST_CLOCKS_PATH, status=401)
    config = config_of(account, include_test_clocks=True)
    with pytest.raises(Exception, match="api_key"):
        read(config, "customers")
    output = read(config, "customers")
    kinds = [message["type"] for message in output.messages]
    last = max(n for n, kind in enumerate(kinds) if kind == "RECORD")
    assert kinds.index("ACTIVATE_VERSION") > last
    assert on_clocks(account, "customers") <= set(output.ids("customers"))


def test_a_clock_that_is_deleted_meanwhile_stops_nothing(account: Emulator) -> None:
    account.faults.add("status", "/v1/customers", status=404, code="resource_missing")
    output = read(config_of(account, include_test_clocks=True), "invoices")
    assert output.ids("invoices") == Counter(ids(account, "invoices", everything=False))


# ---------------------------------------------------------------------- keys


def test_a_key_that_may_not_read_clocks_is_told_so(account: Emulator, command: Command) -> None:
    account.keys.add(KEY, {"customer": "read", "product": "read", "event": "read"})
    config = config_of(account, api_key=KEY, include_test_clocks=True)
    code, out, _ = command.text("--test", config=config)
    assert code == 1
    assert "customers             the key lacks the permission 'Test clocks: read'" in out
    assert "products              ok" in out
    output = command.run(config=config)
    assert output.exit_code == 1
    assert "Stream customers was not read: the key lacks the permission 'Test clocks: read'" in (
        output.errors
    )
    assert set(output.records) == {"products", "events"}


def test_invoices_on_clocks_need_their_customers(account: Emulator, command: Command) -> None:
    account.keys.add(KEY, {"invoice": "read", "test_clock": "read", "event": "read"})
    config = config_of(account, api_key=KEY, include_test_clocks=True)
    _, out, _ = command.text("--test", config=config)
    assert "invoices              the key lacks the permission 'Customers: read'" in out
    account.keys.add(KEY, {"invoice": "read", "test_clock": "read", "customer": "read"})
    output = read(config, "invoices")
    assert output.ids("invoices") == Counter(ids(account, "invoices", everything=True))


def test_live_mode_has_no_clocks_to_ask_for(account: Emulator) -> None:
    account.keys.add("sk_live_narrow")
    config = config_of(account, api_key="sk_live_narrow", include_test_clocks=True)
    _, paths = requests_of(account, config)
    assert not paths[TEST_CLOCKS_PATH]


def test_all_other_streams_are_as_without(account: Emulator) -> None:
    config = config_of(account, include_test_clocks=True)
    output = read(config)
    assert_the_same_are_there(
        account,
        lambda stream: (
            set(output.ids(stream)) - (on_clocks(account, stream) if stream in STREAMS else set())
        ),
    )
