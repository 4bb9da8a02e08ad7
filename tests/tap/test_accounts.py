"""Accounts that come, go and return."""

from __future__ import annotations

import json
from typing import Any

import pytest
import stripe

from stripe_alloy.emulator import Emulator
from tests.conftest import Output, config_of, read
from tests.tap.histories import Destination, differences

DAY = 86_400


def read_accounts(
    destination: Destination, emulator: Emulator, *accounts: str, **settings: Any
) -> Output:
    output = read(
        config_of(emulator, account_ids=list(accounts), **settings), state=destination.state
    )
    destination.take(output.messages)
    return output


def activated(output: Output) -> set[str]:
    return {m["stream"] for m in output.messages if m["type"] == "ACTIVATE_VERSION"}


def test_an_account_that_returns_is_there_again() -> None:
    with Emulator(customers=5, accounts=3) as emulator:
        a, b, c = emulator.account_ids
        destination = Destination()
        read_accounts(destination, emulator, a, b)
        read_accounts(destination, emulator, c)
        read_accounts(destination, emulator, a, b, c)
        assert differences(destination, emulator, [a, b, c]) == {}


def test_another_account_drops_no_rows_of_those_left_out() -> None:
    with Emulator(customers=5, accounts=2) as emulator:
        a, b = emulator.account_ids
        destination = Destination()
        read_accounts(destination, emulator, a)
        assert activated(read_accounts(destination, emulator, b)) == set()
        assert differences(destination, emulator, [a, b]) == {}


def test_an_account_whose_rows_were_dropped_is_listed_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A pause made the other be listed again, and ACTIVATE_VERSION took the rows of this one."""
    with Emulator(customers=5, accounts=2) as emulator:
        a, b = emulator.account_ids
        destination = Destination()
        read_accounts(destination, emulator, a, b)
        emulator.clock_advance(20 * DAY)
        read_accounts(destination, emulator, a)
        emulator.clock_advance(20 * DAY)
        read_accounts(destination, emulator, b)
        assert "rows of accounts that are no longer read" in caplog.text
        assert set(destination.of("customers")) == set(emulator.ids("customer", b))
        read_accounts(destination, emulator, a, b)
        assert differences(destination, emulator, [a, b]) == {}
        assert read_accounts(destination, emulator, a, b).records == {}


def test_a_backfill_cut_short_begins_anew_where_its_rows_were_dropped() -> None:
    with Emulator(customers=5, accounts=2) as emulator:
        a, b = emulator.account_ids
        destination = Destination()
        read_accounts(destination, emulator, a, b)
        state = json.loads(json.dumps(destination.state))
        for mark in state["bookmarks"].values():
            [part] = [p for p in mark["partitions"] if p["context"]["_account_id"] == a]
            anchor = part.pop("replication_key_value")
            part["backfill"] = {"anchor": anchor, "missing": []}
        destination.state = state
        emulator.clock_advance(45 * DAY)
        read_accounts(destination, emulator, b)
        read_accounts(destination, emulator, a, b)
        assert differences(destination, emulator, [a, b]) == {}


def test_the_keys_own_account_returns_after_connected_ones() -> None:
    with Emulator(customers=5, accounts=1) as emulator:
        [connected] = emulator.account_ids
        destination = Destination()
        read_accounts(destination, emulator)
        read_accounts(destination, emulator, connected)
        emulator.clock_advance(45 * DAY)
        read_accounts(destination, emulator, connected)
        read_accounts(destination, emulator)
        assert set(emulator.ids("customer")) <= set(destination.of("customers"))


def test_rows_from_before_there_were_versions_are_not_listed_again() -> None:
    with Emulator(customers=5, accounts=2) as emulator:
        a, b = emulator.account_ids
        destination = Destination()
        read_accounts(destination, emulator, a)
        for mark in destination.state["bookmarks"].values():
            mark.pop("table", None)
            mark["partitions"][0].pop("version", None)
        assert read_accounts(destination, emulator, a).records == {}
        read_accounts(destination, emulator, a, b)
        assert read_accounts(destination, emulator, a, b).records == {}


def test_what_an_account_lost_while_it_was_left_out_goes() -> None:
    with Emulator(customers=5, accounts=2) as emulator:
        a, b = emulator.account_ids
        api = stripe.StripeClient(
            emulator.api_key, base_addresses={"api": emulator.url}, stripe_account=a
        ).v1
        gone = api.customers.create({"name": "Goes"}).id
        destination = Destination()
        read_accounts(destination, emulator, a, b)
        emulator.clock_advance(600)
        api.customers.delete(gone)
        read_accounts(destination, emulator, b)
        read_accounts(destination, emulator, a, b)
        assert gone not in destination.of("customers")
