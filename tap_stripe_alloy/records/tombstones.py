"""Tombstones: records of deleted objects, with every column so that stream maps can be evaluated.

They have the values of the object's last event; other columns are null. A stream map that fails on
such a null must neither suppress the tombstone nor stop the run: every run would fail again.
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
    """The record of a deleted object."""

    unknown: frozenset[str] = frozenset()
    """Columns that are null only because their last value is unknown."""


def last_known(source: dict[str, Any], schema: Schema, convert: Callable[[Any], None]) -> Tombstone:
    """Return a tombstone with all columns of a schema and the last known values of an object.

    `source` is from an event, which may have another API version and is never expanded. Values
    that do not fit the schema are null. `convert` converts times in place.
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
    """Return `{"id": …}` for an id if the schema expects the expanded object."""
    if isinstance(value, list):
        return [_unexpanded(item, schema.get("items", {})) for item in value]
    if isinstance(value, str) and "id" in schema.get("properties", {}):
        return {"id": value}
    return value


def _unreported(_: str) -> None:
    """Log nothing: values of an older API version are expected not to fit."""


def let_through(stream_map: StreamMap) -> None:
    """Make a stream map's expressions safe for tombstones.

    A property that fails becomes null. A filter that fails, or that rejects because of an unknown
    column, passes the tombstone. One that rejects because of known columns, such as
    `deleted`, still rejects it.
    """
    if not isinstance(stream_map, CustomStreamMap):
        return
    evaluate = stream_map._eval  # noqa: SLF001 - the SDK has no public hook per property

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
    """Return the columns that an expression may read: `email`, `record["email"]`."""
    return {
        node.id if isinstance(node, ast.Name) else node.value
        for node in ast.walk(expression)
        if isinstance(node, ast.Name)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    }
