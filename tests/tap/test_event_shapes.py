"""Events whose outer fields have another shape than the pinned version's."""

from __future__ import annotations

from typing import Any

import jsonschema
import msgspec
import pytest
import stripe

from stripe_alloy.api.events import in_shape, key_of
from stripe_alloy.emulator import Emulator
from target_stripe_alloy.write.journal import Journal, Scope
from tests.conftest import config_of, read

REQUESTS: list[Any] = ["req_old", None, 7, [], {}, {"id": "req_1"}]


def rename(account: Emulator) -> str:
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url})
    customer = account.ids("customer")[0]
    client.v1.customers.update(customer, {"name": "New"})
    return customer


def reshape(account: Emulator, /, **fields: Any) -> None:
    """Give the newest event other fields."""
    event = {**account.objects("event")[0], **fields}
    body = msgspec.json.encode(event).decode()
    account.store.execute(
        "UPDATE objects SET body = ? WHERE object = 'event' AND id = ?", body, event["id"]
    )


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_of_any_shape_comes_in_that_of_the_schema(
    account: Emulator, request_: Any
) -> None:
    config = config_of(account)
    first = read(config, "customers", "events")
    account.clock_advance(3_600)
    customer = rename(account)
    reshape(account, request=request_)
    second = read(config, "customers", "events", state=first.state)
    assert list(second.ids("customers")) == [customer]
    [row] = second.records["events"]
    jsonschema.validate(row, second.schemas["events"])
    if request_ == "req_old":
        assert row["request"] == {"id": "req_old", "idempotency_key": None}


@pytest.mark.parametrize("settings", [{}, {"stream_maps": {"events": {"copy": "id"}}}])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("request", request_) for request_ in REQUESTS),
        ("data", None),
        ("data", {"object": "cus_1"}),
        ("data", {"object": {}, "previous_attributes": ["name"]}),
        ("api_version", 7),
        ("account", {}),
        ("type", None),
    ],
)
def test_a_listed_event_comes_in_the_shape_of_the_schema(
    account: Emulator, settings: dict[str, Any], field: str, value: Any
) -> None:
    rename(account)
    reshape(account, **{field: value})
    changed = account.objects("event")[0]
    # The first page is always taken apart; the others are passed through.
    account.bulk(150)
    output = read(config_of(account, **settings), "events")
    assert set(output.ids("events")) == set(account.ids("event"))
    [row] = [row for row in output.records["events"] if row["id"] == changed["id"]]
    jsonschema.validate(row, output.schemas["events"])
    if value == "req_old":
        assert row["request"] == {"id": "req_old", "idempotency_key": None}


@pytest.mark.parametrize("data", [None, [], "x", {}, {"object": None}, {"object": ["customer"]}])
def test_an_event_about_nothing_stops_nothing(account: Emulator, data: Any) -> None:
    config = config_of(account)
    first = read(config, "customers", "events")
    account.clock_advance(3_600)
    rename(account)
    reshape(account, data=data)
    second = read(config, "customers", "events", state=first.state)
    assert len(second.records["events"]) == 1
    assert "customers" not in second.records


@pytest.mark.parametrize("request_", REQUESTS)
def test_own_writes_are_told_apart_whatever_a_request_looks_like(
    account: Emulator, request_: Any, tmp_path: Any
) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    Journal(url, Scope(account.account_id, live=False, id_mode="copy")).close()
    config = config_of(account, ignore_own_writes=url)
    first = read(config, "customers")
    account.clock_advance(3_600)
    customer = rename(account)
    reshape(account, request=request_)
    second = read(config, "customers", state=first.state)
    assert list(second.ids("customers")) == [customer]


@pytest.mark.parametrize("before", [None, [], "x"])
def test_previous_attributes_of_no_shape_are_left_out(before: Any) -> None:
    event = in_shape({"id": "evt_1", "data": {"object": {}, "previous_attributes": before}})
    assert event["data"] == {"object": {}}


def test_an_id_that_is_no_text_names_no_object() -> None:
    assert key_of({"data": {"object": {"object": "customer", "id": 7}}}) == ("customer", "")
