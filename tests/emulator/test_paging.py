"""Paging as a property: any limit, any window, the same rows as the store's own filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.clock import SEED_END
from tests.emulator.helpers import get

if TYPE_CHECKING:
    import stripe

    from stripe_alloy.emulator import Emulator

MOMENTS = st.integers(SEED_END - 730 * DAY, SEED_END)
PATHS = {"refunds": "/v1/refunds", "customers": "/v1/customers", "payouts": "/v1/payouts"}
OPTIONS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def walk(client: stripe.StripeClient, path: str, limit: int, window: dict[str, int]) -> list[str]:
    ids: list[str] = []
    params: dict[str, Any] = {"limit": limit, "created": window}
    while True:
        page = get(client, path, **params)
        ids += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            return ids
        params["starting_after"] = ids[-1]


def walk_back(client: stripe.StripeClient, path: str, limit: int, last: str) -> list[str]:
    ids: list[str] = []
    cursor = last
    while True:
        page = get(client, path, limit=limit, ending_before=cursor)
        ids = [row["id"] for row in page["data"]] + ids
        if not page["has_more"]:
            return ids
        cursor = ids[0]


@OPTIONS
@given(st.sampled_from(sorted(PATHS)), st.integers(9, 100), MOMENTS, MOMENTS)
def test_pages_of_a_window_hold_exactly_its_rows(
    business: Emulator, reader: stripe.StripeClient, stream: str, limit: int, one: int, other: int
) -> None:
    start, end = sorted((one, other))
    wanted = [r["id"] for r in business.objects(stream) if start <= r["created"] < end]
    assert walk(reader, PATHS[stream], limit, {"gte": start, "lt": end}) == wanted


@OPTIONS
@given(st.integers(7, 100), st.integers(1, 140))
def test_walking_back_gives_the_same_rows(
    business: Emulator, reader: stripe.StripeClient, limit: int, place: int
) -> None:
    ids = business.ids("customers")
    assert walk_back(reader, "/v1/customers", limit, ids[place]) == ids[:place]
