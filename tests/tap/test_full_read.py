"""A first run brings everything, whole, in as few requests as there can be."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import jsonschema
import pytest
import stripe

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.emulator import Emulator
from tests.conftest import FullRead, catalog_of, config_of, read

NAMES = [stream.name for stream in DEFAULT_TYPES]
LISTED = [stream for stream in DEFAULT_TYPES if stream.parent is None]
PROBES = 4
"""Requests to learn whether the list of all payment methods can be trusted."""


@pytest.mark.parametrize("stream", DEFAULT_TYPES, ids=lambda stream: stream.name)
def test_every_object_comes_once(full_read: FullRead, business: Emulator, stream: Any) -> None:
    assert full_read.output.ids(stream.name) == Counter(business.ids(stream.object_name))


@pytest.mark.parametrize("stream", LISTED, ids=lambda stream: stream.name)
def test_the_official_client_sees_the_same_objects(
    full_read: FullRead, business: Emulator, stream: Any
) -> None:
    client = stripe.StripeClient(business.api_key, base_addresses={"api": business.url})
    service = getattr(client.v1, stream.name)
    ids: list[str] = []
    for variant in stream.list_variants or ((),):
        params = {"limit": 100, **dict(stream.list_params), **dict(variant)}
        ids += [found.id for found in service.list(params).auto_paging_iter()]
    assert full_read.output.ids(stream.name) == Counter(ids)


@pytest.mark.parametrize("name", NAMES)
def test_every_record_validates_against_its_schema(full_read: FullRead, name: str) -> None:
    schema = full_read.output.schemas[name]
    validator = jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker())
    for record in full_read.output.records[name]:
        errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(record)]
        assert errors == []


@pytest.mark.parametrize("name", NAMES)
def test_every_record_says_whose_it_is_and_when_it_changed(
    full_read: FullRead, business: Emulator, name: str
) -> None:
    for record in full_read.output.records[name]:
        assert record["_account_id"] == business.account_id
        assert record["deleted"] is False
        assert record["updated"].endswith("Z")


@pytest.mark.parametrize("stream", LISTED, ids=lambda stream: stream.name)
def test_hardly_a_request_more_than_there_are_pages(
    full_read: FullRead, business: Emulator, stream: Any
) -> None:
    pages = math.ceil(business.count(stream.object_name) / 100)
    asked = sum(request.path == stream.path for request in full_read.requests)
    probes = PROBES if stream.name == "customers" else 0
    lists_more = max(0, len(stream.list_variants) - 1)
    assert asked - probes - lists_more <= 1.05 * pages


def test_besides_the_pages_only_truncated_lists_and_a_few_probes_are_asked_for(
    full_read: FullRead,
) -> None:
    lists = {stream.path for stream in LISTED}
    others = [request.path for request in full_read.requests if request.path not in lists]
    invoices = full_read.output.records["invoices"]
    needed = [math.ceil((len(record["lines"]["data"]) - 10) / 100) for record in invoices]
    lines = [path for path in others if path.endswith("/lines")]
    items = [path for path in others if path == "/v1/subscription_items"]
    probes = [path for path in others if path.endswith("/payment_methods")]
    assert len(lines) == sum(count for count in needed if count > 0)
    assert len(items) == 1
    assert len(probes) < PROBES
    assert set(others) - {*lines, *items, *probes} == {"/v1/account"}


def test_an_invoice_with_250_lines_yields_250_line_records(full_read: FullRead) -> None:
    lines = Counter(record["invoice"] for record in full_read.output.records["invoice_line_items"])
    assert max(lines.values()) == 250


def test_a_subscription_with_15_items_yields_15_item_records(full_read: FullRead) -> None:
    items = Counter(
        record["subscription"] for record in full_read.output.records["subscription_items"]
    )
    assert max(items.values()) == 15


@pytest.mark.parametrize(("name", "field"), [("invoices", "lines"), ("subscriptions", "items")])
def test_lists_inside_a_record_are_whole(full_read: FullRead, name: str, field: str) -> None:
    records = full_read.output.records[name]
    assert not any(record[field]["has_more"] for record in records)
    assert max(len(record[field]["data"]) for record in records) > 10


def test_canceled_subscriptions_are_there(full_read: FullRead) -> None:
    records = full_read.output.records["subscriptions"]
    assert any(record["status"] == "canceled" for record in records)


def test_schemas_come_before_records(full_read: FullRead) -> None:
    kinds = [message["type"] for message in full_read.output.messages]
    assert set(kinds[: len(NAMES)]) == {"SCHEMA"}
    assert "SCHEMA" not in kinds[len(NAMES) :]


def test_the_last_state_says_that_everything_was_read(full_read: FullRead) -> None:
    bookmarks = full_read.output.state["bookmarks"]
    assert set(bookmarks) == set(NAMES)
    for bookmark in bookmarks.values():
        assert "backfill" not in bookmark
        assert bookmark["replication_key_value"].endswith("Z")


def test_a_second_run_adds_nothing(full_read: FullRead, business: Emulator) -> None:
    again = read(config_of(business), state=full_read.output.state)
    assert again.records == {}
    assert again.state == full_read.output.state


def test_a_child_comes_without_its_parent(business: Emulator) -> None:
    output = read(config_of(business), "invoice_line_items")
    assert list(output.records) == ["invoice_line_items"]
    assert output.ids("invoice_line_items") == Counter(business.ids("line_item"))


def test_a_child_selected_later_is_read_in_full(business: Emulator) -> None:
    config = config_of(business)
    first = read(config, "subscriptions")
    second = read(
        config,
        state=first.state,
        catalog=catalog_of(config, "subscriptions", "subscription_items"),
    )
    assert second.ids("subscription_items") == Counter(business.ids("subscription_item"))
    assert second.ids("subscriptions") == Counter()
