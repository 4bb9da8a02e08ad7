"""One object that Stripe refuses to show does not stop the rest; some are gone when detached."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import stripe

from stripe_alloy.api import client as transport
from stripe_alloy.api import errors
from stripe_alloy.emulator import Emulator
from tests.conftest import Output, config_of, read

OLDER = "2022-11-15"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BASE_DELAY", 0.001)
    monkeypatch.setattr(transport, "MAX_DELAY", 0.01)


@pytest.fixture
def older() -> Iterator[Emulator]:
    """An account whose events are of another version, so that what changed is retrieved."""
    with Emulator(customers=12, account_api_version=OLDER) as emulator:
        yield emulator


def client_of(emulator: Emulator) -> stripe.StripeClient:
    return stripe.StripeClient(emulator.api_key, base_addresses={"api": emulator.url})


def run_after(emulator: Emulator, change: Callable[[], object], *streams: str) -> Output:
    first = read(config_of(emulator), *streams)
    emulator.clock_advance(3_600)
    change()
    return read(config_of(emulator), *streams, state=first.state)


def rename_two(emulator: Emulator) -> tuple[str, str]:
    one, other = emulator.ids("customer")[:2]
    for customer in (one, other):
        client_of(emulator).v1.customers.update(customer, {"name": "New"})
    return one, other


@pytest.mark.parametrize("prefix", ["card_", "src_"])
@pytest.mark.parametrize("version", [None, OLDER])
def test_a_card_or_source_is_gone_once_it_is_detached(version: str | None, prefix: str) -> None:
    with Emulator(customers=2, account_api_version=version) as emulator:
        owner = emulator.ids("customer")[0]
        method_id = f"{prefix}1"
        emulator.add("payment_method", id=method_id, customer=owner, type="card")
        output = run_after(
            emulator,
            lambda: client_of(emulator).v1.payment_methods.detach(method_id),
            "payment_methods",
        )
        rows = [(row["id"], row["deleted"]) for row in output.records["payment_methods"]]
        assert rows == [(method_id, True)]
        assert f"/v1/payment_methods/{method_id}" not in [r.path for r in emulator.requests]


@pytest.mark.parametrize("version", [None, OLDER])
def test_another_payment_method_is_still_there_once_it_is_detached(version: str | None) -> None:
    with Emulator(customers=2, account_api_version=version) as emulator:
        method = next(found for found in emulator.objects("payment_method") if found["customer"])
        output = run_after(
            emulator,
            lambda: client_of(emulator).v1.payment_methods.detach(method["id"]),
            "payment_methods",
        )
        row = output.records["payment_methods"][-1]
        assert (row["id"], row["deleted"], row["customer"]) == (method["id"], False, None)


def test_a_source_with_another_event_in_the_second_of_its_end_is_gone(older: Emulator) -> None:
    owner = older.ids("customer")[0]
    older.add("payment_method", id="src_1", customer=owner, type="card")

    def change() -> None:
        client = client_of(older)
        client.v1.payment_methods.update("src_1", {"metadata": {"a": "b"}})
        client.v1.payment_methods.detach("src_1")

    output = run_after(older, change, "payment_methods")
    assert [(r["id"], r["deleted"]) for r in output.records["payment_methods"]] == [("src_1", True)]


def test_a_source_that_changed_before_it_vanished_is_left_as_the_event_tells(
    older: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    customer = older.ids("customer")[0]
    older.add("payment_method", id="src_1", customer=customer, type="card")

    def change() -> None:
        client_of(older).v1.payment_methods.update("src_1", {"metadata": {"a": "b"}})
        with older.store.transaction():
            ledger = older.service.session(older.account_id)
            ledger.remove(ledger.get("payment_method", "src_1"))
            ledger.flush()

    output = run_after(older, change, "payment_methods")
    rows = [(r["id"], r["metadata"], r["deleted"]) for r in output.records["payment_methods"]]
    assert rows == [("src_1", {"a": "b"}, False)]
    told = [text for text in caplog.messages if "A source must be attached" in text]
    assert len(told) == 1
    assert "payment_methods" in told[0]
    assert "src_1" in told[0]


@pytest.mark.parametrize("status", [400, 402, 403, 422])
def test_an_object_that_is_refused_is_left_as_its_event_tells(
    older: Emulator, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    refused = older.ids("customer")[0]
    path, code = f"/v1/customers/{refused}", "object_not_shown"
    older.faults.add("status", path, "GET", status=status, code=code, times=None)
    with caplog.at_level(logging.WARNING):
        output = run_after(older, lambda: rename_two(older), "customers")
    assert {row["id"]: row["name"] for row in output.records["customers"]} == dict.fromkeys(
        older.ids("customer")[:2], "New"
    )
    assert len([text for text in caplog.messages if refused in text and "customers" in text]) == 1


def test_the_bookmark_goes_on_past_a_refused_object(older: Emulator) -> None:
    refused = older.ids("customer")[0]
    older.faults.add("status", f"/v1/customers/{refused}", "GET", status=400, times=None)
    output = run_after(older, lambda: rename_two(older), "customers")
    asked = len(older.requests)
    again = read(config_of(older), "customers", state=output.state)
    assert again.records == {}
    assert len(older.requests) == asked + 1


@pytest.mark.parametrize("status", [401, 500, 503, 404])
def test_a_key_that_is_refused_or_an_outage_is_still_the_runs(older: Emulator, status: int) -> None:
    older.faults.add("status", "/v1/customers/cus_*", "GET", status=status, times=None)
    with pytest.raises(errors.StripeError, match="Stream customers, customer 'cus_"):
        run_after(older, lambda: rename_two(older), "customers")


def test_a_permission_for_the_whole_endpoint_is_still_the_streams(older: Emulator) -> None:
    config = config_of(older)
    first = read(config, "customers", "products")
    older.clock_advance(3_600)
    rename_two(older)
    older.keys.add("rk_test_narrow", {"event": "read", "product": "read"})
    config["api_key"] = "rk_test_narrow"
    with pytest.raises(errors.UnreadableStreamsError, match="customers"):
        read(config, "customers", "products", state=first.state)


def test_an_invoice_whose_lines_are_refused_stops_no_backfill(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Emulator(customers=40) as emulator:
        emulator.faults.add("status", "/v1/invoices/*/lines", status=400, times=None)
        output = read(config_of(emulator), "invoices", "invoice_line_items")
        assert len(output.records["invoices"]) == emulator.count("invoice")
        assert any("stays truncated" in text and "invoices" in text for text in caplog.messages)


def test_every_error_names_stream_and_path(account: Emulator) -> None:
    account.faults.add("status", "/v1/charges", status=401, times=None)
    with pytest.raises(errors.AuthenticationError, match=r"^Stream charges: .*GET /v1/charges\]"):
        read(config_of(account), "charges")
