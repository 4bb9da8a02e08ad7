"""Rate limits."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest
import stripe

from stripe_alloy.emulator import Emulator
from stripe_alloy.emulator.errors import ApiError
from stripe_alloy.emulator.rate_limits import Limits
from tests.emulator.helpers import client_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def spend(limits: Limits, account: str, endpoint: str, count: int) -> None:
    for _ in range(count):
        with limits.admit(account, endpoint):
            pass


def reason(attempt: Callable[[], None]) -> str:
    with pytest.raises(ApiError) as caught:
        attempt()
    assert caught.value.status == 429
    return caught.value.headers["Stripe-Rate-Limited-Reason"]


def test_a_sandbox_takes_25_a_second() -> None:
    limits = Limits("test", Time())
    for n in range(25):
        spend(limits, "acct", f"GET /v1/{n}", 1)
    assert reason(lambda: spend(limits, "acct", "GET /v1/other", 1)) == "global-rate"


def test_live_mode_takes_25_a_second_on_one_endpoint() -> None:
    limits = Limits("live", Time())
    spend(limits, "acct", "GET /v1/charges", 25)
    assert reason(lambda: spend(limits, "acct", "GET /v1/charges", 1)) == "endpoint-rate"


def test_live_mode_takes_100_a_second_in_all() -> None:
    limits = Limits("live", Time())
    for n in range(4):
        spend(limits, "acct", f"GET /v1/{n}", 25)
    assert reason(lambda: spend(limits, "acct", "GET /v1/other", 1)) == "global-rate"


def test_accounts_do_not_share() -> None:
    limits = Limits("test", Time())
    spend(limits, "acct_1", "GET /v1/charges", 25)
    spend(limits, "acct_2", "GET /v1/charges", 25)


def test_tokens_flow_in_again() -> None:
    time = Time()
    limits = Limits("test", time)
    spend(limits, "acct", "GET /v1/charges", 25)
    time.now += 0.2
    spend(limits, "acct", "GET /v1/charges", 5)
    assert reason(lambda: spend(limits, "acct", "GET /v1/charges", 1)) == "global-rate"


def test_too_many_at_once_are_refused() -> None:
    time = Time()
    limits = Limits("test", time)
    held = []
    for _ in range(2):
        time.now += 1
        for _ in range(25):
            held.append(limits.admit("acct", "GET /v1/charges"))
            held[-1].__enter__()
    assert reason(lambda: spend(limits, "acct", "GET /v1/x", 1)) == "global-concurrency"


def test_without_a_plan_nothing_is_refused() -> None:
    spend(Limits(None, Time()), "acct", "GET /v1/charges", 1000)


def refusal(ask: Callable[[], object]) -> Mapping[str, str]:
    """Ask until the answer is 429; its headers."""
    for _ in range(200):
        try:
            ask()
        except stripe.RateLimitError as refused:
            return refused.headers or {}
        except stripe.InvalidRequestError:
            continue
    raise AssertionError("200 requests, and not one was refused")


def test_a_refusal_tells_its_reason_over_http() -> None:
    with Emulator(customers=0, limits="test") as emu:
        client = client_of(emu)
        headers = refusal(client.v1.charges.list)
    assert headers["Stripe-Rate-Limited-Reason"] == "global-rate"
    assert headers["Stripe-Should-Retry"] == "true"


def test_all_ids_of_an_operation_share_its_limit() -> None:
    with Emulator(customers=0, limits="live") as emu:
        client = client_of(emu)
        numbers = count()
        headers = refusal(lambda: client.v1.charges.retrieve(f"ch_{next(numbers)}"))
    assert headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"


def test_all_searches_share_a_limit() -> None:
    limits = Limits("test", Time())
    spend(limits, "acct", "GET /v1/customers/search", 12)
    spend(limits, "acct", "GET /v1/charges/search", 8)
    assert reason(lambda: spend(limits, "acct", "GET /v1/prices/search", 1)) == "endpoint-rate"
    spend(limits, "acct", "GET /v1/prices", 5)
