"""All payment methods, whether or not the account's list of all serves."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import pytest

from stripe_alloy.emulator import Emulator
from tests.conftest import config_of, read


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
