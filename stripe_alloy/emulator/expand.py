"""`expand`: replaces IDs by objects, and adds fields that are only sent on request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.emulated_types import RESOURCES
from stripe_alloy.emulator.errors import ApiError, invalid
from stripe_alloy.emulator.schemas import expandable
from stripe_alloy.emulator.session import PAGE_INSIDE
from stripe_alloy.emulator.store import DELETED, Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stripe_alloy.emulator.emulated_types import Nested
    from stripe_alloy.emulator.store import Store


MAX_LEVELS = 4  # docs.stripe.com/api/expanding_objects
_decode = msgspec.json.Decoder().decode


def check(kind: str, paths: Sequence[str], *, in_list: bool) -> list[list[str]]:
    """Return the paths relative to one object; raises Stripe's 400 if one cannot be expanded."""
    checked = []
    for path in paths:
        parts = path.split(".")
        if len(parts) > MAX_LEVELS:
            raise invalid(
                f"You cannot expand more than {MAX_LEVELS} levels of a property. Property: {path}",
                "expand",
            )
        if in_list and parts[0] != "data":
            raise _refusal(path)
        below = parts[1:] if in_list else parts
        if not below or not _possible(kind, (), below):
            raise _refusal(path)
        checked.append(below)
    return checked


def _refusal(path: str) -> ApiError:
    return invalid(f"This property cannot be expanded ({path}).", "expand")


def _possible(kind: str, above: tuple[str, ...], parts: list[str]) -> bool:
    known = expandable(kind)
    here = (*above, parts[0])
    path, rest = ".".join(here), parts[1:]
    if path in known:
        return not rest or _beyond(kind, here, known[path], rest)
    inside = any(name.startswith(path + ".") for name in known)
    return inside and bool(rest) and _possible(kind, here, rest)


def _beyond(kind: str, here: tuple[str, ...], entry: JSON, rest: list[str]) -> bool:
    if entry["kind"] == "include" and _possible(kind, here, rest):
        return True
    below = rest[1:] if entry["kind"] == "include" and rest[0] == "data" else rest
    return not below or any(_possible(name, (), below) for name in entry["objects"])


class Expander:
    """Expands objects of one account; each object is read once."""

    def __init__(self, store: Store, account: str) -> None:
        self._store = store
        self._account = account
        self._found: dict[tuple[str, str], JSON | None] = {}

    def expand(self, obj: JSON, paths: Sequence[list[str]]) -> JSON:
        """Return the object with these paths expanded."""
        for parts in paths:
            obj = self._step(obj, obj["object"], (), parts)
        return obj

    def _step(self, node: Any, kind: str, above: tuple[str, ...], parts: list[str]) -> Any:
        if isinstance(node, list):
            return [self._step(entry, kind, above, parts) for entry in node]
        if not isinstance(node, dict):
            return node
        name, rest = parts[0], parts[1:]
        here = (*above, name)
        entry = expandable(kind).get(".".join(here))
        if entry is None:
            value = self._step(node.get(name), kind, here, rest) if name in node else None
            return {**node, name: value}
        if entry["kind"] == "include":
            return {**node, name: self._included(node, name, rest)}
        return {**node, name: self._resolved(node.get(name), entry["objects"], rest)}

    def _resolved(self, value: Any, kinds: list[str], rest: list[str]) -> Any:
        if isinstance(value, list):
            return [self._resolved(entry, kinds, rest) for entry in value]
        found = self._lookup(value, kinds) if isinstance(value, str) else value
        if isinstance(found, dict) and rest:
            return self._step(found, found["object"], (), rest)
        return value if found is None else found

    def coupon(self, coupon_id: str) -> JSON | None:
        """Return a coupon."""
        return self._lookup(coupon_id, ["coupon"])

    def _lookup(self, object_id: str, kinds: list[str]) -> JSON | None:
        for kind in kinds:
            key = (kind, object_id)
            if key not in self._found and kind in RESOURCES:
                row = self._store.get(self._account, kind, object_id)
                self._found[key] = _decode(row.body) if row else None
            if self._found.get(key):
                return self._found[key]
        return None

    def _included(self, node: JSON, name: str, rest: list[str]) -> Any:
        if "object" not in node:  # a part of an object: what it leaves out, the emulator has not
            return node.get(name)
        nested = RESOURCES[node["object"]].nested.get(name) if node["object"] in RESOURCES else None
        if nested is None:
            return self._extra(node, name)
        value = node.get(name) or self._children(node, nested)
        if rest[:1] == ["data"]:
            rest = rest[1:]
        if not rest:
            return value
        data = [self._step(child, child["object"], (), rest) for child in value["data"]]
        return {**value, "data": data}

    def _children(self, node: JSON, nested: Nested) -> JSON:
        resource = RESOURCES.get(nested.object)
        url = nested.url.format(id=node["id"])
        if resource is None:
            return {"object": "list", "data": [], "has_more": False, "url": url}
        query = Query(self._account, nested.object, limit=PAGE_INSIDE)
        query.oldest_first = resource.children_first
        query.add(f"{nested.column} = ?", node["id"])
        query.add(f"shown != {DELETED}")
        if nested.object == "subscription":
            query.add("status != 'canceled'")
        rows, more = self._store.page(query)
        data = [_decode(row.body) for row in rows]
        return {"object": "list", "data": data, "has_more": more, "url": url}

    def _extra(self, node: JSON, name: str) -> Any:
        kind = node["object"] if node["object"] in RESOURCES else "price"
        row = self._store.get(self._account, kind, node["id"])
        private_fields = _decode(row.extra) if row and row.extra else {}
        return private_fields.get(name)
