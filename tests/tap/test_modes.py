"""Live mode and test mode have the same account id: a state of one is none of the other's."""

from __future__ import annotations

import json
from typing import Any

import pytest
import stripe

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.emulator import Emulator
from tests.conftest import Command, config_of, read


def of_cb5f45d(state: dict[str, Any]) -> dict[str, Any]:
    """The state as it was written before it named the mode."""
    old: dict[str, Any] = json.loads(json.dumps(state))
    for mark in old["bookmarks"].values():
        for part in (mark, *mark.get("partitions", ())):
            for name in ("mode", "shape", "shapes", "start"):
                part.pop(name, None)
    return old


@pytest.mark.parametrize("accounts", [[], ["all"]])
def test_a_state_of_test_mode_is_refused_by_a_live_key(accounts: list[str]) -> None:
    with Emulator(customers=3, accounts=2, live=2) as emulator:
        config = config_of(emulator, account_ids=accounts)
        state = read(config, "customers").state
        with pytest.raises(
            SettingsError, match="belongs to test mode, but `api_key` is a key of live"
        ):
            read({**config, "api_key": emulator.live_key}, "customers", state=state)


def test_a_test_run_between_two_live_ones_writes_nothing(command: Command) -> None:
    with Emulator(customers=3, live=2) as emulator:
        live = config_of(emulator, api_key=emulator.live_key)
        state = read(live, "customers").state
        run = command.run(config=config_of(emulator), state=state)
        assert run.exit_code == 1
        assert run.records == {}
        assert "belongs to live mode" in run.errors
        assert "Traceback" not in run.errors


def test_another_stream_is_refused_as_well() -> None:
    with Emulator(customers=3, live=2) as emulator:
        state = read(config_of(emulator), "customers").state
        with pytest.raises(SettingsError, match="belongs to test mode"):
            read(config_of(emulator, api_key=emulator.live_key), "products", state=state)


def test_live_objects_are_read_with_a_live_key() -> None:
    with Emulator(customers=3, live=2) as emulator:
        output = read(config_of(emulator, api_key=emulator.live_key), "customers")
        assert set(output.ids("customers")) == set(
            emulator.ids("customer", emulator.in_live_mode())
        )


@pytest.mark.parametrize("accounts", [[], ["all"]])
def test_an_earlier_state_is_refused_by_its_events(accounts: list[str]) -> None:
    """It does not name the mode: the event that it met last is none of live mode's."""
    with Emulator(customers=3, accounts=1, live=2) as emulator:
        config = config_of(emulator, account_ids=accounts)
        first = read(config, "customers")
        for account in (None, *emulator.account_ids):
            api = stripe.StripeClient(
                emulator.api_key, base_addresses={"api": emulator.url}, stripe_account=account
            )
            api.v1.customers.create({"name": "New"})
        state = of_cb5f45d(read(config, "customers", state=first.state).state)
        with pytest.raises(SettingsError, match="mode"):
            read({**config, "api_key": emulator.live_key}, "customers", state=state)
        emulator.keys.add("sk_test_rolled")
        rolled = read({**config, "api_key": "sk_test_rolled"}, "customers", state=state)
        assert accounts or rolled.records == {}
        assert rolled.state["bookmarks"]["customers"]["mode"] == "test"


def test_an_earlier_state_that_met_no_event_is_refused_by_another_key() -> None:
    with Emulator(customers=3, live=2) as emulator:
        state = of_cb5f45d(read(config_of(emulator), "customers").state)
        with pytest.raises(SettingsError, match="does not say whether"):
            read(config_of(emulator, api_key=emulator.live_key), "customers", state=state)


def test_an_earlier_state_goes_on_with_its_own_key() -> None:
    with Emulator(customers=3, live=2) as emulator:
        state = of_cb5f45d(read(config_of(emulator), "customers").state)
        since = len(emulator.requests)
        assert read(config_of(emulator), "customers", state=state).records == {}
        assert len(emulator.requests) == since + 1
