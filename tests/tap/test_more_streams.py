"""Streams that are read only if they are selected: each in the way that its declaration says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import stripe

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.object_type import ObjectType
from stripe_alloy.api.object_types import BY_NAME, OBJECT_TYPES
from stripe_alloy.api.params import has_params
from stripe_alloy.api.schemas import generated
from stripe_alloy.emulator import Emulator
from stripe_alloy.emulator.emulated_types import parent_id_field
from tap_stripe_alloy.tap import TapStripeAlloy
from tests.conftest import Command, Output, catalog_of, config_of, read
from tests.tap.histories import Destination, comparable, expected

MORE = [kind for kind in OBJECT_TYPES if not kind.selected_by_default]
BY_EVENTS = [kind for kind in MORE if kind.has_events]
NEW_BY_LIST = [kind for kind in MORE if not kind.needs_full_lists and not kind.has_events] + [
    kind for kind in MORE if kind.created_without_event
]
WHOLE = [kind for kind in MORE if kind.needs_full_lists]
CHILDREN = [kind for kind in MORE if kind.listed_by_parent]
SILENT = [kind.name for kind in MORE if kind.has_silent_updates and not kind.needs_full_lists]
HOUR = 3_600


def each(kinds: list[ObjectType]) -> pytest.MarkDecorator:
    """A test for each object type."""
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.name)


def events_of(kind: ObjectType) -> list[str]:
    """The types of events that tell of an object of this kind as it is."""
    known = generated("_event_types")
    return [t for t in known if t.rpartition(".")[0] in kind.event_prefixes]


def event_of_new(kind: ObjectType) -> str | None:
    """The type of the event that tells of a new object, if there is one."""
    return next((t for t in events_of(kind) if t.endswith((".created", ".opened"))), None)


class Objects:
    """Objects of a kind in an emulated account, with the parents that they need."""

    def __init__(self, emulator: Emulator, kind: ObjectType, *, parents: int = 1) -> None:
        self.emulator, self.kind = emulator, kind
        self.of_parents = kind.parent and Objects(emulator, kind.parent)
        self.parents = self.of_parents.add(parents) if self.of_parents else []

    def add(self, number: int, *, event: bool = True) -> list[dict[str, Any]]:
        """Add objects, to the parents in turns; each with an event if Stripe has one for it."""
        made = []
        for at in range(number):
            fields: dict[str, Any] = {
                "metadata": {"number": str(at)},
                **dict(self.kind.list_params),
            }
            if self.parents:
                fields |= self._inside(self.parents[at % len(self.parents)]["id"])
            name = event_of_new(self.kind) if event else None
            made.append(self._make(name, fields))
        if self.kind.parent_field:
            self._nest()
        elif event:
            self.tell_of_parents()
        return made

    def _make(self, event: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        with self.emulator.store.transaction():
            session = self.emulator.service.session(self.emulator.account_id)
            made = session.add(self.kind.object_name, **fields)
            if event:
                session.emit(event, made)
            session.flush()
        return made

    def _inside(self, parent_id: str) -> dict[str, Any]:
        if self.kind.parent_field or self.kind.parent_column:
            private = "_payout" if self.kind.object_name == "balance_transaction" else "_parent"
            return {"private_fields": {private: parent_id}}
        return {parent_id_field(self.kind): parent_id}

    def _nest(self) -> None:
        for parent in self.parents:
            self._changed(parent, nest=True)

    def tell_of_parents(self) -> None:
        """Send an event about each parent, if only these report changes of the objects."""
        if self.kind.listed_by_parent and not self.kind.event_prefixes:
            for parent in self.parents:
                self._changed(parent)

    def _changed(self, parent: dict[str, Any], *, nest: bool = False) -> None:
        assert self.of_parents
        self.of_parents.change(parent["id"], nest=nest)

    def change(self, object_id: str, *, event: bool = True, nest: bool = False) -> None:
        """Change an object, with an event if Stripe has one for it."""
        names = [n for n in events_of(self.kind) if not n.endswith((".created", ".deleted"))]
        names = names or events_of(self.kind)
        with self.emulator.store.transaction():
            session = self.emulator.service.session(self.emulator.account_id)
            found = session.get(self.kind.object_name, object_id)
            if nest:
                session.nest(found)
            else:
                session.change(found, livemode=not found.get("livemode"))
            if event and names:
                session.emit(names[0], found)
            session.flush()

    def remove(self, object_id: str) -> None:
        """Remove an object without a word."""
        with self.emulator.store.transaction():
            session = self.emulator.service.session(self.emulator.account_id)
            session.remove(session.get(self.kind.object_name, object_id))
            session.flush()

    def by_client(self) -> dict[str, str]:
        """The ids that the official client pages through, each with the list that has it."""
        client = stripe.StripeClient(
            self.emulator.api_key, base_addresses={"api": self.emulator.url}
        )
        fixed = {**({"limit": "100"} if self.kind.is_paged else {}), **dict(self.kind.list_params)}
        return {
            row["id"]: path
            for path, params in self.lists()
            for row in paged(client, path, {**fixed, **params})
        }

    def lists(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Path and parameters of each list that has some of the objects."""
        if not self.kind.parent:
            yield self.kind.path, {}
            return
        for parent in self.parents:
            url = urlsplit(self.url().format(parent["id"]))
            yield url.path, dict(parse_qsl(url.query))

    def url(self) -> str:
        """The list of a parent, with `{}` for its id."""
        inside = self.kind.path.partition("{")
        return self.kind.child_list or f"{inside[0]}{{}}{inside[2].partition('}')[2]}"


def paged(
    client: stripe.StripeClient, path: str, params: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """Page through a list with the official client."""
    after: dict[str, str] = {}
    while True:
        page = client.raw_request("get", path, **params, **after).data
        yield from page["data"]
        if not page["has_more"]:
            return
        after = {"starting_after": page["data"][-1]["id"]}


def assert_equal(destination: Destination, objects: Objects) -> None:
    """Compare a destination with what the emulated account has."""
    kind, emulator = objects.kind, objects.emulator
    rows = destination.of(kind.name)
    columns = {"_account_id", kind.parent_column}
    truth = expected(emulator, kind.name, [emulator.account_id])
    assert {key: comparable(row) for key, row in rows.items()} == {
        key: comparable({**row, **{c: rows[key].get(c) for c in columns if key in rows and c}})
        for key, row in truth.items()
    }
    lists = objects.by_client()
    for key, row in rows.items():
        if kind.parent_column:
            assert row[kind.parent_column] in [parent["id"] for parent in objects.parents]
            assert key in lists


def paths_since(emulator: Emulator, before: int) -> list[str]:
    """The paths that were requested."""
    return [request.path for request in emulator.requests[before:]]


@each(MORE)
def test_a_full_read_equals_the_clients_paging(empty: Emulator, kind: ObjectType) -> None:
    objects = Objects(empty, kind, parents=3)
    objects.add(230)
    before = len(empty.requests)
    output = read(config_of(empty), select=[kind.name])
    least = len(empty.requests) - before
    assert output.ids(kind.name) == dict.fromkeys(objects.by_client(), 1)
    assert len(output.ids(kind.name)) >= 230
    by_client = len(empty.requests) - before - least
    parents = max(1, len(kind.parent.list_variants)) if kind.parent else 0
    assert least <= by_client + parents + 1  # the account's id


@each(BY_EVENTS)
def test_changes_come_by_events(empty: Emulator, kind: ObjectType) -> None:
    objects, destination, config = Objects(empty, kind, parents=2), Destination(), config_of(empty)
    known = objects.add(4)
    destination.take(read(config, select=[kind.name]).messages)
    empty.clock_advance(600)
    objects.change(known[0]["id"])
    if event_of_new(kind) or kind.created_without_event or not kind.event_prefixes:
        objects.add(2)
    empty.clock_advance(600)
    destination.take(again(config, destination, kind).messages)
    assert_equal(destination, objects)
    assert again(config, destination, kind).records == {}


def again(config: dict[str, Any], destination: Destination, kind: ObjectType, *more: str) -> Output:
    """Run with the destination's state."""
    return read(config, state=destination.state, select=[kind.name, *more])


@each(NEW_BY_LIST)
def test_new_objects_without_an_event_come_by_the_list(empty: Emulator, kind: ObjectType) -> None:
    objects, destination, config = Objects(empty, kind), Destination(), config_of(empty)
    objects.add(3)
    destination.take(read(config, select=[kind.name]).messages)
    for _ in range(2):
        empty.clock_advance(600)
        objects.add(2, event=False)
        destination.take(again(config, destination, kind).messages)
        assert_equal(destination, objects)
    assert again(config, destination, kind).records == {}


@each(WHOLE)
def test_silent_changes_come_by_the_whole_list_once_a_day(
    empty: Emulator, kind: ObjectType
) -> None:
    objects, destination, config = Objects(empty, kind, parents=2), Destination(), config_of(empty)
    known = objects.add(5)
    empty.clock_advance(HOUR)  # events from shortly before a backfill are read again
    destination.take(read(config, select=[kind.name, "events"]).messages)
    empty.clock_advance(HOUR)
    objects.change(known[0]["id"], event=False)
    objects.remove(known[1]["id"])
    objects.add(2, event=False)
    before = len(empty.requests)
    early = again(config, destination, kind, "events")
    assert early.records.get(kind.name, []) == []
    assert not {path for path, _ in objects.lists()} & set(paths_since(empty, before))
    destination.take(early.messages)
    empty.clock_advance(24 * HOUR)
    late = again(config, destination, kind, "events")
    destination.take(late.messages)
    assert_equal(destination, objects)
    assert "ACTIVATE_VERSION" in [message["type"] for message in late.messages]
    empty.clock_advance(HOUR)
    assert again(config, destination, kind, "events").records.get(kind.name, []) == []


@pytest.mark.parametrize("kind", OBJECT_TYPES, ids=lambda kind: kind.name)
def test_updates_without_an_event_are_declared(kind: ObjectType) -> None:
    updated = {f"{prefix}.updated" for prefix in kind.event_prefixes}
    can_be_updated = kind.parent is None and has_params(f"{kind.params}UpdateParams")
    if can_be_updated and kind.has_events and not updated & set(generated("_event_types")):
        assert kind.has_silent_updates


def something_happens(objects: Objects, rng: random.Random) -> None:
    """Add, change or remove an object, with the event that Stripe has for it."""
    kind, known = objects.kind, sorted(objects.by_client())
    told = bool(events_of(kind)) or (kind.listed_by_parent and kind.has_events)
    silent = kind.needs_full_lists or (kind.has_silent_updates and kind.filters_by_created)
    what = rng.choice(["add", "add", "change", "remove"])
    if what == "add" and objects_are_found(kind):
        objects.add(rng.randint(1, 3))
    elif what == "change" and known and (told or silent):
        objects.change(rng.choice(known))
        if not kind.parent_field:
            objects.tell_of_parents()
    elif what == "remove" and known and kind.needs_full_lists:
        objects.remove(rng.choice(known))


def objects_are_found(kind: ObjectType) -> bool:
    """Whether new objects are found before the whole list is read again."""
    by_event = event_of_new(kind) or kind.created_without_event
    by_parent = kind.parent and kind.has_events and not kind.event_prefixes
    return bool(by_event or by_parent or not kind.has_events or kind.needs_full_lists)


@pytest.mark.parametrize("seed", range(1))
@each(MORE)
def test_random_histories_with_killed_runs_end_equal(
    empty: Emulator, kind: ObjectType, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_stripe_alloy.tap.STATE_EVERY_RECORDS", 10)
    rng = random.Random(f"{kind.name} {seed}")
    lookback = {"lookback_days": {kind.name: 9}} if kind.name in SILENT else {}
    objects, destination = Objects(empty, kind, parents=3), Destination()
    config = config_of(empty, **lookback)
    objects.add(rng.randrange(250))
    for _ in range(6):
        empty.clock_advance(rng.choice([1, 60, HOUR, 30 * HOUR]))
        for _ in range(rng.randrange(4)):
            something_happens(objects, rng)
        messages = again(config, destination, kind, "events").messages
        destination.take(messages[: rng.randrange(len(messages) + 1)])
    for _ in range(2):  # a run that ends a backfill leaves the changes since to the next one
        empty.clock_advance(25 * HOUR)
        destination.take(again(config, destination, kind, "events").messages)
    assert_equal(destination, objects)


def test_a_refused_list_of_children_removes_no_rows(empty: Emulator) -> None:
    kind = BY_NAME["product_features"]
    objects, destination, config = Objects(empty, kind, parents=2), Destination(), config_of(empty)
    known = {made["id"] for made in objects.add(4)}
    destination.take(read(config, select=[kind.name, "events"]).messages)
    error = {"error": {"type": "invalid_request_error", "message": "no"}}
    refused = f"/v1/products/{objects.parents[0]['id']}/features"
    empty.faults.add("answer", refused, status=400, body=error, times=None)
    empty.clock_advance(25 * HOUR)
    output = again(config, destination, kind, "events")
    destination.take(output.messages)
    assert set(destination.of(kind.name)) == known
    empty.faults.clear()
    empty.clock_advance(25 * HOUR)
    objects.remove(min(known))
    destination.take(again(config, destination, kind, "events").messages)
    assert set(destination.of(kind.name)) == known - {min(known)}


def test_an_account_that_refuses_its_persons_stops_nothing(empty: Emulator) -> None:
    objects = Objects(empty, BY_NAME["account_persons"], parents=2)
    objects.add(4)
    gone = objects.parents[0]["id"]
    error = {"error": {"type": "invalid_request_error", "code": "account_invalid", "message": gone}}
    empty.faults.add("answer", f"/v1/accounts/{gone}/persons", status=403, body=error, times=None)
    output = read(config_of(empty), select=["account_persons"])
    assert {row["account"] for row in output.records["account_persons"]} == {
        objects.parents[1]["id"]
    }


@pytest.mark.parametrize("parent", ["..", "a#b", "50% off/month"])
def test_the_id_of_a_parent_is_encoded(command: Command, empty: Emulator, parent: str) -> None:
    kind = BY_NAME["product_features"]
    empty.add("product", id=parent)
    made = empty.add(kind.object_name, private_fields={"_parent": parent})
    config = config_of(empty)
    assert read(config, select=[kind.name]).ids(kind.name) == {made["id"]: 1}
    code, out, _ = command.text("--select", kind.name, "--test", config=config)
    assert (code, out.split()) == (0, [kind.name, "ok"])
    assert BY_NAME["customer_tax_ids"].path_of({"id": "txi_1", "customer": ".."}) == (
        "/v1/customers/%2E%2E/tax_ids/txi_1"
    )


NOT_SET_UP = {
    "error": {
        "type": "invalid_request_error",
        "message": "Your account is not set up to use Issuing.",
    }
}


def test_a_product_that_the_account_does_not_use_is_named_and_is_no_failure(
    command: Command, empty: Emulator
) -> None:
    empty.faults.add("answer", "/v1/issuing/cards", status=400, body=NOT_SET_UP, times=None)
    Objects(empty, BY_NAME["coupons"]).add(3)
    config = config_of(empty)
    output = command.run("--select", "issuing_cards,coupons", config=config)
    assert output.exit_code == 0
    assert len(output.records["coupons"]) == 3
    assert "issuing_cards was not read: the account does not use this product" in output.errors
    assert "Your account is not set up to use Issuing." in output.errors
    strict = command.run("--strict", "--select", "issuing_cards,coupons", config=config)
    assert strict.exit_code != 0
    assert "Not available on this account: issuing_cards." in strict.errors


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
    Objects(empty, MORE[0]).add(1)
    config = config_of(empty)
    output = command.run(config=config)
    assert set(output.schemas) == {kind.name for kind in DEFAULT_TYPES}
    chosen = command.run(config=config, catalog=catalog_of(config, MORE[0].name))
    assert set(chosen.records) == {MORE[0].name}


def test_the_catalog_says_which_streams_are_selected_by_default(account: Emulator) -> None:
    tap = TapStripeAlloy(config=config_of(account), setup_mapper=False)
    entries = tap.catalog_dict["streams"]
    by_default = {
        entry["tap_stream_id"]
        for entry in entries
        if next(m for m in entry["metadata"] if not m["breadcrumb"])["metadata"][
            "selected-by-default"
        ]
    }
    assert by_default == {kind.name for kind in DEFAULT_TYPES}
    assert len(entries) == len(OBJECT_TYPES)
