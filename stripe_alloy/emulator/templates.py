"""Complete objects: all fields of the schema, null where Stripe allows null.

Values inside an object are never changed in place, only replaced, so templates share them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.defaults import DEFAULTS
from stripe_alloy.emulator.schemas import at, included, schema_of, types

_EMPTY: dict[str, Any] = {
    "string": "",
    "integer": 0,
    "number": 0,
    "boolean": False,
    "array": [],
    "object": {},
}
METHOD_HASHES = "payment_method"
SELF_MADE = frozenset({"invoiceitem", "webhook_endpoint"})
"""Objects without a generated schema: `DEFAULTS` has all their fields."""
_NEVER = frozenset({"deleted"})


def build(kind: str, **fields: Any) -> JSON:
    """Return a complete object with these fields, and defaults for all others."""
    return {**template(kind), **fields}


def copied(source: JSON, *names: str) -> JSON:
    """Return the fields that an object takes over from another one."""
    return {name: source[name] for name in names}


def part(kind: str, path: str, **fields: Any) -> JSON:
    """Return a complete hash of an object."""
    return {**_part(kind, path), **fields}


@cache
def _part(kind: str, path: str) -> JSON:
    return _blank(at(schema_of(kind), path))


@cache
def template(kind: str) -> JSON:
    """Return an object with defaults only."""
    defaults = DEFAULTS.get(kind, {})
    if kind not in SELF_MADE:
        blank = _blank(schema_of(kind), absent=included(kind) | _hashes(kind))
    else:
        blank = {}
    known = {**blank, **defaults}
    head = {"id": "", "object": kind}
    return {**head, **{k: known[k] for k in sorted(known) if k not in head}}


@cache
def _hashes(kind: str) -> frozenset[str]:
    """Return the hashes of payment method types, of which an object has only its own."""
    if kind != METHOD_HASHES:
        return frozenset()
    fields = schema_of(kind)["properties"].items()
    nullable = {name for name, field in fields if types(field) == {"object", "null"}}
    return frozenset(nullable - {"metadata", "radar_options"})


def _blank(schema: JSON, absent: frozenset[str] = frozenset()) -> JSON:
    fields = schema.get("properties", {})
    gone = absent | _NEVER
    return {name: _default(field) for name, field in fields.items() if name not in gone}


def _default(schema: JSON) -> Any:
    kinds = types(schema)
    if "null" in kinds:
        return None
    kind = next(iter(kinds))
    if schema.get("format") == "date-time":
        return 0
    return _blank(schema) if kind == "object" else _EMPTY[kind]


def fields_of(kind: str) -> frozenset[str]:
    """Return the names of an object's fields."""
    if kind in SELF_MADE:
        return frozenset(template(kind))
    return frozenset(schema_of(kind)["properties"])
