"""Lists that would never end: a broken answer, whoever asked for the page."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from stripe_alloy.api import client as transport
from stripe_alloy.api import errors, nested_lists
from stripe_alloy.api import list_endpoint as lists
from stripe_alloy.api.client import MAX_ATTEMPTS
from stripe_alloy.api.responses import OnePage, Trail
from stripe_alloy.emulator import Emulator
from tests.conftest import config_of, read

EMPTY = {"object": "list", "data": [], "has_more": True}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BASE_DELAY", 0.001)
    monkeypatch.setattr(transport, "MAX_DELAY", 0.01)


def read_until_it_stops(emulator: Emulator, *streams: str, **options: Any) -> None:
    state = options.pop("state", None)
    with pytest.raises(errors.StripeUnavailable, match=r"a page that|an empty page"):
        read(config_of(emulator, **options), *streams, state=state)


@pytest.mark.parametrize(
    ("stream", "path"),
    [("charges", "/v1/charges"), ("events", "/v1/events"), ("customers", "/v1/customers")],
)
def test_an_empty_page_that_has_more_is_no_end_of_a_list(
    account: Emulator, stream: str, path: str
) -> None:
    account.faults.add("answer", path, body=EMPTY, times=None)
    read_until_it_stops(account, stream)
    assert len([r for r in account.requests if r.path == path]) == MAX_ATTEMPTS


def test_an_empty_page_that_has_more_is_asked_for_again(account: Emulator) -> None:
    account.faults.add("answer", "/v1/charges", body=EMPTY, times=3)
    output = read(config_of(account), "charges")
    assert sorted(output.ids("charges")) == sorted(account.ids("charge"))


def test_empty_pages_of_events_end_the_run_and_keep_the_bookmark(account: Emulator) -> None:
    first = read(config_of(account), "charges")
    account.faults.add("answer", "/v1/events", body=EMPTY, times=None)
    read_until_it_stops(account, "charges", state=first.state)


def test_empty_pages_of_accounts_end_the_run() -> None:
    with Emulator(customers=1, accounts=2) as emulator:
        emulator.faults.add("answer", "/v1/accounts", body=EMPTY, times=None)
        read_until_it_stops(emulator, "charges", account_ids=["all"])


def test_empty_pages_of_clocks_end_the_run(account: Emulator) -> None:
    path = "/v1/test_helpers/test_clocks"
    account.faults.add("answer", path, body=EMPTY, times=None)
    read_until_it_stops(account, "customers", include_test_clocks=True)


def test_empty_pages_of_a_customers_payment_methods_end_the_run() -> None:
    with Emulator(customers=3, unscoped_payment_methods="empty") as emulator:
        path = "/v1/customers/*/payment_methods"
        emulator.faults.add("answer", path, body=EMPTY, times=None)
        read_until_it_stops(emulator, "payment_methods")


@pytest.mark.parametrize("path", ["/v1/charges", "/v1/payment_methods", "/v1/events"])
@pytest.mark.parametrize("pages", [1, 2, 3])
def test_pages_that_repeat_end_the_run(
    account: Emulator, small_pages: None, path: str, pages: int
) -> None:
    stream = path.rpartition("/")[2]
    account.faults.add("cycle", path, pages=pages, times=None)
    read_until_it_stops(account, stream)


def test_lines_that_repeat_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested_lists, "PAGE_SIZE", 5)
    with Emulator(customers=40) as emulator:
        emulator.faults.add("cycle", "/v1/invoices/*/lines", pages=2, times=None)
        read_until_it_stops(emulator, "invoices", "invoice_line_items")


def test_changes_that_repeat_end_the_run(
    account: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url})
    first = read(config_of(account), "customers")
    account.clock_advance(3_600)
    account.bulk(20)
    client.v1.customers.create({"name": "A"})
    monkeypatch.setattr(lists, "PAGE_SIZE", 3)
    account.faults.add("cycle", "/v1/events", pages=2, times=None)
    read_until_it_stops(account, "customers", state=first.state)


def test_a_cursor_that_is_always_lost_ends_the_run(account: Emulator, small_pages: None) -> None:
    error = {"type": "invalid_request_error", "code": "resource_missing"}
    body = {"error": {**error, "param": "starting_after", "message": "No such payment_method"}}
    account.faults.add(
        "answer", "/v1/payment_methods", status=400, body=body, times=None, paged=True
    )
    with pytest.raises(errors.InvalidRequestError, match="starting_after"):
        read(config_of(account), "payment_methods")


@pytest.mark.parametrize("length", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("before", [0, 1, 5, 50])
def test_a_circle_of_any_length_is_noticed(before: int, length: int) -> None:
    trail = Trail()
    assert not any(trail.meets(f"once_{n}") for n in range(before))
    turns = 3 + before // length
    assert any(trail.meets(f"again_{n % length}") for n in range(2 * turns * length))


def test_cursors_that_never_repeat_are_no_circle() -> None:
    trail = Trail()
    assert not any(trail.meets(f"ch_{n}") for n in range(10_000))


def test_the_last_page_may_end_anywhere() -> None:
    page = {"object": "list", "data": [{"id": "ch_1"}], "has_more": False}
    assert OnePage("ch_1").problem(page) is None
