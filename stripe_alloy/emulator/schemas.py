"""The generated schemas for the emulator: fields of objects, and paths to expand."""

from __future__ import annotations

from functools import cache

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.schemas import generated
from stripe_alloy.emulator.emulated_types import RESOURCES

_INSIDE = {  # objects without a file: stream and path of their schema
    "invoice_payment": ("invoices", "payments.data"),
}


@cache
def schema_of(kind: str) -> JSON:
    """Return the JSON schema of an object type."""
    if kind in _INSIDE:
        stream, path = _INSIDE[kind]
        return at(generated(stream), path)
    stream = RESOURCES[kind].stream if kind in RESOURCES else ""
    found: JSON = generated(stream or f"objects/{kind}")
    return found


def at(schema: JSON, path: str) -> JSON:
    """Return the schema of a nested field; a list leads to its items."""
    node = schema
    for part in path.split("."):
        node = node["properties"][part]
        node = node.get("items", node)
    return node


def types(schema: JSON) -> set[str]:
    """Return the JSON types of a value."""
    declared = schema.get("type", "object")
    return {declared} if isinstance(declared, str) else set(declared)


@cache
def expandable(kind: str) -> dict[str, JSON]:
    """Return the paths of `expand` with their kind and object types."""
    maps: dict[str, dict[str, JSON]] = generated("_expandable")
    if kind in RESOURCES and RESOURCES[kind].stream:
        return maps[RESOURCES[kind].stream]
    if kind not in _INSIDE:
        inside: dict[str, JSON] = generated("_expandable_objects").get(kind, {})
        return inside
    stream, path = _INSIDE[kind]
    below = path + "."
    entries = maps[stream].items()
    return {p.removeprefix(below): e for p, e in entries if p.startswith(below)}


def included(kind: str) -> frozenset[str]:
    """Return the paths of fields that are only sent when expanded."""
    return frozenset(p for p, entry in expandable(kind).items() if entry["kind"] == "include")
