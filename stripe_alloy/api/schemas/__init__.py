"""The schemas of Stripe's objects, as the `stripe` package has them, and what expands there."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import msgspec

Schema = dict[str, Any]
Expandable = Mapping[str, Mapping[str, Any]]
"""Path → what it is (`kind`), whether it can be null, and the objects that can stand there."""

EXPAND_LEVELS = 4  # docs.stripe.com/api/expanding_objects
_FILES = resources.files(__name__)


def generated(name: str) -> Any:
    """The content of a generated file: `charges`, `objects/coupon`, `_expandable`, `_version`.

    Callers share it and must not change it.
    """
    return _shared(name)


def _read(name: str) -> Any:
    return msgspec.json.decode((_FILES / f"{name}.json").read_bytes())


_shared = cache(_read)


def api_version() -> str:
    """The API version that the schemas were generated for."""
    return str(generated("_version")["api_version"])


def object_schema(name: str, expand: Sequence[str] = ()) -> Schema:
    """Return the schema of a stream's objects, with `expand`ed objects in the place of their ids.

    The caller may change it.
    """
    schema: Schema = _read(name)  # faster than a copy
    for path in expand:
        _expand(schema, path, generated("_expandable")[name])
    return schema


def nested_lists(schema: Schema) -> list[tuple[str, ...]]:
    """Where objects of this schema hold lists of Stripe's (with `has_more`), as paths of keys.

    Lists inside lists and arrays are passed over: Stripe nests none there.
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
    """Whether Stripe expands a path, which may go on inside what is expanded."""
    if path in known:
        return True
    entry, rest = _split(known, path)
    return bool(entry) and any(can_expand(expandable(name), rest) for name in entry["objects"])


def expandable(object_name: str) -> Expandable:
    """What can be expanded in one of Stripe's objects."""
    found: Expandable = generated("_expandable").get(f"{object_name}s") or generated(
        "_expandable_objects"
    ).get(object_name, {})
    return found


def _split(known: Expandable, path: str) -> tuple[Mapping[str, Any], str]:
    """The entry of the longest beginning of a path that is known, and the rest, seen from there."""
    beginning = path
    while beginning not in known and "." in beginning:
        beginning = beginning.rpartition(".")[0]
    entry = known.get(beginning, {})
    rest = path[len(beginning) + 1 :]
    return entry, rest.removeprefix("data.") if entry.get("kind") == "include" else rest


def _expand(schema: Schema, path: str, known: Expandable) -> None:
    entry, rest = _split(known, path)
    beginning = path.removesuffix(rest).removesuffix(".")
    held = _at(schema, beginning)
    if held is None:
        return  # inside an object that is not spelled out
    if entry["kind"] != "include" and "properties" not in held:
        types = ["object", "null"] if entry["nullable"] or "null" in held["type"] else "object"
        described = {"description": held.get("description", "")}
        held.clear()
        held.update({**_object_schema(entry["objects"]), "type": types, **described})
    for name in entry["objects"] if rest else ():
        inside = expandable(name)
        if can_expand(inside, rest):
            _expand(held, rest, inside)


def _at(schema: Schema, path: str) -> Schema | None:
    """The schema at a path; that of the items, where it leads to a list."""
    found: Schema | None = schema
    for key in path.split("."):
        found = (found or {}).get("properties", {}).get(key)
        found = found and found.get("items", found)
    return found


def _object_schema(objects: Sequence[str]) -> Schema:
    """One object's schema; for a union, all properties of its members."""
    properties: Schema = {}
    for name in objects:
        stream = f"{name}s"
        known = generated(stream if (_FILES / f"{stream}.json").is_file() else f"objects/{name}")
        properties = _union(properties, copy.deepcopy(known["properties"]))
    properties.setdefault("deleted", {"type": ["boolean", "null"]})  # all that is left of some
    return {"properties": properties}


def _union(one: Schema, other: Schema) -> Schema:
    """The properties of both; null wherever one of them allows it, else as the first says."""
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
