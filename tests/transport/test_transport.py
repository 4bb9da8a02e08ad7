"""Requests over real HTTP to the emulator, with its faults."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from stripe_alloy.api import errors
from stripe_alloy.api.client import MAX_ATTEMPTS, StripeClient, endpoint_of
from stripe_alloy.api.rate_limiter import RateLimiter
from stripe_alloy.api.schemas import api_version
from stripe_alloy.emulator import Emulator

CHARGES = "/v1/charges"
Connect = Callable[..., StripeClient]


@pytest.fixture
def connect(account: Emulator) -> Iterator[Connect]:
    opened = []

    def connection(**changes: Any) -> StripeClient:
        settings: dict[str, Any] = {
            "api_key": account.api_key,
            "api_url": account.url,
            "api_version": api_version(),
            "budget": RateLimiter(None),
            "max_concurrency": 4,
            "sleep": lambda _: None,
            **changes,
        }
        opened.append(StripeClient(**settings))
        return opened[-1]

    yield connection
    for transport in opened:
        transport.close()


def sent(account: Emulator, path: str = CHARGES) -> list[Any]:
    return [request for request in account.requests if request.path == path]


def test_a_request_carries_version_account_and_key(account: Emulator, connect: Connect) -> None:
    connect().get(CHARGES, account=account.account_id)
    request = sent(account)[-1]
    assert request.stripe_version == api_version()
    assert request.account == account.account_id
    assert request.status == 200


def test_an_answer_knows_stripes_clock(account: Emulator, connect: Connect) -> None:
    account.clock_advance(5_000)
    transport = connect()
    transport.get(CHARGES)
    assert transport.now() == pytest.approx(time.time() + 5_000, abs=3)
    assert transport.get(CHARGES).sent_at == pytest.approx(time.time() + 5_000, abs=3)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("status", {"status": 500}),
        ("status", {"status": 503}),
        ("status", {"status": 409}),
        ("status", {"status": 429}),
        ("cut_before", {}),
        ("cut_after", {}),
        ("truncate", {}),
        ("garbage", {}),
        ("html", {}),
    ],
)
def test_what_a_second_try_can_mend_is_tried_again(
    account: Emulator, connect: Connect, kind: str, options: dict[str, Any]
) -> None:
    account.faults.add(kind, CHARGES, times=2, **options)
    assert connect().get(CHARGES).body["object"] == "list"
    assert len(sent(account)) == 3


def test_the_tries_are_bounded(account: Emulator, connect: Connect) -> None:
    account.faults.add("status", CHARGES, times=None, status=500)
    with pytest.raises(errors.StripeUnavailable, match="try again later"):
        connect().get(CHARGES)
    assert len(sent(account)) == MAX_ATTEMPTS


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequestError),
        (402, errors.InvalidRequestError),
        (401, errors.AuthenticationError),
        (403, errors.MissingPermissionError),
        (404, errors.NotFoundError),
    ],
)
def test_a_refusal_is_final(
    account: Emulator, connect: Connect, status: int, kind: type[errors.StripeError]
) -> None:
    account.faults.add("status", CHARGES, times=None, status=status)
    with pytest.raises(kind):
        connect().get(CHARGES)
    assert len(sent(account)) == 1


def test_stripe_should_retry_true_overrides_the_status(account: Emulator, connect: Connect) -> None:
    account.faults.add("status", CHARGES, status=400, headers={"Stripe-Should-Retry": "true"})
    connect().get(CHARGES)
    assert len(sent(account)) == 2


def test_stripe_should_retry_false_overrides_the_status(
    account: Emulator, connect: Connect
) -> None:
    account.faults.add("status", CHARGES, status=500, headers={"Stripe-Should-Retry": "false"})
    with pytest.raises(errors.StripeUnavailable):
        connect().get(CHARGES)
    assert len(sent(account)) == 1


def test_retry_after_is_waited_for(account: Emulator, connect: Connect) -> None:
    waits: list[float] = []
    account.faults.add("status", CHARGES, status=429, headers={"Retry-After": "7"})
    connect(sleep=waits.append).get(CHARGES)
    assert max(waits) >= 7


def test_waits_are_jittered_and_grow(account: Emulator, connect: Connect) -> None:
    waits: list[float] = []
    account.faults.add("status", CHARGES, times=None, status=500)
    with pytest.raises(errors.StripeUnavailable):
        connect(sleep=waits.append).get(CHARGES)
    assert len(set(waits)) == MAX_ATTEMPTS - 1
    assert all(0 <= wait <= 16 for wait in waits)


def test_a_429_slows_the_budget_down(account: Emulator, connect: Connect) -> None:
    account.faults.add(
        "status", CHARGES, status=429, headers={"Stripe-Rate-Limited-Reason": "endpoint-rate"}
    )
    budget = RateLimiter(100)
    transport = connect(budget=budget)
    transport.get(CHARGES)
    now = time.monotonic() + 100
    budget.reserve(None, "GET " + CHARGES, time.monotonic())
    assert transport.rate_limited == 1
    assert budget.reserve(None, "GET " + CHARGES, now) == 0


def test_an_error_carries_stripes_handles(account: Emulator, connect: Connect) -> None:
    with pytest.raises(errors.NotFoundError) as caught:
        connect().get("/v1/customers/cus_9")
    failure = caught.value.failure
    assert (failure.code, failure.param, failure.type, failure.status) == (
        "resource_missing",
        "id",
        "invalid_request_error",
        404,
    )
    assert str(failure.request_id) in str(caught.value)
    assert "No such customer: 'cus_9'" in str(caught.value)


def test_a_missing_permission_is_named(account: Emulator, connect: Connect) -> None:
    account.keys.add("rk_test_narrow123", {"customer": "read"})
    with pytest.raises(errors.MissingPermissionError) as caught:
        connect(api_key="rk_test_narrow123").get(CHARGES)
    assert caught.value.permission == "rak_charge_read"


def test_no_error_shows_the_key(account: Emulator, connect: Connect) -> None:
    with pytest.raises(errors.AuthenticationError) as caught:
        connect(api_key="sk_test_51Secret").get(CHARGES)
    assert "51Secret" not in str(caught.value)
    assert "51Secret" not in repr(caught.value.failure)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("rk_live_51Abc_d then whsec_AbC123", "rk_live_*** then whsec_***"),
        ("sk_org_live_x9y8z7", "sk_org_live_***"),
        ("the permission rak_charge_read", "the permission rak_charge_read"),
        ("at http://user:hunter2@host/v1", "at http://***@host/v1"),
    ],
)
def test_secrets_in_any_text_are_masked(text: str, masked: str) -> None:
    assert errors.without_secrets(text) == masked
    assert str(errors.SettingsError(text)) == masked


def test_a_dead_address_is_named(connect: Connect) -> None:
    with pytest.raises(errors.StripeUnavailable, match="Check `api_url`") as caught:
        connect(api_url="http://127.0.0.1:9").get(CHARGES)
    assert "http://127.0.0.1:9" in str(caught.value)
    assert "object at 0x" not in str(caught.value)


def test_an_address_that_is_not_stripes_is_named(account: Emulator, connect: Connect) -> None:
    with pytest.raises(errors.StripeError) as caught:
        connect(api_url=f"{account.url}/elsewhere").get(CHARGES)
    assert "404" in str(caught.value.failure.status)


def test_a_read_only_transport_sends_no_write(account: Emulator, connect: Connect) -> None:
    with pytest.raises(errors.SettingsError, match="only reads"):
        connect(read_only=True).request("POST", "/v1/customers", [("name", "A")])
    assert sent(account, "/v1/customers") == []


def test_a_post_without_idempotency_key_is_sent_once(account: Emulator, connect: Connect) -> None:
    account.faults.add("status", "/v1/customers", status=500)
    with pytest.raises(errors.StripeUnavailable):
        connect().request("POST", "/v1/customers", [("name", "A")])
    assert len(sent(account, "/v1/customers")) == 1


def test_a_post_with_idempotency_key_survives_a_lost_answer(
    account: Emulator, connect: Connect
) -> None:
    before = account.count("customer")
    account.faults.add("cut_after", "/v1/customers", method="POST")
    answer = connect().request("POST", "/v1/customers", [("name", "A")], idempotency_key="once")
    assert answer.body["name"] == "A"
    assert account.count("customer") == before + 1


def test_connections_are_kept(account: Emulator, connect: Connect) -> None:
    transport = connect()
    for _ in range(5):
        transport.get(CHARGES)
    assert transport._connections._pool.num_connections == 1


def test_a_proxy_that_the_environment_names_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = b'{"object": "list", "data": [], "has_more": false}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        Thread(target=proxy.handle_request, daemon=True).start()
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        transport = StripeClient(
            api_key="sk_test_x",
            api_url="http://stripe.invalid",
            api_version="2026-01-01",
            budget=RateLimiter(None),
            max_concurrency=1,
        )
        assert transport.get(CHARGES, [("limit", "1")]).body["data"] == []
        transport.close()
    assert asked == [f"http://stripe.invalid{CHARGES}?limit=1"]


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/v1/charges", "GET /v1/charges"),
        ("/v1/charges/ch_1", "GET /v1/charges/:id"),
        ("/v1/invoices/in_1/lines", "GET /v1/invoices/:id/lines"),
        ("/v1/test_helpers/test_clocks", "GET /v1/test_helpers/test_clocks"),
        ("/v1/test_helpers/test_clocks/clock_1", "GET /v1/test_helpers/test_clocks/:id"),
        ("/v1/customers/cus_1/payment_methods", "GET /v1/customers/:id/payment_methods"),
    ],
)
def test_all_ids_of_one_operation_are_one_endpoint(path: str, endpoint: str) -> None:
    assert endpoint_of("GET", path) == endpoint
