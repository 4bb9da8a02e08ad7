"""Changes out of the webhook inbox: what costs a request, what comes late, what is never lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import stripe
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stripe_alloy.api.client import CLOCK_PATH
from stripe_alloy.api.timestamps import DAY, unix_seconds
from stripe_alloy.emulator import Emulator
from stripe_alloy.webhooks import inbox as inboxes
from stripe_alloy.webhooks.coverage import MAX_EVENT_DELAY
from tests.conftest import Output, catalog_of, config_of, read
from tests.tap.deliveries import Deliveries
from tests.tap.histories import COMPARED, Destination, History, cut, differences

STREAMS = [name for name in COMPARED if name != "balance_transactions"]
"""Those that events tell of: balance transactions are listed."""
Inbox = inboxes.Inbox


@contextmanager
def receiving(
    emulator: Emulator, folder: Path, monkeypatch: pytest.MonkeyPatch, rng: random.Random
) -> Iterator[Deliveries]:
    """An inbox on the emulator's clock, in the tap too."""
    clock = emulator.service.clock
    monkeypatch.setattr(inboxes, "Inbox", partial(Inbox, clock=clock))
    deliveries = Deliveries(emulator, f"sqlite:///{folder}/inbox.db", clock, rng)
    try:
        yield deliveries
    finally:
        deliveries.close()


class Pipeline:
    """The tap with an inbox, and where its records go."""

    def __init__(self, emulator: Emulator, folder: Path, *streams: str, **more: Any) -> None:
        self.emulator = emulator
        inbox = f"sqlite:///{folder}/inbox.db"
        self.config = config_of(emulator, webhook_inbox=inbox, **more)
        self.catalog = catalog_of(self.config, *(streams or STREAMS))
        self.destination = Destination()

    def run(self, *, cut_by: random.Random | None = None) -> Output:
        output = read(self.config, catalog=self.catalog, state=self.destination.state)
        self.destination.take(cut(output, cut_by) if cut_by else output.messages)
        return output

    def requests(self) -> list[str]:
        """The paths that a run asked for.

        Left out is what only asks for the time: the emulated clock is days ahead of ours here.
        """
        return [path for path in self.all_requests() if path != CLOCK_PATH]

    def all_requests(self) -> list[str]:
        before = len(self.emulator.requests)
        self.run()
        return [request.path for request in self.emulator.requests[before:]]


@pytest.fixture
def pipeline(
    account: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Pipeline, Deliveries, Any]]:
    """An inbox whose receiver is up and has proven itself, all events before it read."""
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url}).v1
    with receiving(account, tmp_path, monkeypatch, random.Random(1)) as deliveries:
        pipe = Pipeline(account, tmp_path)
        pipe.run()
        account.clock_advance(3 * MAX_EVENT_DELAY)
        deliveries.start()
        client.customers.create({"name": "The first to be delivered"})
        deliveries.deliver_all()
        account.clock_advance(3 * MAX_EVENT_DELAY)
        deliveries.tick()
        pipe.run()
        pipe.run()
        yield pipe, deliveries, client


def differ(pipe: Pipeline) -> dict[str, Any]:
    found = differences(pipe.destination, pipe.emulator, [pipe.emulator.account_id])
    return {name: rest for name, rest in found.items() if name in STREAMS}


def test_a_run_costs_no_request_while_the_receiver_is_up(
    pipeline: tuple[Pipeline, Deliveries, Any],
) -> None:
    pipe, deliveries, client = pipeline
    assert pipe.all_requests() == []
    state = pipe.destination.state
    client.customers.update(pipe.emulator.ids("customer")[0], {"name": "Changed"})
    client.products.create({"name": "New"})
    deliveries.deliver_all()
    assert pipe.requests() == []
    assert differ(pipe) == {}
    assert pipe.destination.state != state
    state = pipe.destination.state
    assert pipe.requests() == []
    assert pipe.destination.state == state


@pytest.mark.parametrize("wanted", [False, True])
def test_what_is_on_a_test_clock_comes_only_if_wanted(
    pipeline: tuple[Pipeline, Deliveries, Any], wanted: bool
) -> None:
    pipe, deliveries, client = pipeline
    pipe.config["include_test_clocks"] = wanted
    pipe.run()
    there = set(pipe.emulator.ids("customer", everything=wanted))
    assert set(pipe.destination.of("customers")) == there
    clock = client.test_helpers.test_clocks.list().data[0].id
    rehearsal = client.customers.create({"name": "Rehearsal", "test_clock": clock}).id
    deliveries.deliver_all()
    assert pipe.requests() == []
    assert (rehearsal in pipe.destination.of("customers")) == wanted
    pipe.emulator.clock_advance(2)  # events of one second have no order
    client.customers.delete(rehearsal)
    deliveries.deliver_all()
    assert pipe.requests() == []
    assert set(pipe.destination.of("customers")) == there
    assert (("customers", rehearsal) in pipe.destination.rows) == wanted


def test_only_the_time_without_a_receiver_is_walked(
    pipeline: tuple[Pipeline, Deliveries, Any],
) -> None:
    pipe, deliveries, client = pipeline
    down_at = pipe.emulator.service.clock()
    deliveries.stop()
    pipe.emulator.clock_advance(7_200)
    client.customers.update(pipe.emulator.ids("customer")[0], {"name": "While it was down"})
    deliveries.notice()
    deliveries.pending.clear()  # Stripe has given up
    pipe.emulator.clock_advance(7_200)
    deliveries.start()
    up_at = pipe.emulator.service.clock()
    before = len(pipe.emulator.requests)
    assert pipe.requests() == ["/v1/events"]
    [asked] = [r.params for r in pipe.emulator.requests[before:] if r.path == "/v1/events"]
    assert (
        down_at - MAX_EVENT_DELAY - 10
        < int(asked["created[gte]"][0])
        <= down_at - MAX_EVENT_DELAY + 10
    )
    assert up_at - 1 <= int(asked["created[lt]"][0]) < up_at + 10  # whole seconds
    assert differ(pipe) == {}
    assert pipe.requests() == []
    pipe.emulator.clock_advance(2 * MAX_EVENT_DELAY)
    deliveries.tick()
    assert pipe.requests() == ["/v1/events"]  # once more, for what Stripe's list showed late
    pipe.emulator.clock_advance(2 * MAX_EVENT_DELAY)
    deliveries.tick()
    assert pipe.requests() == []


def test_without_a_receiver_the_events_are_walked_as_ever(
    account: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url}).v1
    with receiving(account, tmp_path, monkeypatch, random.Random(1)):
        pipe = Pipeline(account, tmp_path)
        pipe.run()
        for number in range(3):
            account.clock_advance(1_000)
            client.customers.update(account.ids("customer")[0], {"name": f"Name {number}"})
            assert set(pipe.requests()) <= {"/v1/events", "/v1/customers"}
            assert differ(pipe) == {}


def test_a_late_event_does_not_bring_an_old_snapshot_back(
    pipeline: tuple[Pipeline, Deliveries, Any],
) -> None:
    pipe, deliveries, client = pipeline
    customer, other = pipe.emulator.ids("customer")[:2]
    client.customers.update(customer, {"name": "Old"})
    deliveries.notice()
    late = dict(deliveries.pending)
    deliveries.pending.clear()
    pipe.emulator.clock_advance(10)
    client.customers.update(customer, {"name": "New"})
    client.customers.update(other, {"name": "Other"})
    deliveries.deliver_all()
    pipe.run()
    deliveries.pending.update(late)
    pipe.emulator.clock_advance(7_200)
    deliveries.deliver_all()
    assert pipe.requests() == [f"/v1/customers/{customer}"]
    assert pipe.destination.of("customers")[customer]["name"] == "New"
    assert differ(pipe) == {}


def test_an_endpoint_that_was_disabled_is_noticed_within_a_day(
    pipeline: tuple[Pipeline, Deliveries, Any], caplog: pytest.LogCaptureFixture
) -> None:
    pipe, deliveries, client = pipeline
    customer, other = pipe.emulator.ids("customer")[:2]
    client.customers.update(customer, {"name": "Never delivered"})
    deliveries.notice()
    deliveries.pending.clear()
    pipe.emulator.clock_advance(7_200)
    deliveries.tick()
    assert pipe.requests() == []
    assert "customers" in differ(pipe)
    pipe.emulator.clock_advance(86_400)
    client.customers.update(other, {"name": "Not delivered either, but on its way"})
    deliveries.notice()
    deliveries.tick()
    assert "/v1/events" in pipe.requests()
    assert "not delivered to the receiver since the last check: 1." in caplog.text
    deliveries.deliver_all()
    assert pipe.requests() == []
    assert differ(pipe) == {}


def test_the_daily_check_is_one_request_where_all_came(
    pipeline: tuple[Pipeline, Deliveries, Any], caplog: pytest.LogCaptureFixture
) -> None:
    pipe, deliveries, _ = pipeline
    for _ in range(3):
        pipe.emulator.bulk(250)
        deliveries.deliver_all()
        pipe.emulator.clock_advance(90_000)
        deliveries.tick()
        assert pipe.requests().count("/v1/events") == 1
        assert pipe.requests() == []
    assert "not delivered" not in caplog.text
    assert differ(pipe) == {}


def test_a_late_event_of_an_object_that_nothing_else_happened_to_needs_no_request(
    pipeline: tuple[Pipeline, Deliveries, Any],
) -> None:
    pipe, deliveries, client = pipeline
    customer, other = pipe.emulator.ids("customer")[:2]
    client.customers.update(customer, {"name": "Late"})
    deliveries.notice()
    late = dict(deliveries.pending)
    deliveries.pending.clear()
    pipe.emulator.clock_advance(10)
    client.customers.update(other, {"name": "Other"})
    deliveries.deliver_all()
    pipe.run()
    deliveries.pending.update(late)
    deliveries.deliver_all()
    assert pipe.requests() == []
    assert differ(pipe) == {}


def test_events_and_balance_transactions_come_along(
    account: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Balance transactions have no events: they are listed if there was any."""
    history = History(account, random.Random(6), account.account_id)
    with receiving(account, tmp_path, monkeypatch, random.Random(1)) as deliveries:
        pipe = Pipeline(account, tmp_path, "events", "balance_transactions", "charges")
        pipe.run()
        account.clock_advance(3 * MAX_EVENT_DELAY)
        deliveries.start()
        deliveries.deliver_all()
        first = account.service.clock()
        for _ in range(3):
            for _ in range(15):
                history.happen()
            deliveries.deliver_all()
            account.clock_advance(2 * MAX_EVENT_DELAY)
            deliveries.tick()
            asked = pipe.requests()
            assert asked.count("/v1/balance_transactions") == 1
            found = pipe.destination.of("events")
            truth = {e["id"] for e in account.objects("event") if e["created"] >= int(first)}
            assert truth <= set(found)
            transactions = account.objects("balance_transaction")
            assert set(pipe.destination.of("balance_transactions")) == {
                t["id"] for t in transactions
            }
            records = pipe.destination.records
            assert pipe.requests() == []
            assert pipe.destination.records == records


@pytest.mark.parametrize("receiver_too", [False, True])
def test_a_clock_of_this_machine_that_is_ahead_loses_nothing(
    pipeline: tuple[Pipeline, Deliveries, Any],
    monkeypatch: pytest.MonkeyPatch,
    receiver_too: bool,
) -> None:
    pipe, deliveries, client = pipeline
    clock = pipe.emulator.service.clock

    def ahead() -> float:
        return clock() + 10 * DAY

    with monkeypatch.context() as patched:
        patched.setattr(inboxes, "Inbox", partial(Inbox, clock=ahead))
        if receiver_too:
            patched.setattr(deliveries.inbox, "clock", ahead)
            patched.setattr(deliveries, "clock", ahead)
            deliveries.tick()
        pipe.run()
        pipe.run()
    deliveries.stop()
    mark = pipe.destination.state["bookmarks"]["customers"]
    assert unix_seconds(mark["replication_key_value"]) <= clock()
    pipe.emulator.clock_advance(DAY)
    client.customers.create({"name": "Delivered to nobody"})
    pipe.emulator.clock_advance(11 * DAY)
    pipe.run()
    assert differ(pipe) == {}


def bodies(deliveries: Deliveries) -> int:
    """Events that are still whole in the inbox."""
    with deliveries.inbox.engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT count(*) FROM stripe_alloy_inbox_events WHERE body IS NOT NULL"
        )
        return int(found.scalar() or 0)


def test_events_stay_until_a_state_that_covers_them_comes_back(
    pipeline: tuple[Pipeline, Deliveries, Any],
) -> None:
    pipe, deliveries, client = pipeline
    pipe.run()
    assert bodies(deliveries) == 0
    before = pipe.destination.state
    client.customers.update(pipe.emulator.ids("customer")[0], {"name": "Changed"})
    deliveries.deliver_all()
    lost = pipe.run()
    assert (bodies(deliveries), len(lost.records["customers"])) == (1, 1)
    pipe.destination.state = before  # the target crashed: this is what came through
    again = pipe.run()
    assert len(again.records["customers"]) == 1
    assert bodies(deliveries) == 1
    pipe.run()
    assert bodies(deliveries) == 0


def test_two_readers_of_one_inbox_both_get_everything(
    pipeline: tuple[Pipeline, Deliveries, Any], tmp_path: Path
) -> None:
    pipe, deliveries, client = pipeline
    other = Pipeline(pipe.emulator, tmp_path, "customers")
    other.run()
    for number in range(6):
        pipe.emulator.clock_advance(2 * MAX_EVENT_DELAY)
        deliveries.tick()
        client.customers.update(pipe.emulator.ids("customer")[number], {"name": f"{number}"})
        deliveries.deliver_all()
        if number % 2:
            other.run()
        pipe.run()
    other.run()
    assert differ(pipe) == {}
    truth = {row["id"]: row["name"] for row in pipe.emulator.objects("customer")}
    rows = other.destination.of("customers")
    assert {key: row["name"] for key, row in rows.items()} == truth
    assert other.requests() == []


def test_a_stream_that_is_selected_later_gets_what_the_inbox_no_longer_has(
    pipeline: tuple[Pipeline, Deliveries, Any], tmp_path: Path
) -> None:
    pipe, deliveries, client = pipeline
    whole = pipe.catalog
    pipe.catalog = catalog_of(pipe.config, "customers")
    product = client.products.create({"name": "Made while nobody looked"})
    deliveries.deliver_all()
    for _ in range(3):
        pipe.emulator.clock_advance(86_400)
        deliveries.tick()
        client.customers.create({"name": "Anybody"})
        deliveries.deliver_all()
        pipe.run()
    pipe.catalog = whole
    assert "/v1/events" in pipe.requests()
    assert product.id in pipe.destination.of("products")
    assert differ(pipe) == {}
    pipe.emulator.clock_advance(2 * MAX_EVENT_DELAY)
    deliveries.tick()
    pipe.run()
    client.products.update(product.id, {"name": "Renamed"})
    deliveries.deliver_all()
    assert pipe.requests() == []
    assert differ(pipe) == {}


def test_a_new_inbox_begins_where_the_old_one_was(
    pipeline: tuple[Pipeline, Deliveries, Any], tmp_path: Path
) -> None:
    pipe, _, client = pipeline
    (tmp_path / "inbox.db").rename(tmp_path / "lost.db")
    for name in ("inbox.db-wal", "inbox.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    client.customers.update(pipe.emulator.ids("customer")[0], {"name": "Never delivered"})
    assert pipe.requests() == ["/v1/events"]
    assert differ(pipe) == {}


def test_test_mode_events_do_not_reach_a_live_reader(
    pipeline: tuple[Pipeline, Deliveries, Any],
) -> None:
    """A live Connect endpoint gets the test events of connected accounts too."""
    pipe, deliveries, client = pipeline
    client.customers.update(pipe.emulator.ids("customer")[0], {"name": "Live"})
    deliveries.notice()
    for key, (due, body) in deliveries.pending.items():
        deliveries.pending[key] = due, body.replace(b'"livemode":false', b'"livemode":true')
    deliveries.deliver_all()
    assert pipe.run().records == {}


def test_the_gap_of_more_than_30_days_is_listed_again(
    pipeline: tuple[Pipeline, Deliveries, Any],
) -> None:
    pipe, deliveries, client = pipeline
    deliveries.stop()
    client.customers.delete(pipe.emulator.ids("customer")[0])
    deliveries.notice()
    deliveries.pending.clear()
    pipe.emulator.clock_advance(40 * 86_400)
    assert "/v1/customers" in pipe.requests()
    assert differ(pipe) == {}


@settings(
    deadline=None,
    max_examples=8,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32))
def test_the_destination_equals_stripe_whatever_the_receiver_went_through(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    with (
        TemporaryDirectory() as name,
        Emulator(customers=4, accounts=1) as emulator,
        receiving(emulator, Path(name), monkeypatch, rng) as deliveries,
    ):
        accounts = [emulator.account_id, *emulator.account_ids]
        pipe = Pipeline(emulator, Path(name), account_ids=accounts)
        histories = [History(emulator, rng, account) for account in accounts]
        for _ in range(rng.randrange(3, 7)):
            if rng.random() < 0.6:
                deliveries.start()
            else:
                deliveries.stop()
            for _ in range(rng.randrange(12)):
                rng.choice(histories).happen()
                emulator.clock_advance(rng.choice([0, 0, 1, 5, 60]))
                deliveries.tick()
            pipe.run(cut_by=rng if rng.random() < 0.5 else None)
            emulator.clock_advance(rng.choice([0, 5, 100, 1_000, 40_000]))
            deliveries.tick()
        deliveries.deliver_all()
        emulator.clock_advance(2 * MAX_EVENT_DELAY)
        pipe.run()
        pipe.run()  # the first may have been a listing: what was deleted since one that died
        found = differences(pipe.destination, emulator, accounts)
        assert {name: rest for name, rest in found.items() if name in STREAMS} == {}
