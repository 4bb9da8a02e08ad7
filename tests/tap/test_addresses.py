"""Ids in addresses: whatever characters an id has, the request names just that object."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import stripe

from stripe_alloy.api.client import Response
from stripe_alloy.api.list_endpoint import ListEndpoint
from stripe_alloy.api.nested_lists import NestedLists
from stripe_alloy.api.paths import encoded_in, item_path
from stripe_alloy.api.requests import GetRequest, run
from stripe_alloy.emulator import Emulator
from tests.conftest import config_of, read

OLDER = "2022-11-15"
IDS = [
    "Pro plan $699/month",
    "50%25off",
    "what?x=1",
    "a#b",
    "a/b",
    "a%2Fb",
    "%2e",
    "..",
    ".",
    "ünï ☃",
    "a+b&c=d;e",
    "/v1/customers",
    "line\nbreak",
]


@pytest.fixture
def older() -> Any:
    """An account whose events are of another version, so that what changed is retrieved."""
    with Emulator(customers=3, account_api_version=OLDER) as emulator:
        yield emulator


def change(emulator: Emulator, kind: str, object_id: str, event: str, **fields: Any) -> None:
    with emulator.store.transaction():
        ledger = emulator.service.session(emulator.account_id)
        found = ledger.get(kind, object_id)
        ledger.change(found, **fields)
        ledger.emit(event, found)
        ledger.flush()


@pytest.mark.parametrize("price_id", IDS)
def test_a_changed_price_is_read_under_its_own_id(older: Emulator, price_id: str) -> None:
    product = older.ids("product")[0]
    older.add("price", id=price_id, product=product, currency="usd", unit_amount=100)
    config = config_of(older)
    first = read(config, "prices")
    older.clock_advance(3_600)
    change(older, "price", price_id, "price.updated", nickname="New")
    second = read(config, "prices", state=first.state)
    rows = [(row["id"], row["nickname"], row["deleted"]) for row in second.records["prices"]]
    assert rows == [(price_id, "New", False)]


def test_ids_that_begin_alike_are_told_apart(older: Emulator) -> None:
    product = older.ids("product")[0]
    for price_id in ("a", "a/b", "a#b", "a?b"):
        older.add("price", id=price_id, product=product, currency="usd", unit_amount=100)
    config = config_of(older)
    first = read(config, "prices")
    older.clock_advance(3_600)
    for price_id in ("a", "a/b", "a#b", "a?b"):
        change(older, "price", price_id, "price.updated", nickname=price_id)
    second = read(config, "prices", state=first.state)
    assert {row["id"]: row["nickname"] for row in second.records["prices"]} == {
        price_id: price_id for price_id in ("a", "a/b", "a#b", "a?b")
    }


@pytest.mark.parametrize("customer_id", ["a/b", "50%25off", "what?x=1", "a#b"])
def test_the_payment_methods_of_such_a_customer_are_read(customer_id: str) -> None:
    with Emulator(customers=0, unscoped_payment_methods="empty") as emulator:
        emulator.add("customer", id=customer_id)
        method = emulator.add("payment_method", customer=customer_id, type="card")
        output = read(config_of(emulator), "payment_methods")
        assert list(output.ids("payment_methods")) == [method["id"]]


@pytest.mark.parametrize("object_id", [found for found in IDS if found.strip(".")])
def test_the_emulator_gives_the_object_of_an_encoded_id(empty: Emulator, object_id: str) -> None:
    client = stripe.StripeClient(empty.api_key, base_addresses={"api": empty.url})
    empty.add("product", id=object_id, name="P")
    path = item_path("/v1/products", object_id)
    found: Any = client.raw_request("get", path).data
    assert (found["id"], empty.requests[-1].path) == (object_id, path)


def test_an_id_that_is_encoded_in_a_given_path_stays_as_it_is() -> None:
    assert encoded_in("/v1/customers/50%2525off/sources", ["50%25off"]) == (
        "/v1/customers/50%2525off/sources"
    )


def cut_list(url: str) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": "first"}], "has_more": True, "url": url}


@pytest.mark.parametrize("customer_id", ["a/b", "50%25off", "what?x=1", "a#b"])
def test_a_list_inside_an_expanded_object_with_such_an_id_is_completed(customer_id: str) -> None:
    asked = []

    def send(request: GetRequest) -> Response:
        asked.append(request.path)
        customer = {"id": customer_id, "sources": cut_list(f"/v1/customers/{customer_id}/sources")}
        entry = {"id": "re_2", "customer": customer} if "refunds" in request.path else {"id": "s"}
        body = {"object": "list", "data": [entry], "has_more": False}
        return Response(body, None, 0.0, 0.0, 0.0)

    charge = {
        "id": "ch_1",
        "customer": {
            "id": customer_id,
            "sources": cut_list(f"/v1/customers/{customer_id}/sources"),
        },
        "refunds": cut_list("/v1/charges/ch_1/refunds"),
    }
    listed = ListEndpoint("/v1/charges", expand=["customer", "refunds.data.customer"])
    [complete] = run(NestedLists(listed, None).complete([charge]), send)
    sources = f"{item_path('/v1/customers', customer_id)}/sources"
    assert Counter(asked) == {sources: 2, "/v1/charges/ch_1/refunds": 1}
    assert [source["id"] for source in complete["customer"]["sources"]["data"]] == ["first", "s"]
