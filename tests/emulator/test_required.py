"""A parameter that is missing is Stripe's 400, wherever it is missing."""

from __future__ import annotations

import contextlib

import pytest
import stripe

from stripe_alloy.emulator import Emulator
from stripe_alloy.emulator.service import TABLE
from tests.emulator.helpers import client_of, error_of

WRITES = sorted(
    {(route.method, route.template) for route in TABLE.routes if route.method == "POST"}
)


@pytest.mark.parametrize(("method", "template"), WRITES)
def test_no_endpoint_breaks_on_an_empty_request(method: str, template: str) -> None:
    with Emulator(customers=6) as emulator:
        path = template.replace("{id}", "nothing")
        with contextlib.suppress(stripe.InvalidRequestError):  # 400 or 404
            client_of(emulator).raw_request(method.lower(), path)


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/subscriptions", "customer"),
        ("/v1/products", "name"),
        ("/v1/prices", "currency"),
        ("/v1/payment_intents", "amount"),
    ],
)
def test_what_is_missing_is_named(path: str, param: str) -> None:
    with Emulator(customers=0) as emulator, pytest.raises(stripe.InvalidRequestError) as caught:
        client_of(emulator).raw_request("post", path)
    body = error_of(caught.value)
    assert (caught.value.http_status, body["code"], body["param"]) == (
        400,
        "parameter_missing",
        param,
    )
