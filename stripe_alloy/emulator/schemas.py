"""The generated schemas, as the emulator reads them: which fields an object has, which expand."""

from __future__ import annotations

from functools import cache

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.schemas import generated
from stripe_alloy.emulator.resources import RESOURCES

_INSIDE = {  # objects that have no file of their own: where they are described
    "plan": ("subscription_items", "plan"),
    "invoice_payment": ("invoices", "payments.data"),
}


@cache
def schema_of(kind: str) -> JSON:
    """The JSON schema of a kind of object."""
    if kind in _INSIDE:
        stream, path = _INSIDE[kind]
        return at(generated(stream), path)
    stream = RESOURCES[kind].stream if kind in RESOURCES else ""
    found: JSON = generated(stream or f"objects/{kind}")
    return found


def at(schema: JSON, path: str) -> JSON:
    """The schema of a field inside an object; lists are stepped into."""
    node = schema
    for part in path.split("."):
        node = node["properties"][part]
        node = node.get("items", node)
    return node


def types(schema: JSON) -> set[str]:
    """The JSON types a value may have."""
    declared = schema.get("type", "object")
    return {declared} if isinstance(declared, str) else set(declared)


@cache
def expandable(kind: str) -> dict[str, JSON]:
    """Paths that `expand` takes, each with its kind and the objects found there."""
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
    """Paths of fields that are there only when expanded."""
    return frozenset(p for p, entry in expandable(kind).items() if entry["kind"] == "include")
