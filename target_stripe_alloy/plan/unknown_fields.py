"""Pure: the parts of a record that no parameter accepts, at any depth, and their values now."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from stripe_alloy.api.object_types import OBJECT_TYPES
from stripe_alloy.api.params import ParamType
from stripe_alloy.api.schemas import Schema, generated
from target_stripe_alloy.params_tree import record_matches_object
from target_stripe_alloy.resources import BY_STREAM, Resource

FieldPlace = tuple[str | int, ...]
"""Names of fields and numbers of entries: `("items", 0, "quantity")`."""

_LIST = frozenset({"object", "data", "has_more", "url", "total_count", "next_page"})
"""The fields of a list of Stripe's."""
_ENTRY = frozenset({"id", "object"})
"""Fields that identify an entry of a list."""
_OBJECT = re.compile(r"[a-z_]+(\.[a-z_]+)*")
_UNUSED = {"items": frozenset({"plan"})}
"""List → parameters of its entries that are not sent: the price says the same."""
_PRICING = ParamType(
    fields={
        "price_details": ParamType(fields={"price": ParamType(), "product": ParamType()}),
        "type": ParamType(),
        "unit_amount_decimal": ParamType(),
    }
)
_READ: Mapping[str, ParamType] = {"pricing": _PRICING}
"""Field → its form as it is read, which `normalize` turns into the parameter."""


def parts_unknown(
    resource: Resource, fields: Mapping[str, Any]
) -> Iterator[tuple[FieldPlace, Any]]:
    """Yield the parts of a record that no parameter takes, each with its place.

    An object of Stripe's inside the record (`object` names its type) may have all that Stripe
    shows of it.
    """
    shapes = _shapes(resource.stream)
    schema = generated(resource.stream)["properties"]
    for name, value in fields.items():
        if name in shapes and isinstance(value, (dict, list)):
            yield from _inside(value, shapes[name], schema.get(name) or {}, (name,))
        elif name not in shapes:
            yield (name,), value


@cache
def _shapes(stream: str) -> Mapping[str, ParamType]:
    """Return the types of all writable fields, by the names under which they are read."""
    resource = BY_STREAM[stream]
    shapes = dict(resource.shape.fields or {})
    shapes |= {
        name: resource.create_params[param] for name, param in resource.sub_resources.items()
    }
    for name in _UNUSED.keys() & shapes.keys():
        entry = shapes[name].items or ParamType()
        fields = {k: v for k, v in (entry.fields or {}).items() if k not in _UNUSED[name]}
        shapes[name] = replace(shapes[name], items=replace(entry, fields=fields))
    for name in _READ.keys() & shapes.keys():
        fields = {**(_READ[name].fields or {}), **(shapes[name].fields or {})}
        shapes[name] = replace(shapes[name], fields=fields)
    return shapes


def _inside(
    value: Any, shape: ParamType, schema: Schema, place: FieldPlace
) -> Iterator[tuple[FieldPlace, Any]]:
    if isinstance(value, list):
        yield from _in_list(value, shape, schema.get("items") or {}, place)
    elif not isinstance(value, dict):
        return
    elif shape.items is not None and isinstance(value.get("data"), list):
        yield from (((*place, name), value[name]) for name in value if name not in _LIST)
        data = schema.get("properties", {}).get("data", {})
        yield from _in_list(value["data"], shape, data.get("items") or {}, place)
    elif shape.fields is not None and not ("object" in value and shape.scalars):
        yield from _in_hash(value, shape.fields, schema, place)
    elif shape.values is not None:
        inner = schema.get("additionalProperties")
        below = inner if isinstance(inner, dict) else {}
        for name, entry in value.items():
            yield from _inside(entry, shape.values, below, (*place, str(name)))


def _in_list(
    entries: Sequence[Any], shape: ParamType, schema: Schema, place: FieldPlace
) -> Iterator[tuple[FieldPlace, Any]]:
    for number, entry in enumerate(entries) if shape.items is not None else ():
        yield from _inside(entry, shape.items or ParamType(), schema, (*place, number))


def _in_hash(
    value: Mapping[str, Any], known: Mapping[str, ParamType], schema: Schema, place: FieldPlace
) -> Iterator[tuple[FieldPlace, Any]]:
    properties = schema.get("properties", {})
    read = _ENTRY if isinstance(place[-1], int) else frozenset()
    if "object" in value:
        read = frozenset({*read, *properties, *_fields_of(str(value["object"]))})
    for name, inner in value.items():
        if name in known:
            yield from _inside(inner, known[name], properties.get(name) or {}, (*place, name))
        elif name not in read:
            yield (*place, name), inner


@lru_cache(maxsize=256)
def _fields_of(kind: str) -> frozenset[str]:
    """Return the fields of an object of this type; none if there is no such type."""
    if not _OBJECT.fullmatch(kind):
        return frozenset()
    stream = next((stream.name for stream in OBJECT_TYPES if stream.object_name == kind), "")
    try:
        return frozenset(generated(stream or f"objects/{kind}")["properties"])
    except FileNotFoundError:
        return frozenset()


def path_of(place: FieldPlace) -> tuple[str, ...]:
    """Return a place as a path of names.

    >>> path_of(("items", 0, "tax_rates", 1, "x"))
    ('items[0]', 'tax_rates[1]', 'x')
    """
    path: list[str] = []
    for step in place:
        if isinstance(step, int):
            path[-1] += f"[{step}]"
        else:
            path.append(step)
    return tuple(path)


def has_same_value(
    value: Any, place: FieldPlace, fields: Mapping[str, Any], current: Mapping[str, Any]
) -> bool:
    """Whether an object has at a place what its record has there.

    The entry of a list is the one of the same id, else any.
    """
    ours: Any = fields
    theirs: list[Any] = [current]
    for step in place:
        if isinstance(step, int):
            ours = _entries(ours)[step]
            theirs = _same_entries([entry for each in theirs for entry in _entries(each)], ours)
        else:
            ours = ours[step]
            theirs = [each.get(step) for each in theirs if isinstance(each, dict)]
    return any(record_matches_object(value, each) for each in theirs) if theirs else value is None


def _entries(value: Any) -> Sequence[Any]:
    listed = value.get("data") if isinstance(value, dict) else value
    return listed if isinstance(listed, list) else ()


def _same_entries(entries: Sequence[Any], ours: Any) -> list[Any]:
    entry_id = ours.get("id") if isinstance(ours, dict) else None
    chosen = [e for e in entries if entry_id and isinstance(e, dict) and e.get("id") == entry_id]
    return chosen or list(entries)
