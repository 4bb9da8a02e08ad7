"""Generated schemas of Stripe's objects, and the paths that can be expanded."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from stripe_alloy.api.object_types import BY_OBJECT

Schema = dict[str, Any]
Expandable = Mapping[str, Mapping[str, Any]]
"""Path → its `kind`, whether it can be null, and the objects it can be expanded to."""

EXPAND_LEVELS = 4  # docs.stripe.com/api/expanding_objects
_FILES = resources.files(__name__)


def generated(name: str) -> Any:
    """Return a generated file's content: `charges`, `objects/coupon`, `_expandable`.

    Callers share it and must not modify it.
    """
    return _shared(name)


def _read(name: str) -> Any:
    return msgspec.json.decode((_FILES / f"{name}.json").read_bytes())


_shared = cache(_read)


def api_version() -> str:
    """Return the API version that the schemas were generated for."""
    return str(generated("_version")["api_version"])


def object_schema(name: str, expand: Sequence[str] = ()) -> Schema:
    """Return the schema of a stream's objects, with the objects of `expand` instead of their IDs.

    The caller may modify it.
    """
    schema: Schema = _read(name)  # faster than a copy
    for path in expand:
        _expand(schema, path, generated("_expandable")[name])
    return schema


def nested_lists(schema: Schema) -> list[tuple[str, ...]]:
    """Return the paths of lists (with `has_more`) inside objects of this schema.

    Lists inside lists and arrays are skipped: Stripe nests none there.
    """
    found: list[tuple[str, ...]] = []
    for key, value in schema.get("properties", {}).items():
        inner = value.get("properties", {})
        if "has_more" in inner and "data" in inner:
            found.append((key,))
        elif inner:
            found += [(key, *path) for path in nested_lists(value)]
    return found


def can_expand(known: Expandable, path: str) -> bool:
    """Whether a path can be expanded; it may continue inside expanded objects."""
    if path in known:
        return True
    entry, rest = _split(known, path)
    return bool(entry) and any(can_expand(expandable(name), rest) for name in entry["objects"])


def expandable(object_name: str) -> Expandable:
    """Return what can be expanded in an object type."""
    stream = BY_OBJECT.get(object_name)
    if stream:
        found: Expandable = generated("_expandable")[stream.name]
    else:
        found = generated("_expandable_objects").get(object_name, {})
    return found


def _split(known: Expandable, path: str) -> tuple[Mapping[str, Any], str]:
    """Return the entry for the longest known beginning of a path, and the remaining path."""
    beginning = path
    while beginning not in known and "." in beginning:
        beginning = beginning.rpartition(".")[0]
    entry = known.get(beginning, {})
    rest = path[len(beginning) + 1 :]
    return entry, rest.removeprefix("data.") if entry.get("kind") == "include" else rest


def _expand(schema: Schema, path: str, known: Expandable) -> None:
    entry, rest = _split(known, path)
    beginning = path.removesuffix(rest).removesuffix(".")
    field = _at(schema, beginning)
    if field is None:
        return  # inside an object that is not spelled out
    if entry["kind"] != "include" and "properties" not in field:
        types = ["object", "null"] if entry["nullable"] or "null" in field["type"] else "object"
        described = {"description": field.get("description", "")}
        field.clear()
        field.update({**_object_schema(entry["objects"]), "type": types, **described})
    for name in entry["objects"] if rest else ():
        inside = expandable(name)
        if can_expand(inside, rest):
            _expand(field, rest, inside)


def _at(schema: Schema, path: str) -> Schema | None:
    """Return the schema at a path; for a list, that of its items."""
    found: Schema | None = schema
    for key in path.split("."):
        found = (found or {}).get("properties", {}).get(key)
        found = found and found.get("items", found)
    return found


def _object_schema(objects: Sequence[str]) -> Schema:
    """Return the schema of an object; for a union, with all properties of its members."""
    properties: Schema = {}
    for name in objects:
        stream = BY_OBJECT.get(name)
        known = generated(stream.name if stream else f"objects/{name}")
        properties = _union(properties, copy.deepcopy(known["properties"]))
    properties.setdefault("deleted", {"type": ["boolean", "null"]})  # all that is left of some
    return {"properties": properties}


def _union(one: Schema, other: Schema) -> Schema:
    """Return the properties of both schemas; null is allowed if one of them allows it."""
    merged = {**other, **one}
    for name in one.keys() & other.keys():
        inner = dict(one[name])
        if "null" in other[name].get("type", ()):
            inner["type"] = or_null(inner["type"])
        if "properties" in inner:
            inner["properties"] = _union(inner["properties"], other[name].get("properties", {}))
        merged[name] = inner
    return merged


def or_null(types: str | list[str]) -> list[str]:
    """Return JSON types with null among them."""
    named = [types] if isinstance(types, str) else types
    return named if "null" in named else [*named, "null"]
