"""The record of a deleted object: every column, so that stream maps and filters can read it.

What its last event carried stays; all else is null. A map's expression that fails on such a null
must not keep the deletion from the destination, nor stop the run: every run would meet it again.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from typing import Any

from singer_sdk.mapper import CustomStreamMap, StreamMap

from stripe_alloy.api.schemas import Schema
from tap_stripe_alloy.records.fitting import MISFIT, fit


class Tombstone(dict[str, Any]):
    """A record that says an object is gone."""

    unknown: frozenset[str] = frozenset()
    """Columns that are null only because nothing tells what they last held."""


def last_known(source: dict[str, Any], schema: Schema, convert: Callable[[Any], None]) -> Tombstone:
    """All columns of a schema, with what an event says an object last held.

    The event may be of another API version, and it is never expanded: what does not fit is null.
    """
    properties: dict[str, Schema] = schema["properties"]
    known = copy.deepcopy({key: source[key] for key in properties if key in source})
    for key, value in known.items():
        known[key] = _unexpanded(value, properties[key])
    convert(known)
    fitted = {key: fit(value, properties[key], _unreported) for key, value in known.items()}
    fitted = {key: value for key, value in fitted.items() if value is not MISFIT}
    record = Tombstone({**dict.fromkeys(properties), **fitted})
    record.unknown = frozenset(properties.keys() - {k for k in fitted if known[k] == fitted[k]})
    return record


def _unexpanded(value: Any, schema: Schema) -> Any:
    """An id as the object that `expand` would put in its place, with nothing else in it."""
    if isinstance(value, list):
        return [_unexpanded(item, schema.get("items", {})) for item in value]
    if isinstance(value, str) and "id" in schema.get("properties", {}):
        return {"id": value}
    return value


def _unreported(_: str) -> None:
    """Nothing to say: an older version's fields are as they should be."""


def let_through(stream_map: StreamMap) -> None:
    """See that a stream map's expressions cannot fail on a tombstone.

    A property that fails is null. A filter that fails, or that rejects for what is unknown, lets
    the tombstone through; one that rejects for what is known, or for `deleted`, keeps it out.
    """
    if not isinstance(stream_map, CustomStreamMap):
        return
    evaluate = stream_map._eval  # noqa: SLF001 - the SDK has no other place between the properties

    def on_tombstones_too(
        expr: str, expr_parsed: ast.Expr, record: dict[str, Any], property_name: str | None
    ) -> Any:
        try:
            value: Any = evaluate(expr, expr_parsed, record, property_name)
        except Exception:  # an expression can raise anything
            if not isinstance(record, Tombstone):
                raise
            return None if property_name else True
        if property_name or value or not isinstance(record, Tombstone):
            return value
        return bool(_columns(expr_parsed) & record.unknown)

    setattr(stream_map, "_eval", on_tombstones_too)  # noqa: B010 - it is a method


def _columns(expression: ast.Expr) -> set[Any]:
    """The columns that an expression may read: `email`, `record["email"]`."""
    return {
        node.id if isinstance(node, ast.Name) else node.value
        for node in ast.walk(expression)
        if isinstance(node, ast.Name)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    }
