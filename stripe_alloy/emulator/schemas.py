"""The tap's JSON schemas, as the emulator reads them: which fields an object has, which expand."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from stripe_alloy.emulator.resources import RESOURCES

JSON = dict[str, Any]

_PACKAGE = "tap_stripe_alloy"
_INSIDE = {  # objects that have no file of their own: where they are described
    "plan": ("subscription_items", "plan"),
    "invoice_payment": ("invoices", "payments.data"),
}


@cache
def load(name: str) -> JSON:
    """A file beside the streams' schemas."""
    text = files(_PACKAGE).joinpath(f"schemas/{name}.json").read_bytes()
    loaded: JSON = msgspec.json.decode(text)
    return loaded


def pinned_version() -> str:
    """The API version that the schemas describe."""
    return str(load("_version")["api_version"])


@cache
def schema_of(kind: str) -> JSON:
    """The JSON schema of a kind of object."""
    if kind in RESOURCES and RESOURCES[kind].stream:
        return load(RESOURCES[kind].stream)
    if kind in _INSIDE:
        stream, path = _INSIDE[kind]
        return at(load(stream), path)
    return load(f"objects/{kind}")


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
    maps: dict[str, dict[str, JSON]] = load("_expandable")
    if kind in RESOURCES and RESOURCES[kind].stream:
        return maps[RESOURCES[kind].stream]
    if kind not in _INSIDE:
        inside: dict[str, JSON] = load("_expandable_objects").get(kind, {})
        return inside
    stream, path = _INSIDE[kind]
    below = path + "."
    entries = maps[stream].items()
    return {p.removeprefix(below): e for p, e in entries if p.startswith(below)}


def included(kind: str) -> frozenset[str]:
    """Paths of fields that are there only when expanded."""
    return frozenset(p for p, entry in expandable(kind).items() if entry["kind"] == "include")
