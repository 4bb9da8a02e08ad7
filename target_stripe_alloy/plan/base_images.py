"""Pure: turns a record and the response to its request into the base image for the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import msgspec

from stripe_alloy.api.json_types import JSON
from target_stripe_alloy.params_tree import Tree
from target_stripe_alloy.plan.merge import key_items, tree_for
from target_stripe_alloy.plan.plan_types import BaseImage
from target_stripe_alloy.resources import Resource
from target_stripe_alloy.write.journal import JournalEntry

Rename = Callable[[str], str | None]
"""The id that an item of a record has in Stripe; None if it has none."""

_PAGE = 10
"""Entries of a list inside an object that Stripe shows at first."""


class DraftImage(msgspec.Struct, frozen=True):
    """A base image without what the response brings; the journal has it with the request."""

    source: str
    number: int
    names: Sequence[str]
    """The fields that the record and its parameters have."""
    ours: Mapping[str, Tree] | None
    """The record as trees, `items` as a list; None for a tombstone, which leaves no base image."""
    fixed: Mapping[str, Any]
    digest: bytes | None = None
    """Of the record, if it is done with this request."""
    position: tuple[int, int] | None = None
    """The position of the record; of a replayed one, its first position."""


class ObservedObject(msgspec.Struct, frozen=True):
    """The state of an object on which the plan of a request is based."""

    path: str
    state: str
    """See `state_of`."""
    expand: Sequence[str] = ()
    entry: str = ""
    """The id of the entry, where `path` is that of a list."""


class Context(msgspec.Struct, frozen=True):
    """What saves a record after its request, and what to check before the request is repeated."""

    permissions: Sequence[str] = ()
    """What `allow_actions` must contain; `delete_policy` with a value is one as well."""
    effects: Sequence[tuple[str, bool]] = ()
    """Names of effects, and whether each is lasting."""
    object_id: str | None = None
    """The object that is written to, if there is one already."""
    draft: DraftImage | None = None
    seen: Sequence[ObservedObject] | None = None
    """The objects on which its plan is based; None: not noted, by an earlier release."""
    pipeline: str | None = None
    """The pipeline that the record is of; None: not noted, by an earlier release."""


def state_of(source: JSON) -> str:
    """Return a short hash of an object, the same however much of others is expanded in it."""
    plain = {name: _plain(value) for name, value in source.items()}
    return blake2b(msgspec.json.encode(plain, order="sorted"), digest_size=8).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if value.get("object") == "list":
        # The first page of a list is the same, whether or not the rest was read as well.
        return [{k: _plain(v) for k, v in e.items()} for e in value.get("data") or ()][:_PAGE]
    if "id" in value and "object" in value:
        return value["id"]
    return {name: _plain(inner) for name, inner in value.items()}


def is_complete(result: JSON) -> bool:
    """Whether the lists inside a response have all their entries."""
    inside = [value for value in result.values() if isinstance(value, dict)]
    return not any(value.get("object") == "list" and value.get("has_more") for value in inside)


def image_of(
    draft: DraftImage, resource: Resource, key: str, result: JSON | None, rename: Rename
) -> JournalEntry:
    """Return the base image of a record whose request returned `result`."""
    entry = JournalEntry(
        resource.stream,
        key,
        result["id"] if result else None,
        draft.digest,
        source=draft.source,
        number=draft.number,
        position=draft.position,
    )
    if result is None or draft.ours is None:
        return entry
    theirs = trees_of(resource, draft.names, result)
    ours = dict(draft.ours)
    if isinstance(ours.get("items"), list):
        ours = key_items(ours, theirs.get("items") or {}, rename, prices_of(result))
    base = BaseImage(ours, {k: v for k, v in theirs.items() if k in ours}, draft.fixed)
    return replace(entry, base=msgspec.json.encode(base))


def prices_of(source: JSON | None) -> dict[str, Any]:
    """Return the prices of an object's items, by the items' ids."""
    items = (source or {}).get("items")
    entries = items.get("data") if isinstance(items, dict) else None
    return {entry["id"]: entry.get("price") for entry in entries or ()}


def trees_of(resource: Resource, names: Sequence[str], current: JSON) -> dict[str, Tree]:
    """Return an object as a tree: the named fields, its items by their ids."""
    chosen = set(names)
    fields = {name: value for name, value in current.items() if name in chosen}
    theirs = tree_for(resource, fields, 0.0)
    entries = theirs.get("items")
    if isinstance(entries, list):
        theirs["items"] = {e["id"]: {k: v for k, v in e.items() if k != "id"} for e in entries}
    return theirs
