"""A unit of work: objects by ID, changes and events, written together.

Nothing inside an object is changed in place: a new value replaces the old one, so a shallow copy
copy made at the first change is enough for the `previous_attributes` of an event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.api_versions import snapshot_as_of
from stripe_alloy.emulator.emulated_types import COLUMNS, RESOURCES
from stripe_alloy.emulator.errors import missing
from stripe_alloy.emulator.events import previous
from stripe_alloy.emulator.store import DELETED, LISTED, UNLISTED, Query, Store
from stripe_alloy.emulator.templates import build

if TYPE_CHECKING:
    from stripe_alloy.emulator.emulated_types import EmulatedType
    from stripe_alloy.emulator.seeded_random import SeededRandom

ObjectKey = tuple[str, str]
PayoutOf = Callable[[str, int, int, str], "str | None"]

PAGE_INSIDE = 10
"""Number of entries in a list inside an object."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Session:
    """The objects of one account in one unit of work."""

    def __init__(
        self,
        store: Store,
        account: str,
        dice: SeededRandom,
        now: int,
        version: str,
        *,
        alone: bool = False,  # the stored objects are not read
    ) -> None:
        self.store = store
        self.account = account
        self.dice = dice
        self.now = now
        self.version = version
        self.request: JSON = {"id": None, "idempotency_key": None}
        self.today = now  # later times are in the future
        self.country = "US"
        self.events_since = 0  # earlier events are not recorded
        self.payout_for: PayoutOf = _not_paid_out
        self.deliverable: list[tuple[JSON, JSON]] | None = (
            None  # events with their objects, for webhooks
        )
        self.shape_since: str | None = None
        self._fresh = alone
        self._objects: dict[ObjectKey, JSON] = {}
        self._private_fields: dict[ObjectKey, JSON] = {}
        self._before: dict[ObjectKey, JSON] = {}
        self._dirty: dict[ObjectKey, int] = {}  # creation time
        self._gone: set[ObjectKey] = set()
        self._children: dict[tuple[str, str, str], list[str]] = {}
        self._written: list[tuple[object, ...]] = []

    # ------------------------------------------------------------------ reading

    def find(self, kind: str, object_id: str | None) -> JSON | None:
        """Return an object by its ID, or None."""
        if not object_id:
            return None
        key = (kind, object_id)
        if key in self._gone:
            return None
        if key not in self._objects and not self._fresh:
            found = self.store.get(self.account, kind, object_id)
            if found is None or found.shown == DELETED:
                return None
            self._objects[key] = _decode(found.body)
            self._private_fields[key] = _decode(found.extra) if found.extra else {}
        return self._objects.get(key)

    def get(self, kind: str, object_id: str, param: str = "id") -> JSON:
        """Return an object by its ID; raises Stripe's `resource_missing`."""
        found = self.find(kind, object_id)
        if found is None:
            raise missing(RESOURCES[kind].name, object_id, param)
        return found

    def children(self, kind: str, column: str, parent: str) -> list[JSON]:
        """Return the objects with an ID in a column, oldest first."""
        stored = [] if self._fresh else self._stored(kind, column, parent)
        added = self._children.get((kind, column, parent), [])
        ids = dict.fromkeys([*stored, *added])
        found = [self.find(kind, object_id) for object_id in ids]
        return [c for c in found if c is not None and self._at(c, column) == parent]

    def _stored(self, kind: str, column: str, parent: str) -> list[str]:
        query = Query(self.account, kind, oldest_first=True)
        query.add(f"{column} = ?", parent)
        query.add(f"shown != {DELETED}")
        return [found.id for found in self.store.select(query)]

    def private_fields(self, obj: JSON) -> JSON:
        """Return the fields stored with an object that it contains only if expanded."""
        return self._private_fields.get(_key(obj), {})

    # ------------------------------------------------------------------ writing

    def new_id(self, kind: str, length: int = 24) -> str:
        """Return a new ID."""
        return RESOURCES[kind].prefix + self.dice.text(length)

    def add(self, kind: str, *, private_fields: JSON | None = None, **fields: Any) -> JSON:
        """Create a complete object."""
        fields.setdefault("id", self.new_id(kind, _ID_LENGTHS.get(kind, 24)))
        obj = build(kind, **fields)
        if "created" in obj and not obj["created"]:
            obj["created"] = self.now
        key = _key(obj)
        self._objects[key] = obj
        self._private_fields[key] = private_fields or {}
        self._gone.discard(key)
        self._dirty[key] = obj.get("created", self.now)
        self._index(obj, RESOURCES[kind])
        return obj

    def _index(self, obj: JSON, resource: EmulatedType) -> None:
        for column in _PARENTS & resource.columns.keys():
            value = self._at(obj, column)
            if value:
                self._children.setdefault((resource.object, column, value), []).append(obj["id"])

    def _at(self, obj: JSON, column: str) -> Any:
        """Return the value of a column of an object, which may be beside it."""
        values = {**obj, **self.private_fields(obj)}
        return _column(values, RESOURCES[obj["object"]].columns[column])

    def change(self, obj: JSON, **fields: Any) -> JSON:
        """Change fields of an object."""
        key = _key(obj)
        self._before.setdefault(key, dict(obj))
        obj.update(fields)
        self._dirty.setdefault(key, obj.get("created", self.now))
        if _PARENTS & fields.keys():
            self._index(obj, RESOURCES[obj["object"]])
        return obj

    def set_private_fields(self, obj: JSON, **fields: Any) -> None:
        """Set fields that are stored with an object and not part of it."""
        key = _key(obj)
        self._private_fields[key] = {**self._private_fields.get(key, {}), **fields}
        self._dirty.setdefault(key, obj.get("created", self.now))

    def remove(self, obj: JSON) -> JSON:
        """Delete an object; return its tombstone."""
        key = _key(obj)
        self._gone.add(key)
        self._dirty.setdefault(key, obj.get("created", self.now))
        return {"id": obj["id"], "object": obj["object"], "deleted": True}

    def nest(self, parent: JSON) -> None:
        """Render the lists inside an object again."""
        resource = RESOURCES[parent["object"]]
        for name, nested in resource.nested.items():
            if nested.always:
                rows = self.children(nested.object, nested.column, parent["id"])
                url = nested.url.format(id=parent["id"])
                self.change(parent, **{name: listing(rows, url)})

    def pending_changes(self, obj: JSON) -> JSON | None:
        """Return the changes since the last event about the object, as `previous_attributes`."""
        before = self._before.pop(_key(obj), None)
        return None if before is None else previous(before, obj)

    def is_changed(self, obj: JSON) -> bool:
        """Whether the object changed since the last event about it."""
        before = self._before.get(_key(obj))
        return before is not None and before != obj

    def emit(self, name: str, obj: JSON, previous_attributes: JSON | None = None) -> None:
        """Record an event with a snapshot of an object."""
        if self._too_early(obj):
            return
        changes = self.pending_changes(obj)
        if previous_attributes is None and name.endswith(_WITH_PREVIOUS):
            previous_attributes = changes
        event = self._event(name, obj, previous_attributes)
        if self.deliverable is not None:
            self.deliverable.append((event, dict(obj)))
        self._written.append(self._row(event, event["created"], LISTED, _encode(event).decode()))

    def _event(self, name: str, obj: JSON, previous_attributes: JSON | None) -> JSON:
        """Return the event, with its snapshot in the account's API version."""
        snapshot = dict(obj)
        version = self.shape_since or self.version
        data: JSON = {"object": snapshot_as_of(version, snapshot)}
        if previous_attributes is not None:
            data["previous_attributes"] = previous_attributes
        return build(
            "event",
            id=self.new_id("event"),
            api_version=version,
            created=self.now,
            data=data,
            request=self.request,
            type=name,
        )

    def _too_early(self, obj: JSON) -> bool:
        early = self.now < self.events_since
        if early:
            self._before.pop(_key(obj), None)
        return early

    def emit_all(self, obj: JSON, *names: str) -> None:
        """Record several events about one change."""
        if self._too_early(obj):
            return
        changes = self.pending_changes(obj)
        for name in names:
            self.emit(name, obj, changes if name.endswith(_WITH_PREVIOUS) else None)

    # ------------------------------------------------------------------ flushing

    def flush(self) -> None:
        """Write everything, oldest first."""
        gone, rows = [], []
        for (kind, object_id), created in self._dirty.items():
            key = (kind, object_id)
            obj = self._objects[key]
            if key in self._gone and not RESOURCES[kind].leaves_tombstone:
                gone.append(key)
            else:
                rows.append(self._rendered(key, obj, created))
        rows.sort(key=_created)
        self._written.sort(key=_created)
        for kind, object_id in gone:
            self.store.remove(self.account, kind, object_id)
        self.store.put([*rows, *self._written])
        self._dirty.clear()
        self._written.clear()

    def forget(self, *but: str) -> None:
        """Release the flushed objects, except those of some types."""
        kept = {key: obj for key, obj in self._objects.items() if key[0] in but}
        self._objects = kept
        self._private_fields = {
            key: self._private_fields[key] for key in kept if key in self._private_fields
        }
        for objects in (self._before, self._gone, self._children):
            objects.clear()

    def _rendered(self, key: ObjectKey, obj: JSON, created: int) -> tuple[object, ...]:
        if key in self._gone:
            tombstone = {"id": obj["id"], "object": obj["object"], "deleted": True}
            return self._row(tombstone, created, DELETED, _encode(tombstone).decode())
        unlisted = obj.get("test_clock") or self._private_fields.get(key, {}).get("_unlisted")
        shown = UNLISTED if unlisted else LISTED
        return self._row(obj, created, shown, _encode(obj).decode())

    def _row(self, obj: JSON, created: int, shown: int, body: str) -> tuple[object, ...]:
        kind = obj["object"]
        private_fields = self._private_fields.get((kind, obj["id"])) or {}
        values = {**obj, **private_fields}
        paths = RESOURCES[kind].columns
        columns = [_column(values, paths[name]) if name in paths else None for name in COLUMNS]
        extra = _encode(private_fields).decode() if private_fields else None
        return (self.account, kind, obj["id"], created, shown, body, extra, *columns)


def _not_paid_out(_currency: str, _available: int, _net: int, _kind: str) -> str | None:
    return None


_PARENTS = frozenset(
    {
        "charge",
        "customer",
        "invoice",
        "lookup_key",
        "parent",
        "payment_intent",
        "price",
        "product",
    }
)
_WITH_PREVIOUS = (".updated", ".refunded")
_ID_LENGTHS = {"customer": 14, "product": 14, "subscription_item": 14, "account": 16}


def listing(rows: list[JSON], url: str, size: int = PAGE_INSIDE) -> JSON:
    """Return a list inside an object."""
    return {"object": "list", "data": rows[:size], "has_more": len(rows) > size, "url": url}


def _key(obj: JSON) -> ObjectKey:
    return obj["object"], obj["id"]


def _column(values: JSON, path: str) -> Any:
    node: Any = values
    for name in path.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _created(row: tuple[object, ...]) -> int:
    return int(str(row[3]))
