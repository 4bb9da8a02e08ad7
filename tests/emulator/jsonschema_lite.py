"""The part of JSON schema that the tap's schemas use, strict about fields nobody declared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_TYPES: dict[type, set[str]] = {
    bool: {"boolean"},
    dict: {"object"},
    float: {"number"},
    int: {"integer", "number"},
    list: {"array"},
    str: {"string"},
    type(None): {"null"},
}


def problems(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    """What is wrong; a date-time is an integer on the wire."""
    declared = schema.get("type", [])
    allowed = {declared} if isinstance(declared, str) else set(declared)
    if schema.get("format") == "date-time":
        allowed = (allowed - {"string"}) | {"integer"}
    if allowed and not allowed & _TYPES[type(value)]:
        yield f"{path}: {type(value).__name__} is none of {sorted(allowed)}"
    elif isinstance(value, dict):
        yield from _fields(schema, value, path)
    elif isinstance(value, list):
        for entry in value:
            yield from problems(schema.get("items", {}), entry, f"{path}[]")


def _fields(schema: dict[str, Any], value: dict[str, Any], path: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    further = schema.get("additionalProperties", not properties)
    for name, inner in value.items():
        if name in properties:
            yield from problems(properties[name], inner, f"{path}.{name}")
        elif isinstance(further, dict):
            yield from problems(further, inner, f"{path}.*")
        elif not further:
            yield f"{path}.{name}: nobody declared it"
