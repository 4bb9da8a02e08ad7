"""The request budget, with a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stripe_alloy.api.rate_limiter import HEADROOM, RateLimiter, budget_for

CHARGES = "GET /v1/charges"


def turns(
    budget: RateLimiter, count: int, endpoint: str = CHARGES, now: float = 0.0
) -> list[float]:
    """When each of `count` requests may go, all asked for at `now`."""
    return [now + budget.reserve(None, endpoint, now) for _ in range(count)]


def last_turn(budget: RateLimiter, *, endpoints: int, each: int) -> float:
    """When the last may go of requests to several endpoints in turn, all asked for at 0."""
    turn = 0.0
    for _ in range(each):
        for number in range(endpoints):
            turn = max(turn, budget.reserve(None, f"GET /v1/{number}", 0.0))
    return turn


def test_an_endpoint_gets_25_a_second() -> None:
    assert turns(RateLimiter(100), 51)[-1] == pytest.approx(50 / (25 * HEADROOM))


def test_ids_of_one_operation_share_their_turns() -> None:
    budget = RateLimiter(100)
    budget.reserve(None, CHARGES, 0.0)
    assert budget.reserve(None, CHARGES, 0.0) > 0


def test_all_endpoints_together_get_the_accounts_limit() -> None:
    last = last_turn(RateLimiter(100), endpoints=10, each=20)
    assert last == pytest.approx(199 / (100 * HEADROOM))


def test_who_waits_for_his_endpoint_keeps_no_other_from_its_turn() -> None:
    budget = RateLimiter(100)
    turns(budget, 20)
    assert budget.reserve(None, "GET /v1/refunds", 0.0) == pytest.approx(20 / (100 * HEADROOM))


def test_another_account_has_turns_of_its_own() -> None:
    budget = RateLimiter(100)
    turns(budget, 50)
    assert budget.reserve("acct_2", CHARGES, 0.0) == 0


@pytest.mark.parametrize(
    ("key", "own", "per_second"),
    [
        ("sk_live_1", None, 100),
        ("rk_live_1", None, 100),
        ("sk_test_1", None, 25),
        ("sk_live_1", 10, 10),
        ("sk_live_1", 400, 400),
    ],
)
def test_the_limit_is_that_of_the_keys_mode_or_the_users(
    key: str, own: float | None, per_second: float
) -> None:
    last = last_turn(budget_for(key, own), endpoints=40, each=10)
    assert last == pytest.approx(399 / (per_second * HEADROOM), rel=0.01)


def test_an_endpoints_429_slows_only_that_endpoint() -> None:
    budget = RateLimiter(100)
    budget.slow_down(None, CHARGES, "endpoint-rate", 0.0)
    assert turns(budget, 11)[-1] > 10 / (25 * HEADROOM)
    assert turns(budget, 11, "GET /v1/refunds", 9.0)[-1] - 9.0 < 10 / 24


@pytest.mark.parametrize("reason", ["global-rate", "global-concurrency"])
def test_a_global_429_slows_the_whole_account(reason: str) -> None:
    budget = RateLimiter(25, documented=25)
    budget.slow_down(None, CHARGES, reason, 0.0)
    assert turns(budget, 11, "GET /v1/refunds")[-1] > 10 / (25 * HEADROOM)


def test_a_resources_own_429_slows_nothing() -> None:
    budget = RateLimiter(100)
    budget.slow_down(None, CHARGES, "resource-specific", 0.0)
    assert turns(budget, 11)[-1] == pytest.approx(10 / (25 * HEADROOM))


def test_429s_that_were_under_way_together_count_once() -> None:
    budget, other = RateLimiter(100), RateLimiter(100)
    for moment in (0.0, 0.1, 0.2):
        budget.slow_down(None, CHARGES, "endpoint-rate", moment)
    other.slow_down(None, CHARGES, "endpoint-rate", 0.0)
    assert turns(budget, 5) == turns(other, 5)


def test_it_recovers() -> None:
    budget = RateLimiter(100)
    for second in range(0, 20, 2):
        budget.slow_down(None, CHARGES, "endpoint-rate", float(second))
    slow = turns(budget, 2, now=20.0)
    budget.reserve(None, CHARGES, 80.0)
    budget.reserve(None, CHARGES, 90.0)
    assert slow[1] - slow[0] > 2 / (25 * HEADROOM)
    assert budget.reserve(None, CHARGES, 90.0) == pytest.approx(1 / (25 * HEADROOM))


def test_without_a_limit_nothing_waits() -> None:
    assert turns(RateLimiter(None), 1000)[-1] == 0


def test_without_a_limit_a_429_still_slows_down() -> None:
    budget = RateLimiter(None)
    budget.slow_down(None, CHARGES, "endpoint-rate", 0.0)
    assert turns(budget, 100)[-1] > 0.5


@given(
    asked=st.lists(st.floats(0, 5), min_size=1, max_size=80).map(sorted),
    refused=st.sets(st.integers(0, 79)),
)
def test_no_second_ever_holds_more_turns_than_the_limit(
    asked: list[float], refused: set[int]
) -> None:
    budget = RateLimiter(20, documented=20)
    taken = []
    for number, now in enumerate(asked):
        taken.append(now + budget.reserve(None, CHARGES, now))
        if number in refused:
            budget.slow_down(None, CHARGES, "endpoint-rate", now)
    for start in taken:
        assert sum(start <= at < start + 1 for at in taken) <= 20
