"""Fits values to their schema: a target may refuse a complete batch because of one bad value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from stripe_alloy.api.schemas import Schema

MISFIT = object()
"""Marks a value that does not fit its schema, which does not allow null either."""
ReportMisfit = Callable[[str], None]
"""Called with the path of a value that does not fit."""

_TYPES: Mapping[type, frozenset[str]] = {
    bool: frozenset({"boolean"}),
    int: frozenset({"integer", "number"}),
    float: frozenset({"number"}),
    str: frozenset({"string"}),
    list: frozenset({"array"}),
    dict: frozenset({"object"}),
}
_INT64 = range(-(1 << 63), 1 << 63)


def fit(value: Any, schema: Schema, report: ReportMisfit, path: str = "") -> Any:
    """Return the value with null in place of parts that do not fit the schema.

    Parts that may not be null are left out. Returns `MISFIT` if the value itself would be left out.
    Fields that are not in the schema stay.
    """
    if value is None:
        return None if nullable(schema) else MISFIT
    if not _allowed(value, schema):
        report(path)
        return None if nullable(schema) else MISFIT
    if isinstance(value, dict):
        return _fit_fields(value, schema, report, path)
    if isinstance(value, list):
        items: Schema = schema.get("items", {})
        fitted = (fit(item, items, report, f"{path}[]") for item in value)
        return [item for item in fitted if item is not MISFIT]
    return value


def nullable(schema: Schema) -> bool:
    """Whether a schema allows null."""
    return "null" in schema.get("type", "null")


def _fit_fields(
    value: dict[str, Any], schema: Schema, report: ReportMisfit, path: str
) -> dict[str, Any]:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    further = schema.get("additionalProperties")
    other: Schema = further if isinstance(further, dict) else {}
    fitted = {}
    for key, inner in value.items():
        here = f"{path}.{key}" if path else key
        # A map's keys are the user's data, which must not appear in a log.
        named = here if key in properties or not other else f"{path}.*"
        kept = fit(inner, properties.get(key, other), report, named)
        if kept is not MISFIT:
            fitted[key] = kept
    return fitted


def _allowed(value: Any, schema: Schema) -> bool:
    if not _representable(value):
        return False
    declared = schema.get("type")
    if declared is None:
        return True
    types = {declared} if isinstance(declared, str) else set(declared)
    if not types & _TYPES[type(value)]:
        return False
    return schema.get("format") != "date-time" or is_date_time(value)


def _representable(value: Any) -> bool:
    """Whether every target can store the value: integers of 64 bits, finite numbers."""
    if type(value) is int:
        return value in _INT64
    return type(value) is not float or math.isfinite(value)


def is_date_time(text: Any) -> bool:
    """Whether a value is a time in ISO 8601 that targets can parse."""
    try:
        datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        return False
    return True
