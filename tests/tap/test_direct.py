"""Pages that are written as they come: the same records, byte for byte, as the long way makes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.list_endpoint import truncated_list
from stripe_alloy.api.object_type import ObjectType
from stripe_alloy.api.schemas import nested_lists
from stripe_alloy.emulator import Emulator
from tap_stripe_alloy.records.conversion import Recorder
from tap_stripe_alloy.records.partitions import changed_at
from tap_stripe_alloy.records.pass_through import PassThroughDecoder
from tap_stripe_alloy.records.stream_schemas import stream_schema
from tests.conftest import catalog_of, config_of, read

LISTED = [stream for stream in DEFAULT_TYPES if stream.parent is None]
charge = {"id": "ch_1", "object": "charge", "created": 1}


def page(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "url": "/", "has_more": False, "data": objects}


def of_charges(**settings: Any) -> PassThroughDecoder:
    unix = settings.get("unix", False)
    schema = stream_schema("charges", expand=[], unix=unix)
    return PassThroughDecoder(schema, account_id="acct_1", unix=unix)


@pytest.mark.parametrize("unix", [False, True])
@pytest.mark.parametrize("stream", LISTED, ids=lambda stream: stream.name)
def test_records_are_those_of_the_long_way(
    business: Emulator, stream: ObjectType, unix: bool
) -> None:
    schema = stream_schema(stream.name, expand=[], unix=unix)
    direct = PassThroughDecoder(schema, account_id="acct_1", unix=unix)
    recorder = Recorder(schema, account_id="acct_1", unix=unix)
    compared = 0
    for source in business.objects(stream.object_name):
        content = json.dumps(page([source])).encode()
        if any(truncated_list(source, path) for path in nested_lists(schema)):
            with pytest.raises(msgspec.ValidationError, match="Truncated list"):
                direct.page(content)
            continue
        [record] = direct.page(content).data
        written = msgspec.json.decode(msgspec.json.encode(record))
        assert written == recorder.record(source, changed_at(source))
        compared += 1
    assert compared


@pytest.mark.parametrize("indent", [None, 2])
def test_no_message_is_cut_by_the_lay_out_of_an_answer(indent: int | None) -> None:
    source = {**charge, "metadata": {"note": "two\nlines, é and\r a tab\t"}}
    text = json.dumps(page([source]), indent=indent, ensure_ascii=False).replace("\n", "\r\n")
    [record] = of_charges().page(text.encode()).data
    written = msgspec.json.encode(record)
    assert b"\n" not in written
    assert b"\r" not in written
    assert json.loads(written)["metadata"] == source["metadata"]


@pytest.mark.parametrize(
    "more",
    [
        {"shiny": 1},
        {"refunds": {"object": "list", "url": "/", "has_more": True, "data": []}},
        {"created": "yesterday"},
        {"created": None},
        {"id": None},
    ],
    ids=str,
)
def test_what_is_not_as_foreseen_goes_the_long_way(more: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        of_charges().page(json.dumps(page([{**charge, **more}])).encode())


def test_what_is_no_utf_8_is_no_page() -> None:
    content = json.dumps(page([{**charge, "description": "?"}])).encode().replace(b"?", b"\xff")
    with pytest.raises(UnicodeDecodeError):
        of_charges().page(content)


def test_absent_stays_absent_and_null_stays_null() -> None:
    source = {**charge, "description": None}
    [record] = of_charges(unix=True).page(json.dumps(page([source])).encode()).data
    added = {"updated": 1, "deleted": False, "_account_id": "acct_1"}
    assert json.loads(msgspec.json.encode(record)) == {**source, **added}


def test_only_streams_that_need_it_take_the_long_way(business: Emulator) -> None:
    """A mask and a map on customers change nothing in how charges go, nor what they are."""
    maps = {"products": {"name": "name.upper()"}}
    config = config_of(business, stream_maps=maps)
    catalog = catalog_of(config, "charges", "customers", "products")
    for entry in catalog["streams"]:
        for row in entry["metadata"]:
            if row["breadcrumb"] == ["properties", "email"]:
                row["metadata"]["selected"] = False
    output = read(config, catalog=catalog)
    assert all("email" not in record for record in output.records["customers"])
    assert all(record["name"].isupper() for record in output.records["products"])
    plain = read(config_of(business), "charges")
    assert sorted(map(repr, output.records["charges"])) == sorted(
        map(repr, plain.records["charges"])
    )
