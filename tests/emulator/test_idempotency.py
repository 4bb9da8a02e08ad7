"""Idempotency keys."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import stripe

from stripe_alloy.api.timestamps import DAY
from tests.emulator.helpers import Events, refused

if TYPE_CHECKING:
    from stripe_alloy.emulator import Emulator

KEY: stripe.RequestOptions = {"idempotency_key": "k1"}


def test_a_replay_creates_nothing(emu: Emulator, api: stripe.StripeClient) -> None:
    before = emu.count("customers")
    made = [api.v1.customers.create({"name": "x"}, KEY).id for _ in range(3)]
    assert len(set(made)) == 1
    assert emu.count("customers") == before + 1


def test_a_replay_says_so(api: stripe.StripeClient) -> None:
    api.v1.customers.create({"name": "x"}, KEY)
    headers = api.v1.customers.create({"name": "x"}, KEY).last_response.headers  # type: ignore[union-attr]
    assert headers["Idempotent-Replayed"] == "true"


def test_the_first_answer_is_no_replay(api: stripe.StripeClient) -> None:
    headers = api.v1.customers.create({"name": "x"}, KEY).last_response.headers  # type: ignore[union-attr]
    assert "Idempotent-Replayed" not in headers


def test_other_parameters_are_refused(api: stripe.StripeClient) -> None:
    api.v1.customers.create({"name": "x"}, KEY)
    with pytest.raises(stripe.IdempotencyError) as caught:
        api.v1.customers.create({"name": "y"}, KEY)
    assert caught.value.http_status == 400


def test_another_endpoint_is_refused(api: stripe.StripeClient) -> None:
    api.v1.customers.create({"name": "x"}, KEY)
    with pytest.raises(stripe.IdempotencyError):
        api.v1.products.create({"name": "x"}, KEY)


def test_a_key_is_forgotten_after_a_day(emu: Emulator, api: stripe.StripeClient) -> None:
    first = api.v1.customers.create({"name": "x"}, KEY)
    emu.clock_advance(DAY + 1)
    assert api.v1.customers.create({"name": "y"}, KEY).id != first.id


def test_a_refusal_of_the_execution_is_replayed(emu: Emulator, api: stripe.StripeClient) -> None:
    declined = {"amount": 100, "currency": "usd", "confirm": True}
    events = Events(emu)
    for _ in range(2):
        with refused(402, "card_declined"):
            api.raw_request(
                "post",
                "/v1/payment_intents",
                payment_method="pm_card_chargeDeclined",
                idempotency_key="k1",
                **declined,
            )
    assert events.types().count("charge.failed") == 1


def test_a_refused_parameter_is_not_kept(api: stripe.StripeClient) -> None:
    with refused(400, "parameter_unknown", "nam"):
        api.raw_request("post", "/v1/customers", nam="x", idempotency_key="k1")
    assert api.v1.customers.create({"name": "x"}, KEY).id


def test_a_server_error_is_replayed(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("status", "/v1/customers", status=500, executed=True)
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            api.v1.customers.create({"name": "x"}, KEY)


def test_a_rate_limit_is_not_kept(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("status", "/v1/customers", status=429)
    with pytest.raises(stripe.RateLimitError):
        api.v1.customers.create({"name": "x"}, KEY)
    assert api.v1.customers.create({"name": "x"}, KEY).id


def test_a_key_in_flight_is_refused(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("delay", "/v1/customers", seconds=0.5)
    slow = threading.Thread(target=lambda: api.v1.customers.create({"name": "x"}, KEY))
    slow.start()
    try:
        while not emu.service.answers._running:
            threading.Event().wait(0.005)
        with refused(409, "idempotency_key_in_use"):
            api.v1.customers.create({"name": "x"}, KEY)
    finally:
        slow.join()


def test_accounts_have_keys_of_their_own(emu: Emulator, api: stripe.StripeClient) -> None:
    api.v1.customers.create({"name": "x"}, KEY)
    rows = emu.store.execute("SELECT account, key FROM answers")
    assert rows == [(emu.account_id, "k1")]


def test_an_event_names_the_key(emu: Emulator, api: stripe.StripeClient) -> None:
    events = Events(emu)
    made = api.v1.customers.create({"name": "x"}, KEY)
    request = events.one("customer.created")["request"]
    assert request == {"id": made.last_response.request_id, "idempotency_key": "k1"}  # type: ignore[union-attr]
