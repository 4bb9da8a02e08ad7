"""Each kind of fault, as a client meets it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import requests
import stripe

from tests.emulator.helpers import client_of, refused

if TYPE_CHECKING:
    from stripe_alloy.emulator import Emulator


def test_status(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("status", status=503)
    with pytest.raises(stripe.APIError) as caught:
        api.v1.charges.list()
    assert caught.value.http_status == 503


def test_status_with_headers(emu: Emulator, api: stripe.StripeClient) -> None:
    headers = {"Retry-After": 3, "Stripe-Should-Retry": "false"}
    emu.faults.add("status", status=429, headers=headers, reason="endpoint-rate")
    with pytest.raises(stripe.RateLimitError) as caught:
        api.v1.charges.list()
    got = caught.value.headers or {}
    assert got["Retry-After"] == "3"
    assert got["Stripe-Rate-Limited-Reason"] == "endpoint-rate"


def test_status_with_a_code(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("status", status=429, code="lock_timeout")
    with refused(429, "lock_timeout"):
        api.v1.charges.list()


def test_a_status_keeps_the_request_from_being_executed(
    emu: Emulator, api: stripe.StripeClient
) -> None:
    before = emu.count("customers")
    emu.faults.add("status", status=500)
    with pytest.raises(stripe.APIError):
        api.v1.customers.create({})
    assert emu.count("customers") == before


def test_cut_before(emu: Emulator, api: stripe.StripeClient) -> None:
    before = emu.count("customers")
    emu.faults.add("cut_before")
    with pytest.raises(stripe.APIConnectionError):
        api.v1.customers.create({})
    assert emu.count("customers") == before


def test_cut_after(emu: Emulator, api: stripe.StripeClient) -> None:
    before = emu.count("customers")
    emu.faults.add("cut_after")
    with pytest.raises(stripe.APIConnectionError):
        api.v1.customers.create({})
    assert emu.count("customers") == before + 1


def test_the_answer_that_was_cut_is_replayed(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("cut_after")
    key: stripe.RequestOptions = {"idempotency_key": "k1"}
    with pytest.raises(stripe.APIConnectionError):
        api.v1.customers.create({"name": "x"}, key)
    made = api.v1.customers.create({"name": "x"}, key)
    assert made.id == emu.ids("customers")[0]


def test_truncate(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("truncate")
    with pytest.raises(stripe.APIConnectionError):
        api.v1.charges.list()


def test_garbage(emu: Emulator) -> None:
    emu.faults.add("garbage")
    headers = {"Authorization": f"Bearer {emu.api_key}"}
    answer = requests.get(emu.url + "/v1/charges", headers=headers, timeout=10)
    assert answer.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


def test_html(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("html")
    with pytest.raises(stripe.APIError, match="Bad Gateway") as caught:
        api.v1.charges.list()
    assert caught.value.http_status == 502


def test_delay(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("delay", seconds=0.1)
    begun = time.monotonic()
    api.v1.charges.list()
    assert time.monotonic() - begun >= 0.1


def test_unknown_field(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("unknown_field", "/v1/charges", field="aura", value=7)
    assert {row["aura"] for row in api.v1.charges.list().data} == {7}


def test_null_field(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("null_field", "/v1/charges", field="billing_details.name")
    assert {row.billing_details.name for row in api.v1.charges.list().data} == {None}


def test_hide(emu: Emulator, api: stripe.StripeClient) -> None:
    one, *others = emu.ids("customers")
    emu.faults.add("hide", "/v1/customers", times=None, ids=[one])
    assert [row.id for row in api.v1.customers.list({"limit": 100}).data] == others
    assert api.v1.customers.retrieve(one).id == one


def test_late_events(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("late_events", seconds=60)
    made = api.v1.customers.create({})
    newest = api.v1.events.list({"limit": 1}).data[0]
    assert newest.data.object["id"] != made.id
    emu.clock_advance(60)
    newest = api.v1.events.list({"limit": 1}).data[0]
    assert newest.data.object["id"] == made.id


def test_a_fault_strikes_as_often_as_told(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("status", times=2)
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            api.v1.charges.list()
    assert api.v1.charges.list().data


def test_a_fault_lets_the_first_pass(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("status", after=2)
    for _ in range(2):
        api.v1.charges.list()
    with pytest.raises(stripe.APIError):
        api.v1.charges.list()


def test_a_fault_keeps_to_its_path(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("status", "/v1/invoices", times=None)
    api.v1.invoice_items.list()
    with pytest.raises(stripe.APIError):
        api.v1.invoices.line_items.list(emu.ids("invoices")[0])


def test_a_path_may_hold_a_star(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("status", "/v1/invoices/*/lines")
    api.v1.invoices.list()
    with pytest.raises(stripe.APIError):
        api.v1.invoices.line_items.list(emu.ids("invoices")[0])


def test_a_fault_keeps_to_its_method(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("status", "/v1/customers", method="POST")
    api.v1.customers.list()
    with pytest.raises(stripe.APIError):
        api.v1.customers.create({})


def test_cleared_faults_are_gone(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("status", times=None)
    emu.faults.clear()
    assert api.v1.charges.list().data


def test_an_unknown_kind_is_refused(emu: Emulator) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        emu.faults.add("earthquake")


def test_the_official_client_retries_a_cut(emu: Emulator) -> None:
    emu.faults.add("cut_before")
    client = stripe.StripeClient(
        emu.api_key, base_addresses={"api": emu.url}, max_network_retries=1
    )
    assert client.v1.charges.list().data


def test_a_cut_is_logged_without_a_status(emu: Emulator) -> None:
    emu.faults.add("cut_before")
    with pytest.raises(stripe.APIConnectionError):
        client_of(emu).v1.charges.list()
    assert emu.requests[-1].status == 0
