"""Converts a class of the `stripe` package to a JSON schema for Singer targets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any

from scripts.schemagen.annotations import Type, parse
from scripts.schemagen.catalog import CUT, EXPANDABLE_TEXTS, INCLUDED, SHALLOW
from stripe_alloy.api.schemas import Schema

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from scripts.schemagen.source import Field, Klass

SchemaPath = tuple[str, ...]
# Without bounds targets must expect more: DuckDB's HUGEINT, a DOUBLE in Parquet.
INT64 = {"minimum": -(1 << 63), "maximum": (1 << 63) - 1}
MAX_LEVELS = 4  # docs.stripe.com/api/expanding_objects: "a maximum depth of four levels"


@dataclass
class SeenFields:
    """Collected while building: the labels in use, the integers, the expandable classes."""

    labels: set[str] = field(default_factory=set)
    integers: dict[str, Field] = field(default_factory=dict)
    classes: dict[str, Klass] = field(default_factory=dict)


class Builder:
    """Builds the schema of `root`.

    `times` contains the labels of the integers that are Unix seconds. Building fills `expandable`:
    paths as in Stripe's `expand` parameter, and the objects that they can be expanded to.
    """

    def __init__(self, root: Klass, times: Collection[str], seen: SeenFields) -> None:
        self.expandable: dict[str, dict[str, Any]] = {}
        self._root = root
        self._times = times
        self._seen = seen
        self._above: list[Klass] = []

    def build(self) -> Schema:
        """Return the schema of the resource; its key `id` is never null."""
        schema = self._object((self._root,), ())
        if "id" in schema.get("properties", {}):
            schema["properties"]["id"]["type"] = "string"
        return schema

    def _object(self, classes: Sequence[Klass], path: SchemaPath | None) -> Schema:
        """Return the fields of all `classes` in one object; a value is one of the classes."""
        self._above.extend(classes)
        shapes = [self._properties(klass, path) for klass in classes]
        del self._above[-len(classes) :]
        properties = reduce(merge_properties, shapes)
        return {"type": "object", "properties": properties} if properties else {"type": "object"}

    def _properties(self, klass: Klass, path: SchemaPath | None) -> Schema:
        # `deleted` marks what is left of a deleted object, never a live one inside another.
        wires = [wire for wire in klass.fields if wire != "deleted" or klass is self._root]
        return {
            wire: self._field(klass, klass.fields[wire], path if path is None else (*path, wire))
            for wire in _ordered(wires)
        }

    def _field(self, klass: Klass, entry: Field, path: SchemaPath | None) -> Schema:
        declared = parse(entry.annotation, klass)
        self._seen.labels.add(entry.label)
        self._note_expandable(declared, entry, path)
        if self._is_cut(klass, entry, declared):
            schema = _cut(declared)
        else:
            schema = self._value(declared, entry, path)
        return {**schema, "description": entry.doc} if entry.doc else schema

    def _is_cut(self, klass: Klass, entry: Field, declared: Type) -> bool:
        inside = klass.label in SHALLOW and klass is not self._root
        return entry.label in CUT or (inside and declared.kind in {"object", "list"})

    def _value(self, declared: Type, entry: Field, path: SchemaPath | None) -> Schema:
        if declared.kind == "object" and any(klass in self._above for klass in declared.classes):
            schema: Schema = {"type": "object"}
        elif declared.kind == "object":
            schema = self._object(declared.classes, path)
        elif declared.item is not None:
            schema = self._container(declared, declared.item, entry, path)
        else:
            schema = self._scalar(declared, entry)
        return _nullable(schema) if declared.nullable else schema

    def _container(
        self, declared: Type, item: Type, entry: Field, path: SchemaPath | None
    ) -> Schema:
        if declared.kind == "map":  # what lies under a key of the user's cannot be expanded
            return {"type": "object", "additionalProperties": self._map_value(item, entry)}
        if declared.kind == "array":
            return {"type": "array", "items": _listed(self._value(item, entry, path))}
        data = None if path is None else (*path, "data")
        return _list_object(_listed(self._value(item, entry, data)))

    def _map_value(self, item: Type, entry: Field) -> Schema | bool:
        return True if item.kind == "any" else _nullable(self._value(item, entry, None))

    def _scalar(self, declared: Type, entry: Field) -> Schema:
        if declared.kind == "integer":
            self._seen.integers[entry.label] = entry
            if entry.label in self._times:
                return {"type": "string", "format": "date-time"}
            return {"type": "integer", **INT64}
        kind = "string" if declared.kind == "expandable" else declared.kind
        return {"type": kind}

    def _note_expandable(self, declared: Type, entry: Field, path: SchemaPath | None) -> None:
        if path is None or len(path) > MAX_LEVELS:
            return
        held = declared.item or declared
        if entry.label in INCLUDED:
            kind = "include"
            names = {klass.object_name for klass in held.classes if klass.object_name}
        elif entry.label in EXPANDABLE_TEXTS:
            kind, names = "id", {EXPANDABLE_TEXTS[entry.label]}
        elif held.kind == "expandable":
            kind = "id" if held is declared else "list_of_ids"
            names = {object_name(klass) for klass in held.classes}
            self._seen.classes.update((object_name(klass), klass) for klass in held.classes)
        else:
            return
        self.expandable[".".join(path)] = {
            "kind": kind,
            "nullable": declared.nullable,
            "objects": sorted(names),
        }


def object_name(klass: Klass) -> str:
    """Return Stripe's name, such as `charge`; for an inner class, `rule` of `Rule`."""
    inner = klass.label.rpartition(".")[2]
    return klass.object_name or re.sub(r"(?<!^)(?=[A-Z])", "_", inner).lower()


def merge_properties(one: Schema, other: Schema) -> Schema:
    """Return the properties of both; a name in both must have the same type, null or not."""
    both = one.keys() & other.keys()
    merged = {**one, **other, **{name: _merge(one[name], other[name]) for name in both}}
    return {name: merged[name] for name in _ordered(merged)}


def _ordered(names: Iterable[str]) -> list[str]:
    """Sort by name, `id` first: a union has no order of its own, and diffs stay small."""
    return sorted(names, key=lambda name: (name != "id", name))


def _merge(one: Schema, other: Schema) -> Schema:
    kinds = [(_types(shape) - {"null"}, shape.get("format")) for shape in (one, other)]
    if kinds[0] != kinds[1]:
        raise TypeError(f"members of a union disagree: {one} and {other}")
    merged = {**other, **one}
    if "properties" in merged:
        merged["properties"] = merge_properties(
            one.get("properties", {}), other.get("properties", {})
        )
    return _nullable(merged) if "null" in _types(one) | _types(other) else merged


def _types(schema: Schema) -> set[str]:
    return {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])


def _nullable(schema: Schema) -> Schema:
    return {**schema, "type": [*sorted(_types(schema) - {"null"}), "null"]}


def _listed(schema: Schema) -> Schema:
    """As an array's items: without `properties` the SDK raises KeyError, with none it empties.

    `additionalProperties` keeps what an object without known fields holds
    (singer_sdk.helpers._typing.conform_record_data_types).
    """
    if schema["type"] == "object" and "properties" not in schema:
        return {**schema, "properties": {}, "additionalProperties": True}
    return schema


def _list_object(items: Schema) -> Schema:
    properties = {
        "data": {"type": "array", "items": items},
        "has_more": {"type": "boolean"},
        "object": {"type": "string"},
        "url": {"type": "string"},
    }
    return {"type": "object", "properties": properties}


def _cut(declared: Type) -> Schema:
    whole = _list_object(_listed({"type": "object"})) if declared.item else {"type": "object"}
    return _nullable(whole) if declared.nullable else whole
