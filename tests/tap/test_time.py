"""Clocks and dates that are wrong: no bookmark passes what can be checked."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest
import stripe

from stripe_alloy.emulator import Emulator
from tests.conftest import config_of, read

DAY = 86_400
STREAMS = ("customers", "balance_transactions", "events")


def since(state: dict[str, Any], stream: str = "customers") -> float:
    value = state["bookmarks"][stream]["replication_key_value"]
    return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()


def create(account: Emulator, name: str) -> str:
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url})
    return str(client.v1.customers.create({"name": name}).id)


@pytest.mark.parametrize("ahead", [2 * DAY, 3_600, 29 * DAY, 400 * DAY])
def test_a_date_ahead_loses_no_change_after_a_backfill(account: Emulator, ahead: int) -> None:
    account.faults.add("date", times=1, seconds=ahead)
    first = read(config_of(account), *STREAMS)
    assert since(first.state) <= time.time()
    made = create(account, "After")
    account.faults.clear()
    second = read(config_of(account), *STREAMS, state=first.state)
    assert made in second.ids("customers")


@pytest.mark.parametrize("ahead", [2 * DAY, 20 * DAY])
def test_a_date_ahead_in_a_quiet_run_loses_no_change(account: Emulator, ahead: int) -> None:
    first = read(config_of(account), *STREAMS)
    account.faults.add("date", times=1, seconds=ahead)
    quiet = read(config_of(account), *STREAMS, state=first.state)
    assert since(quiet.state) <= time.time()
    made = create(account, "After")
    account.faults.clear()
    last = read(config_of(account), *STREAMS, state=quiet.state)
    assert made in last.ids("customers")


@pytest.mark.parametrize("ahead", [2 * DAY, 365 * DAY])
def test_an_event_of_the_future_loses_no_change(account: Emulator, ahead: int) -> None:
    first = read(config_of(account), *STREAMS)
    later = int(time.time()) + ahead
    with account.store.transaction():
        ledger = account.service.session(account.account_id)
        ledger.now = later
        customer = ledger.get("customer", account.ids("customer")[0])
        ledger.change(customer, name="From the future")
        ledger.emit("customer.updated", customer)
        ledger.flush()
    second = read(config_of(account), *STREAMS, state=first.state)
    assert "From the future" in [row["name"] for row in second.records["customers"]]
    assert since(second.state) <= time.time() + 1
    made = create(account, "After")
    third = read(config_of(account), *STREAMS, state=second.state)
    assert list(third.ids("customers")) == [made]


def test_an_event_of_the_future_is_read_once(account: Emulator) -> None:
    first = read(config_of(account), "customers")
    with account.store.transaction():
        ledger = account.service.session(account.account_id)
        ledger.now = int(time.time()) + 365 * DAY
        ledger.emit("customer.updated", ledger.get("customer", account.ids("customer")[0]))
        ledger.flush()
    second = read(config_of(account), "customers", state=first.state)
    third = read(config_of(account), "customers", state=second.state)
    assert third.records == {}


def test_a_clock_of_ours_that_is_behind_holds_back_nothing(account: Emulator) -> None:
    """Two answers that agree are believed: a quiet run lists nothing again."""
    account.clock_advance(45 * DAY)
    state = read(config_of(account), *STREAMS).state
    for _ in range(3):
        account.clock_advance(20 * DAY)
        quiet = read(config_of(account), *STREAMS, state=state)
        assert quiet.records == {}
        state = quiet.state
