"""All payment methods, whether or not the account's list of all serves."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import pytest

from stripe_alloy.emulator import Emulator
from tests.conftest import Command, config_of, read
from tests.tap.test_odd_values import edit


@pytest.mark.parametrize("unscoped", ["serve", "refuse", "empty"])
def test_every_payment_method_of_a_customer_comes(
    unscoped: Literal["serve", "refuse", "empty"],
) -> None:
    with Emulator(customers=30, unscoped_payment_methods=unscoped) as emulator:
        output = read(config_of(emulator), "payment_methods")
        customers = set(emulator.ids("customer"))
        attached = [
            found["id"]
            for found in emulator.objects("payment_method")
            if found["customer"] in customers
        ]
        assert len(attached) > 10
        assert set(attached) <= set(output.ids("payment_methods"))
        assert max(output.ids("payment_methods").values()) == 1
        again = read(config_of(emulator), "payment_methods", state=output.state)
        assert again.records == {}


@pytest.mark.parametrize("unscoped", ["serve", "refuse", "empty"])
def test_expanding_works_by_either_list(unscoped: str) -> None:
    with Emulator(customers=20, unscoped_payment_methods=unscoped) as emulator:
        config = config_of(emulator, expand={"payment_methods": ["customer"]})
        records = read(config, "payment_methods").records["payment_methods"]
        assert any(record["customer"]["object"] == "customer" for record in records)


def test_a_start_date_does_not_make_the_list_of_all_look_short(business: Emulator) -> None:
    since = len(business.requests)
    config = config_of(business, start_date="2026-10-01T00:00:00Z")
    output = read(config, "payment_methods")
    assert max(output.ids("payment_methods").values()) == 1
    assert len(business.requests) - since <= 7


def test_an_interruption_after_the_probe_keeps_what_was_expected(command: Command) -> None:
    with Emulator(customers=30) as emulator:
        hidden = emulator.ids("payment_method")[0]
        emulator.faults.add("hide", "/v1/payment_methods", times=None, ids=[hidden])
        emulator.faults.add("status", "/v1/payment_methods", status=401)
        stopped = command.run(config=config_of(emulator))
        assert stopped.exit_code == 1
        resumed = read(config_of(emulator), state=stopped.state)
        assert hidden in resumed.ids("payment_methods")


def test_a_cursor_that_is_gone_does_not_stop_the_list(business: Emulator) -> None:
    newest = max(found["created"] for found in business.objects("payment_method"))
    half = newest - 200 * 86_400
    left = {"anchor": "2026-11-20T00:00:00Z", "missing": [[0, half, "pm_gone"]], "expected": []}
    state = {"bookmarks": {"payment_methods": {"backfill": left}}}
    output = read(config_of(business), "payment_methods", state=state)
    assert output.ids("payment_methods") == Counter(business.ids("payment_method"))


def test_where_the_list_of_all_serves_no_customer_is_walked(business: Emulator) -> None:
    since = len(business.requests)
    read(config_of(business), "payment_methods")
    paths = Counter(request.path for request in business.requests[since:])
    assert paths["/v1/payment_methods"] == 2
    assert paths["/v1/customers"] == 1
    assert sum(paths.values()) <= 7


def test_a_list_of_all_that_lacks_some_is_not_trusted() -> None:
    with Emulator(customers=30) as emulator:
        hidden = emulator.ids("payment_method")[0]
        emulator.faults.add("hide", "/v1/payment_methods", times=None, ids=[hidden])
        output = read(config_of(emulator), "payment_methods")
        assert hidden in output.ids("payment_methods")


@pytest.mark.parametrize("unscoped", ["serve", "empty"])
@pytest.mark.parametrize("created", [None, "null", '"yesterday"', "253402300800"])
def test_a_payment_method_without_a_valid_time_is_kept(
    unscoped: Literal["serve", "empty"], created: str | None
) -> None:
    with Emulator(customers=0, unscoped_payment_methods=unscoped) as emulator:
        emulator.add("customer", id="cus_1")
        emulator.add("payment_method", id="pm_1", customer="cus_1", type="card")
        emulator.add("payment_method", id="pm_2", customer="cus_1", type="card")
        edit(emulator, "payment_method", "pm_2", "created", created)
        config = config_of(emulator, start_date="2020-01-01T00:00:00Z")
        records = read(config, "payment_methods").records["payment_methods"]
        assert sorted(record["id"] for record in records) == ["pm_1", "pm_2"]
        [odd] = [record for record in records if record["id"] == "pm_2"]
        assert odd.get("created") is None
