"""Streams that are read only if they are selected: read whole, then followed by their events."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.object_type import ObjectType
from stripe_alloy.api.object_types import OBJECT_TYPES
from stripe_alloy.api.params import has_params
from stripe_alloy.api.schemas import generated
from stripe_alloy.emulator import Emulator
from tests.conftest import Command, catalog_of, config_of, read
from tests.tap.histories import Destination, comparable, expected

MORE = [kind for kind in OBJECT_TYPES if not kind.selected_by_default]


def events_of(kind: ObjectType) -> list[str]:
    """The types of events that tell of an object of this kind as it is."""
    known = generated("_event_types")
    return [t for t in known if t.rpartition(".")[0] in kind.event_prefixes]


def add(emulator: Emulator, kind: ObjectType, number: int) -> list[dict[str, Any]]:
    """Objects of a kind, each with an event if Stripe has one for new ones."""
    created = [name for name in events_of(kind) if name.endswith((".created", ".opened"))]
    return [
        emulator.add(kind.object_name, next(iter(created), None), metadata={"number": str(at)})
        for at in range(number)
    ]


def ids_by_client(emulator: Emulator, path: str) -> list[str]:
    """The ids that the official client pages through."""
    client = stripe.StripeClient(emulator.api_key, base_addresses={"api": emulator.url})
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = client.raw_request("get", path, limit=100, **after).data
        found += [entry["id"] for entry in page["data"]]
        if not page["has_more"]:
            return found
        after = {"starting_after": found[-1]}


@pytest.mark.parametrize("kind", MORE, ids=lambda kind: kind.name)
def test_a_full_read_equals_the_clients_paging(empty: Emulator, kind: ObjectType) -> None:
    add(empty, kind, 130)
    before = len(empty.requests)
    output = read(config_of(empty), select=[kind.name])
    assert output.ids(kind.name) == dict.fromkeys(ids_by_client(empty, kind.path), 1)
    pages = [request for request in empty.requests[before:] if request.path == kind.path]
    assert len(pages) == 2 + 2  # ours, then the client's


@pytest.mark.parametrize("kind", MORE, ids=lambda kind: kind.name)
def test_changes_come_by_events(empty: Emulator, kind: ObjectType) -> None:
    destination = Destination()
    known = add(empty, kind, 3)
    config = config_of(empty)
    destination.take(read(config, select=[kind.name]).messages)
    empty.clock_advance(600)
    change(empty, kind, known[0]["id"])
    add(empty, kind, 2)
    empty.clock_advance(600)
    destination.take(read(config, state=destination.state, select=[kind.name]).messages)
    rows = destination.of(kind.name)
    truth = expected(empty, kind.name, [empty.account_id])
    assert {key: comparable(row) for key, row in rows.items()} == {
        key: comparable({**row, "_account_id": rows[key]["_account_id"]})
        for key, row in truth.items()
    }
    assert read(config, state=destination.state, select=[kind.name]).records == {}


def change(emulator: Emulator, kind: ObjectType, object_id: str) -> None:
    """Another value in an object, and an event that has it."""
    event = next(name for name in events_of(kind) if not name.endswith((".created", ".deleted")))
    with emulator.store.transaction():
        session = emulator.service.session(emulator.account_id)
        found = session.get(kind.object_name, object_id)
        session.change(found, livemode=not found["livemode"])
        session.emit(event, found)
        session.flush()


@pytest.mark.parametrize("kind", OBJECT_TYPES, ids=lambda kind: kind.name)
def test_updates_without_an_event_are_declared(kind: ObjectType) -> None:
    updated = {f"{prefix}.updated" for prefix in kind.event_prefixes}
    can_be_updated = kind.parent is None and has_params(f"{kind.params}UpdateParams")
    silent = can_be_updated and not updated & set(generated("_event_types"))
    assert kind.has_silent_updates == silent


@pytest.mark.parametrize("name", ["coupons"])
def test_what_is_deleted_becomes_a_tombstone(empty: Emulator, name: str) -> None:
    client = stripe.StripeClient(empty.api_key, base_addresses={"api": empty.url})
    made = client.v1.coupons.create({"percent_off": 10, "duration": "once"})
    first = read(config_of(empty), select=[name])
    client.v1.coupons.delete(made.id)
    [gone] = read(config_of(empty), state=first.state, select=[name]).records[name]
    assert gone["deleted"]
    assert gone["id"] == made.id


def test_only_the_default_streams_are_read_unless_others_are_selected(
    command: Command, empty: Emulator
) -> None:
    add(empty, MORE[0], 1)
    config = config_of(empty)
    output = command.run(config=config)
    assert set(output.schemas) == {kind.name for kind in DEFAULT_TYPES}
    chosen = command.run(config=config, catalog=catalog_of(config, MORE[0].name))
    assert set(chosen.records) == {MORE[0].name}


def test_the_catalog_says_which_streams_are_selected_by_default(account: Emulator) -> None:
    entries = catalog_of(config_of(account))["streams"]
    by_default = {
        entry["tap_stream_id"]
        for entry in entries
        if next(m for m in entry["metadata"] if not m["breadcrumb"])["metadata"][
            "selected-by-default"
        ]
    }
    assert by_default == {kind.name for kind in DEFAULT_TYPES}
    assert len(entries) == len(OBJECT_TYPES)
