"""Several accounts, one of which does not let the key in: it is named, the others finish."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import stripe

from stripe_alloy.api import errors
from stripe_alloy.emulator import Emulator
from tests.conftest import Command, config_of, read

DENIED: dict[str, Any] = {"status": 403, "code": "account_invalid", "type": "invalid_request_error"}


@pytest.fixture
def platform() -> Iterator[Emulator]:
    """A platform with three connected accounts."""
    with Emulator(customers=6, accounts=3) as emulator:
        yield emulator


def test_the_others_are_read_to_their_end(platform: Emulator, command: Command) -> None:
    one, revoked, other = platform.account_ids
    platform.revoke_access(revoked)
    run = command.run(config=config_of(platform, account_ids=[one, revoked, other]))
    assert run.exit_code == 1
    assert f"Account {revoked} was not read" in run.errors
    assert "Traceback" not in run.errors
    assert run.ids("charges") == Counter(
        found for account in (one, other) for found in platform.ids("charge", account)
    )


def test_its_bookmark_stays_and_it_goes_on_once_it_lets_us_in_again(platform: Emulator) -> None:
    config = config_of(platform, account_ids=platform.account_ids)
    first = read(config, "customers")
    revoked = platform.account_ids[1]
    platform.clock_advance(3_600)
    options: stripe.RequestOptions = {"stripe_account": revoked}
    client = stripe.StripeClient(platform.api_key, base_addresses={"api": platform.url})
    made = client.v1.customers.create({"name": "A"}, options).id
    platform.revoke_access(revoked)
    with pytest.raises(errors.AccountsRefused, match=revoked):
        read(config, "customers", state=first.state)
    platform.restore_access(revoked)
    last = read(config, "customers", state=first.state)
    assert list(last.ids("customers")) == [made]


@pytest.mark.parametrize("after", [1, 3, 6])
def test_one_that_refuses_midway_does_not_stop_the_others(platform: Emulator, after: int) -> None:
    one, revoked, other = platform.account_ids
    platform.faults.add("status", "/v1/", times=None, account=revoked, after=after, **DENIED)
    with pytest.raises(errors.AccountsRefused) as caught:
        read(config_of(platform, account_ids=[one, revoked, other]))
    assert revoked in str(caught.value)
    assert one not in str(caught.value)


def test_all_accounts_go_on_without_the_revoked(platform: Emulator, command: Command) -> None:
    revoked = platform.account_ids[0]
    platform.revoke_access(revoked)
    run = command.run(config=config_of(platform, account_ids=["all"]))
    assert run.exit_code == 1
    assert len(run.ids("invoices")) == sum(
        platform.count("invoice", account) for account in platform.account_ids[1:]
    )


def test_a_single_account_that_refuses_is_named(platform: Emulator) -> None:
    revoked = platform.account_ids[0]
    platform.revoke_access(revoked)
    with pytest.raises(errors.AccountAccessError, match=revoked):
        read(config_of(platform, account_ids=[revoked]), "customers")


def test_another_process_may_revoke_access(platform: Emulator) -> None:
    revoked = platform.account_ids[0]
    control = f"{platform.url}/_emulator/accounts"
    asked = {"Authorization": f"Bearer {platform.api_key}", "Stripe-Account": revoked}
    assert requests.post(control, timeout=9, json={"revoke": revoked}).status_code == 200
    assert requests.get(f"{platform.url}/v1/charges", headers=asked, timeout=9).status_code == 403
    assert requests.post(control, timeout=9, json={"restore": revoked}).status_code == 200
    assert requests.get(f"{platform.url}/v1/charges", headers=asked, timeout=9).status_code == 200
