"""Stripe object → record, and the schemas that describe it."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.schemas import generated, nested_lists
from stripe_alloy.api.timestamps import rfc3339, unix_seconds
from stripe_alloy.emulator import Emulator
from stripe_alloy.record_columns import ADDED
from tap_stripe_alloy.expansions import propagate_expand
from tap_stripe_alloy.records.conversion import Recorder, schema_violations, times_of
from tap_stripe_alloy.records.stream_schemas import stream_schema

CHARGE = stream_schema("charges", expand=(), unix=False)


@given(st.integers(0, 4_000_000_000))
def test_a_time_survives_the_way_to_text_and_back(unix: int) -> None:
    assert unix_seconds(rfc3339(unix)) == unix
    assert datetime.fromisoformat(rfc3339(unix).replace("Z", "+00:00")).timestamp() == unix


def test_a_time_without_zone_is_utc() -> None:
    assert unix_seconds("1970-01-01T00:01:00") == 60


def test_a_record_is_the_object_and_four_fields() -> None:
    recorder = Recorder(CHARGE, account_id="acct_1", unix=False)
    record = recorder.record({"id": "ch_1", "created": 60, "metadata": {"created": "x"}}, 120)
    assert record == {
        "id": "ch_1",
        "created": "1970-01-01T00:01:00Z",
        "metadata": {"created": "x"},
        "updated": "1970-01-01T00:02:00Z",
        "deleted": False,
        "_account_id": "acct_1",
    }


def test_a_tombstone_says_what_and_when() -> None:
    recorder = Recorder(CHARGE, account_id=None, unix=True)
    assert recorder.tombstone("ch_1", "charge", 60) == {
        **dict.fromkeys(CHARGE["properties"]),
        "id": "ch_1",
        "object": "charge",
        "updated": 60,
        "deleted": True,
        "_account_id": None,
        "_sdc_deleted_at": 60,
    }


def test_converting_twice_changes_nothing(business: Emulator) -> None:
    schema = stream_schema("subscriptions", expand=(), unix=False)
    times = times_of(schema)
    once = copy.deepcopy(business.objects("subscription")[0])
    times.convert(once)
    twice = copy.deepcopy(once)
    times.convert(twice)
    assert once == twice


def test_money_and_maps_are_left_alone(business: Emulator) -> None:
    recorder = Recorder(CHARGE, account_id=None, unix=False)
    for source in business.objects("charge")[:50]:
        before = copy.deepcopy(source)
        record = recorder.record(source, 0)
        assert record["amount"] == before["amount"]
        assert record["metadata"] == before["metadata"]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"id": "ch_1", "currency": "eur"}, []),
        ({"id": "ch_1", "shiny": 1}, [("shiny", "is new")]),
        ({"billing_details": {"shiny": None}}, [("billing_details.shiny", "is new")]),
        ({"currency": None}, [("currency", "is null")]),
        ({"description": None}, []),
        ({"metadata": {"anything": "goes"}}, []),
    ],
)
def test_what_the_schema_does_not_foresee_is_found(value: Any, found: list[Any]) -> None:
    assert list(schema_violations(value, CHARGE)) == found


@pytest.mark.parametrize("stream", DEFAULT_TYPES, ids=lambda stream: stream.name)
def test_every_schema_has_key_and_replication_key(stream: Any) -> None:
    properties = stream_schema(stream.name, expand=(), unix=False)["properties"]
    assert properties["id"]["type"] == "string"
    assert properties[stream.replication_key]["format"] == "date-time"
    assert set(ADDED) <= set(properties)


@pytest.mark.parametrize("stream", DEFAULT_TYPES, ids=lambda stream: stream.name)
def test_unix_schemas_hold_no_date_time(stream: Any) -> None:
    text = str(stream_schema(stream.name, expand=(), unix=True))
    assert "date-time" not in text


def test_making_a_schema_leaves_the_generated_one_as_it_is() -> None:
    before = copy.deepcopy(generated("charges"))
    stream_schema("charges", expand=["balance_transaction"], unix=True)
    assert generated("charges") == before


def test_lists_inside_objects_are_found_by_the_schema() -> None:
    schema = stream_schema("invoices", expand=(), unix=False)
    assert ("lines",) in nested_lists(schema)


def test_expanding_a_child_expands_its_parents_list() -> None:
    assert propagate_expand({"invoice_line_items": ["discounts"]})["invoices"] == [
        "lines.data.discounts"
    ]


def test_expanding_a_parents_list_expands_the_child() -> None:
    assert propagate_expand({"subscriptions": ["items.data.discounts"]})["subscription_items"] == [
        "discounts"
    ]
