"""What is not the answer that was asked for is asked for again, and nothing follows from it."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from stripe_alloy.api import client as transport
from stripe_alloy.api import errors
from stripe_alloy.emulator import Emulator
from tests.conftest import Output, config_of, read

OLDER = "2022-11-15"
HTML = "<html><h1>404 Not Found</h1></html>"
ERROR = {"type": "invalid_request_error", "message": "No such customer: 'cus_other'"}
NOT_FOUND: list[Any] = [
    HTML,
    "",
    {"error": "not found"},
    {"error": {"code": 404, "message": "Not Found"}},
    {"error": {"code": "resource_missing"}},
    {"error": {**ERROR, "message": "Unrecognized request URL (GET: /v1/customers)."}},
    {"error": {**ERROR, "code": "resource_missing", "param": "id"}},
]
OTHERS: list[Any] = [
    {"id": "cus_other", "object": "customer", "deleted": True},
    {"id": "cus_other", "object": "customer", "created": 1},
    {"id": "CUS", "object": "charge", "deleted": True},
    {"id": "CUS", "deleted": True},
    {"object": "customer", "deleted": True},
    {"object": "list", "data": [], "has_more": False},
]
NO_LISTS: list[Any] = [
    {"object": "customer", "id": "cus_1"},
    {"object": "list", "has_more": False},
    {"object": "list", "data": None, "has_more": False},
    {"object": "list", "data": {}, "has_more": False},
    {"object": "list", "data": []},
    {"object": "list", "data": [], "has_more": None},
    {"object": "list", "data": ["cus_1"], "has_more": False},
    {"object": "list", "data": [{"object": "customer"}], "has_more": False},
    {"object": "list", "data": [{"object": "customer", "id": 5}], "has_more": False},
    {"object": "list", "data": [None], "has_more": False},
    {"object": "lists", "data": [], "has_more": False},
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BASE_DELAY", 0.001)
    monkeypatch.setattr(transport, "MAX_DELAY", 0.01)


@pytest.fixture
def older() -> Any:
    """An account whose events are of another version, so that what changed is retrieved."""
    with Emulator(customers=3, account_api_version=OLDER) as emulator:
        yield emulator


def changed(emulator: Emulator) -> tuple[str, Output]:
    """A customer, and the run before it changed."""
    client = stripe.StripeClient(emulator.api_key, base_addresses={"api": emulator.url})
    customer = emulator.ids("customer")[0]
    first = read(config_of(emulator), "customers")
    emulator.clock_advance(3_600)
    client.v1.customers.update(customer, {"name": "New"})
    return customer, first


@pytest.mark.parametrize("body", NOT_FOUND)
def test_a_404_that_is_not_stripes_makes_no_tombstone(older: Emulator, body: Any) -> None:
    customer, first = changed(older)
    older.faults.add("answer", f"/v1/customers/{customer}", status=404, body=body, times=2)
    second = read(config_of(older), "customers", state=first.state)
    rows = [(row["id"], row["name"], row["deleted"]) for row in second.records["customers"]]
    assert rows == [(customer, "New", False)]


@pytest.mark.parametrize("body", NOT_FOUND)
def test_such_a_404_for_ever_stops_the_run_with_a_line_that_names_all(
    older: Emulator, body: Any
) -> None:
    customer, first = changed(older)
    older.faults.add("answer", f"/v1/customers/{customer}", status=404, body=body, times=None)
    with pytest.raises(errors.StripeUnavailable) as caught:
        read(config_of(older), "customers", state=first.state)
    assert f"/v1/customers/{customer}" in str(caught.value)
    assert "customers" in str(caught.value).split(":")[0]


@pytest.mark.parametrize("body", OTHERS)
def test_another_object_than_the_one_asked_for_is_no_answer(older: Emulator, body: Any) -> None:
    customer, first = changed(older)
    body = {key: customer if value == "CUS" else value for key, value in body.items()}
    older.faults.add("answer", f"/v1/customers/{customer}", body=body, times=2)
    second = read(config_of(older), "customers", state=first.state)
    rows = [(row["id"], row["name"], row["deleted"]) for row in second.records["customers"]]
    assert rows == [(customer, "New", False)]


def test_stripes_own_404_of_just_that_object_makes_a_tombstone(older: Emulator) -> None:
    customer, first = changed(older)
    error = {**ERROR, "code": "resource_missing", "message": f"No such customer: '{customer}'"}
    path = f"/v1/customers/{customer}"
    older.faults.add("answer", path, status=404, body={"error": error}, times=None)
    second = read(config_of(older), "customers", state=first.state)
    assert [(r["id"], r["deleted"]) for r in second.records["customers"]] == [(customer, True)]


@pytest.mark.parametrize("path", ["/v1/charges", "/v1/events", "/v1/payment_methods"])
@pytest.mark.parametrize("body", NO_LISTS)
def test_what_is_no_list_is_no_page(account: Emulator, body: Any, path: str) -> None:
    config = config_of(account)
    streams = ("charges", "payment_methods", "events")
    account.faults.add("answer", path, body=body, times=2)
    output = read(config, *streams)
    expected = {stream: account.count(stream) for stream in streams}
    assert {stream: len(output.records[stream]) for stream in streams} == expected


@pytest.mark.parametrize("body", NO_LISTS[:3])
def test_what_is_no_list_for_ever_stops_the_run(account: Emulator, body: Any) -> None:
    account.faults.add("answer", "/v1/charges", body=body, times=None)
    with pytest.raises(errors.StripeUnavailable, match=r"charges.*GET /v1/charges"):
        read(config_of(account), "charges")


def test_a_proxys_403_is_no_missing_permission(account: Emulator) -> None:
    account.faults.add("answer", "/v1/charges", status=403, body="<html>WAF</html>", times=2)
    output = read(config_of(account), "charges")
    assert len(output.records["charges"]) == account.count("charge")


def test_a_proxys_404_for_the_rest_of_a_nested_list_drops_nothing() -> None:
    with Emulator(customers=40) as emulator:
        emulator.faults.add("answer", "/v1/invoices/*/lines", status=404, body=HTML, times=3)
        output = read(config_of(emulator), "invoices", "invoice_line_items")
        assert len(output.records["invoices"]) == emulator.count("invoice")
        assert len(output.records["invoice_line_items"]) == emulator.count("line_item")
