"""A stream's JSON schema: Stripe's own, generated, plus what the settings and the tap add."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from stripe_alloy.configs import quoted, shown_value
from stripe_alloy.api.errors import SettingsError

Schema = dict[str, Any]
Expandable = Mapping[str, Mapping[str, Any]]
"""Path → what it is (`kind`), whether it can be null, and the objects that can stand there."""

EXPAND_LEVELS = 4  # docs.stripe.com/api/expanding_objects
_FILES = resources.files("tap_stripe_alloy") / "schemas"
INT64: Schema = {"minimum": -(1 << 63), "maximum": (1 << 63) - 1}
"""The bounds of an integer: with them targets choose a column of 64 bits."""
_DATE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}

ADDED: Mapping[str, Schema] = {
    "updated": {
        "type": "string",
        "format": "date-time",
        "description": "When the object last changed, as far as known. "
        "If a list is read again: when it was read, so that the time does not go back.",
    },
    "deleted": {"type": "boolean", "description": "Whether the object no longer exists."},
    "_account_id": {
        "type": ["string", "null"],
        "description": "The Stripe account that holds the object; null where the key may not tell.",
    },
    "_sdc_deleted_at": {**_DATE_TIME, "description": "When the object was deleted."},
}
"""What a record has besides Stripe's own fields."""


_NOTES: Mapping[str, Mapping[str, str]] = {
    "events": {
        "data": "What the event is about, as Stripe rendered it when it was made, at the API "
        "version that `api_version` names. Nothing in it is converted: times are Unix seconds."
    },
}
"""What the tap has to say of a column of Stripe's: stream → column → description."""


def generated(name: str) -> Any:
    """The content of a generated file: `charges`, `objects/coupon`, `_expandable`, `_version`.

    Callers share it and must not change it.
    """
    return _load(name)


@cache
def _load(name: str) -> Any:
    return msgspec.json.decode((_FILES / f"{name}.json").read_bytes())


def api_version() -> str:
    """The API version that the schemas were generated for."""
    return str(generated("_version")["api_version"])


def stream_schema(stream: str, *, expand: Sequence[str], unix: bool) -> Schema:
    """The schema of a stream's records, with `expand`ed objects in the place of their ids."""
    schema: Schema = copy.deepcopy(generated(stream))
    for path in expand:
        _expand(schema, path, generated("_expandable")[stream])
    for column, description in _NOTES.get(stream, {}).items():
        schema["properties"][column]["description"] = description
    schema["properties"].update(copy.deepcopy(dict(ADDED)))
    if unix:
        for time in _date_times(schema):
            _as_integer(time)
    return schema


def with_nulls(schema: Schema, but: Collection[str]) -> Schema:
    """The schema with null allowed in each column but those named.

    A tombstone has all columns, and nothing may tell what one of them last held.
    """
    properties = {
        name: value if name in but else {**value, "type": _or_null(value["type"])}
        for name, value in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _or_null(types: str | list[str]) -> list[str]:
    named = [types] if isinstance(types, str) else types
    return named if "null" in named else [*named, "null"]


def check_expand(expand: Mapping[str, Sequence[str]], streams: Sequence[str]) -> None:
    """Refuse, by name, a stream or a path that Stripe cannot expand in a list."""
    for stream, paths in expand.items():
        if stream not in streams:
            raise SettingsError(
                f"`expand` names no stream{shown_value(stream)}. Streams: {_list(streams)}"
            )
        known = generated("_expandable")[stream]
        for path in paths:
            if not can_expand(known, path):
                shown = quoted(path, "a path that is given")
                raise SettingsError(
                    f"`expand`: {stream} has nothing to expand at {shown}. Known: {_list(known)}"
                )
            if f"data.{path}".count(".") >= EXPAND_LEVELS:
                raise SettingsError(
                    f"`expand`: {stream}.{path} is deeper than the {EXPAND_LEVELS} levels "
                    f"that Stripe expands in a list, `data` included"
                )


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
            inner["type"] = _or_null(inner["type"])
        if "properties" in inner:
            inner["properties"] = _union(inner["properties"], other[name].get("properties", {}))
        merged[name] = inner
    return merged


def _date_times(schema: Any) -> Iterator[Schema]:
    for child in _children(schema):
        if child.get("format") == "date-time":
            yield child
        yield from _date_times(child)


def _children(schema: Schema) -> Iterator[Schema]:
    yield from schema.get("properties", {}).values()
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield schema[key]


def _as_integer(schema: Schema) -> None:
    del schema["format"]
    swap: Callable[[str], str] = lambda name: "integer" if name == "string" else name  # noqa: E731
    types = schema["type"]
    schema["type"] = swap(types) if isinstance(types, str) else [swap(name) for name in types]
    schema.update(INT64)


def _list(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"
