"""Accounts that come, go and return."""

from __future__ import annotations

import json
from typing import Any

import pytest
import stripe

from stripe_alloy.emulator import Emulator
from tests.conftest import Output, catalog_of, config_of, read
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


def both_have_gold(emulator: Emulator) -> None:
    for account in emulator.account_ids:
        api = stripe.StripeClient(
            emulator.api_key, base_addresses={"api": emulator.url}, stripe_account=account
        ).v1
        api.products.create({"id": "gold", "name": f"Gold of {account}"})


def keys_in(output: Output) -> set[tuple[str, ...]]:
    return {tuple(m["key_properties"]) for m in output.messages if m["type"] == "SCHEMA"}


def gold_in(destination: Destination) -> dict[str, bool]:
    """Account → whether its row is deleted."""
    rows = [row for key, (row, _) in destination.rows.items() if key[-1] == "gold"]
    return {row["_account_id"]: row["deleted"] for row in rows}


@pytest.mark.parametrize("named", [True, False])
def test_two_accounts_with_the_same_id_are_two_rows(named: bool) -> None:
    with Emulator(customers=3, accounts=2) as emulator:
        both_have_gold(emulator)
        destination = Destination()
        output = read_accounts(destination, emulator, *(emulator.account_ids if named else ["all"]))
        assert keys_in(output) == {("_account_id", "id")}
        assert gold_in(destination) == dict.fromkeys(emulator.account_ids, False)


def test_a_tombstone_of_one_account_leaves_the_other_alone() -> None:
    with Emulator(customers=3, accounts=2) as emulator:
        both_have_gold(emulator)
        a, b = emulator.account_ids
        destination = Destination()
        read_accounts(destination, emulator, a, b)
        emulator.clock_advance(600)
        stripe.StripeClient(
            emulator.api_key, base_addresses={"api": emulator.url}, stripe_account=a
        ).v1.products.delete("gold")
        read_accounts(destination, emulator, a, b)
        assert gold_in(destination) == {a: True, b: False}


def test_an_account_in_the_setting_has_the_key_that_a_second_one_needs() -> None:
    with Emulator(customers=3, accounts=2) as emulator:
        a, b = emulator.account_ids
        destination = Destination()
        first = read_accounts(destination, emulator, a)
        second = read_accounts(destination, emulator, a, b)
        assert keys_in(first) == keys_in(second) == {("_account_id", "id")}
        assert {record["_account_id"] for record in second.records["customers"]} == {b}


def test_the_keys_own_account_alone_has_ids_for_keys(account: Emulator) -> None:
    assert keys_in(read(config_of(account), "customers")) == {("id",)}


def as_before(state: dict[str, Any]) -> dict[str, Any]:
    """A state that does not say what rows are identified by: it was `id`."""
    old: dict[str, Any] = json.loads(json.dumps(state))
    for mark in old["bookmarks"].values():
        mark.pop("shapes")
        for part in mark["partitions"]:
            part.pop("shape")
    return old


def test_an_earlier_table_of_one_account_keeps_its_key() -> None:
    with Emulator(customers=3, accounts=2) as emulator:
        a, _ = emulator.account_ids
        destination = Destination()
        read_accounts(destination, emulator, a)
        destination.state = as_before(destination.state)
        for _ in range(2):
            output = read_accounts(destination, emulator, a)
            assert keys_in(output) == {("id",)}
            assert output.records == {}


def test_an_earlier_table_gets_the_key_with_the_second_account(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its rows are listed once more for it, and the log says what to do with a table."""
    with Emulator(customers=3, accounts=2) as emulator:
        a, b = emulator.account_ids
        destination = Destination()
        read_accounts(destination, emulator, a)
        destination.state = as_before(destination.state)
        output = read_accounts(destination, emulator, a, b)
        assert keys_in(output) == {("_account_id", "id")}
        assert set(output.ids("customers")) == set(
            emulator.ids("customer", a) + emulator.ids("customer", b)
        )
        assert "the primary key is _account_id, id from now on" in caplog.text
        assert read_accounts(destination, emulator, a, b).records == {}


def test_rows_that_several_accounts_lost_to_each_other_come_again() -> None:
    with Emulator(customers=3, accounts=2) as emulator:
        both_have_gold(emulator)
        a, b = emulator.account_ids
        destination = Destination()
        read_accounts(destination, emulator, a, b)
        destination.state = as_before(destination.state)
        destination.rows.clear()
        read_accounts(destination, emulator, a, b)
        assert gold_in(destination) == {a: False, b: False}


def test_a_catalog_from_before_does_not_take_the_account_out_of_the_key() -> None:
    with Emulator(customers=3, accounts=2) as emulator:
        catalog = catalog_of(config_of(emulator), "customers")
        for entry in catalog["streams"]:
            assert entry["key_properties"] == ["id"]
            for row in entry["metadata"]:
                if row["breadcrumb"] == ["properties", "_account_id"]:
                    row["metadata"]["selected"] = False
        config = config_of(emulator, account_ids=["all"])
        output = read(config, catalog=catalog)
        assert keys_in(output) == {("_account_id", "id")}
        assert all(record["_account_id"] for record in output.records["customers"])
        assert "_account_id" in output.schemas["customers"]["properties"]


def test_stream_maps_keep_the_key() -> None:
    with Emulator(customers=3, accounts=2) as emulator:
        maps = {"customers": {"email_md5": "md5(email) if email else None"}}
        config = config_of(emulator, account_ids=["all"], stream_maps=maps)
        assert keys_in(read(config, "customers")) == {("_account_id", "id")}
