"""`Stripe-Version`: what is refused, and how older versions are rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from stripe_alloy.api.schemas import api_version
from stripe_alloy.emulator import Emulator
from tests.emulator.helpers import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator

ACACIA, BASIL, CLOVER = "2024-12-18.acacia", "2025-03-31.basil", "2025-09-30.clover"
COUPON: dict[str, Any] = {"id": "half", "percent_off": 50, "duration": "once"}


@pytest.fixture(scope="module")
def shop() -> Iterator[Emulator]:
    with Emulator(customers=14, clock=lambda: NOW) as emulator:
        ask(emulator, "/v1/coupons", None, **COUPON)
        yield emulator


def ask(emulator: Emulator, path: str, version: str | None, **form: Any) -> Any:
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    if version:
        headers["Stripe-Version"] = version
    method = "post" if form else "get"
    return requests.request(method, emulator.url + path, headers=headers, data=form, timeout=9)


@pytest.mark.parametrize(
    "version",
    ["2030-01-01.nosuch", "2026-10-28", "2026-10-28.basil", "2025-09-30.preview", "2024-06-21"],
)
def test_an_unknown_version_is_refused(shop: Emulator, version: str) -> None:
    answer = ask(shop, "/v1/customers", version)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["message"] == f"Invalid Stripe API version: {version}"
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("version", ["2011-01-01", "2019-12-03", "2020-08-27"])
def test_a_version_that_is_too_old_is_refused(shop: Emulator, version: str) -> None:
    answer = ask(shop, "/v1/customers", version)
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert f"cannot render Stripe's API version {version}" in message
    assert f"from 2022-11-15 to {api_version()}" in message


@pytest.mark.parametrize("version", [api_version(), "2026-01-28.clover", "2026-08-26.dahlia"])
def test_later_versions_have_the_pinned_shape(shop: Emulator, version: str) -> None:
    for path in ("invoices", "subscriptions", "customers"):
        assert ask(shop, f"/v1/{path}", version).json() == ask(shop, f"/v1/{path}", None).json()


@pytest.mark.parametrize("version", ["2022-11-15", "2024-06-20", ACACIA])
def test_former_fields_are_in_lists(shop: Emulator, version: str) -> None:
    now = {row["id"]: row for row in ask(shop, "/v1/invoices?limit=100", None).json()["data"]}
    old = ask(shop, "/v1/invoices?limit=100", version).json()["data"]
    parents = {key: row["parent"] for key, row in now.items()}
    details = {k: (v or {}).get("subscription_details") or {} for k, v in parents.items()}
    found = {row["id"]: row["subscription"] for row in old}
    assert found == {key: value.get("subscription") for key, value in details.items()}
    assert any(found.values())
    lines = [line for row in old for line in row["lines"]["data"]]
    assert lines
    assert not [line for line in lines if "pricing" in line]
    assert all("parent" not in row for row in old)


def test_former_fields_are_in_single_and_expanded_objects(shop: Emulator) -> None:
    subscription = shop.objects("subscriptions")[0]
    path = f"/v1/subscriptions/{subscription['id']}?expand[]=latest_invoice&expand[]=customer"
    old = ask(shop, path, ACACIA).json()
    item = subscription["items"]["data"][0]
    assert old["current_period_end"] == item["current_period_end"]
    assert old["latest_invoice"]["subscription"] == subscription["id"]
    assert "individual_name" not in old["customer"]
    assert "tax_behavior" not in old["items"]["data"][0]["price"]


def test_former_fields_are_in_answers_of_writes(shop: Emulator) -> None:
    made = ask(shop, "/v1/products", ACACIA, name="Tea").json()
    assert (made["features"], "marketing_features" in made) == ([], False)
    assert "features" not in shop.objects("product")[0]


def test_snapshots_of_events_stay_as_they_were(shop: Emulator) -> None:
    path = "/v1/events?type=invoice.*"
    assert ask(shop, path, ACACIA).json() == ask(shop, path, None).json()


@pytest.mark.parametrize("version", [ACACIA, BASIL])
def test_discounts_contained_their_coupon(shop: Emulator, version: str) -> None:
    shelf = ask(shop, "/v1/customers", None, name="Bo").json()["id"]
    form = {"customer": shelf, "discounts[0][coupon]": "half", "expand[]": "discounts"}
    old = ask(shop, "/v1/invoices", version, **form).json()
    [discount] = old["discounts"]
    assert (discount["coupon"]["percent_off"], "source" in discount) == (50, False)
    [now] = ask(shop, "/v1/invoices", CLOVER, **form).json()["discounts"]
    assert (now["source"]["coupon"], "coupon" in now) == ("half", False)
    assert ("parent" in old) == (version == BASIL)


def test_a_version_may_name_betas(shop: Emulator) -> None:
    answer = ask(shop, "/v1/customers", f"{ACACIA}; some_beta=v1")
    assert answer.status_code == 200
    assert answer.headers["Stripe-Version"] == f"{ACACIA}; some_beta=v1"


def test_without_a_version_the_account_has_its_own() -> None:
    with Emulator(customers=3, account_api_version=ACACIA) as emulator:
        [row, *_] = ask(emulator, "/v1/subscriptions?status=all", None).json()["data"]
        assert "current_period_end" in row
        [row, *_] = ask(emulator, "/v1/subscriptions?status=all", api_version()).json()["data"]
        assert "current_period_end" not in row
